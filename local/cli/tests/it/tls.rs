//! The real votes function on real stores with TLS and a private certificate authority.

use std::{
    fs,
    io::{Read, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    time::Duration,
};

use axum::body::Bytes;
use domain::Poll;
use emulator::lambda::InvokeError;
use ledger::{IamSigner, Ledger, Schema};
use local_stores::{FUNCTIONS_ROLE, Identity, Stores, scratch::Scratch};
use ranking::RankingStore;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use runtime::Clock;
use runtime::tls::Authorities;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};

use crate::{LIMIT, TestFunctions};

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Path of the authority's certificate.
    file: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let file = folder.join(format!("{name}.pem"));
        fs::write(&file, parameters.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(parameters, key), file }
    }

    /// Issues a certificate for the name `localhost` only.
    fn identity(&self, folder: &Path, name: &str, change: impl Fn(&mut CertificateParams)) -> Identity {
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let identity = Identity {
            certificate: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
        };
        fs::write(&identity.certificate, parameters.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }
}

/// A function's stores and trusted authority.
#[derive(Clone)]
struct Addresses {
    database_url: String,
    redis_url: String,
    ca_file: PathBuf,
    database_auth: &'static str,
}

impl Addresses {
    fn new(stores: &Stores, authority: &Authority) -> Self {
        Self {
            database_url: stores.functions_url.clone(),
            redis_url: stores.redis_url.clone(),
            ca_file: authority.file.clone(),
            database_auth: "password",
        }
    }

    /// Returns the votes function, configured as by the template.
    fn function(&self) -> TestFunctions {
        let variables = json!({
            "DATABASE_URL": self.database_url, "DATABASE_AUTH": self.database_auth, "DATABASE_TIMEOUT_MS": "5000",
            "REDIS_URL": self.redis_url, "REDIS_TIMEOUT_MS": "5000",
            "AWS_SESSION_TOKEN": "session", "TLS_CA_FILE": self.ca_file, "RANKING_TTL_SECONDS": "600", "POLL_CACHE_SECONDS": "3",
            "RELOAD_LEASE_MS": "15000", "BATCH_TIMEOUT_MS": "20000", "METRICS_NAMESPACE": "Votes/tls",
            "VOTER_HASH_KEY": "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        });
        let function = json!({
            "Type": "AWS::Serverless::Function",
            "Metadata": {"BuildProperties": {"Binary": "votes"}},
            "Properties": {
                "Timeout": 20,
                "LoggingConfig": {"LogFormat": "JSON", "ApplicationLogLevel": "INFO"},
                "Environment": {"Variables": variables},
            },
        });
        TestFunctions::new(&format!("  VotesFunction: {function}"))
    }

    /// Counts one vote and returns the function's answer and log.
    async fn count(&self, contestant: u32) -> (Result<Bytes, InvokeError>, String) {
        let host = self.function();
        let event = json!({"Records": [{
            "messageId": uuid::Uuid::from_u128(contestant.into()), "receiptHandle": "r",
            "body": json!({"poll": 1, "contestant": contestant}).to_string(),
            "attributes": {"SentTimestamp": "1750000000000", "ApproximateReceiveCount": "1", "MessageGroupId": "alice"},
            "eventSource": "aws:sqs", "awsRegion": "us-east-1",
        }]});
        let answer = host.functions.invoke("VotesFunction", event.to_string().into()).await;
        host.functions.shut_down().await;
        let files = fs::read_dir(host.folder.path()).unwrap();
        let log = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        (answer, log)
    }

    /// Checks that the function refuses the ledger's server and logs the reason.
    async fn assert_ledger_refused(&self, reason: &str) {
        let (answer, log) = self.count(1).await;
        assert!(
            matches!(&answer, Err(InvokeError::Unhandled(error)) if error.contains("batch not counted")),
            "{answer:?}"
        );
        assert_logged(&log, "batch.failed", reason);
    }

    /// Checks that the function counts without Redis and logs the reason.
    async fn assert_redis_refused(&self, reason: &str) {
        let (answer, log) = self.count(1).await;
        assert_eq!(failures(&answer.unwrap()), json!([]));
        assert_logged(&log, "ranking.unavailable", reason);
    }
}

fn failures(answer: &Bytes) -> Value {
    serde_json::from_slice::<Value>(answer).unwrap()["batchItemFailures"].clone()
}

fn assert_logged(log: &str, message: &str, reason: &str) {
    let line =
        log.lines().find(|line| line.contains(message)).unwrap_or_else(|| panic!("no {message}: {log}"));
    assert!(line.contains(reason), "{reason:?} in {line}");
    assert!(!log.contains("postgres://") && !log.contains("redis"), "no address is logged: {log}");
}

/// Creates a ledger with one poll, which was open in June 2025.
async fn prepare(stores: &Stores, addresses: &Addresses) -> (Ledger, Poll) {
    let authorities = Authorities::from_file(&addresses.ca_file).unwrap();
    let schema = Schema::new(&stores.database_url).unwrap().trusting(&authorities);
    schema.migrate().await.unwrap();
    schema.grant(&FUNCTIONS_ROLE.parse().unwrap()).await.unwrap();
    let ledger = Ledger::new(&addresses.database_url, LIMIT).unwrap().trusting(&authorities);
    let draft = json!({
        "title": "Who stays?", "opensAt": "2025-06-01T00:00:00Z", "closesAt": "2025-07-01T00:00:00Z",
        "contestants": [{"name": "Ana"}, {"name": "Bia"}],
    });
    let poll = ledger.create_poll(&serde_json::from_value(draft).unwrap(), "crew").await.unwrap().poll;
    (ledger, poll)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_counts_over_tls_and_no_other_server_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let stranger = Authority::new(folder.path(), "stranger");
    let good = authority.identity(folder.path(), "good", |_| {});
    let stores = Stores::start_with_tls(folder.path(), &good).await.unwrap();
    let addresses = Addresses::new(&stores, &authority);
    let (ledger, poll) = prepare(&stores, &addresses).await;

    let (answer, log) = addresses.count(1).await;
    assert_eq!(failures(&answer.unwrap()), json!([]), "{log}");
    assert_eq!(ledger.audit(poll.id, LIMIT).await.unwrap().ledger.values().sum::<u64>(), 1);
    let authorities = Authorities::from_file(&authority.file).unwrap();
    let ranking =
        RankingStore::trusting(&authorities, &addresses.redis_url, ledger.address(), LIMIT, 600).unwrap();
    assert_eq!(ranking.tally(&poll).await.unwrap().unwrap().values().sum::<u64>(), 1);

    // One store is checked at a time; the other is a plain one without TLS.
    let scratch = Scratch::new().await.unwrap();
    let ledger_only = Addresses { redis_url: scratch.redis_url.clone(), ..addresses.clone() };
    let redis_only = Addresses { database_url: with_poll(&scratch).await, ..addresses.clone() };

    let by_address = |url: &str| url.replace("localhost", "127.0.0.1");
    let other_name = r#"certificate not valid for name \"127.0.0.1\""#;
    let elsewhere = Addresses { database_url: by_address(&addresses.database_url), ..ledger_only.clone() };
    elsewhere.assert_ledger_refused(other_name).await;
    let elsewhere = Addresses { redis_url: by_address(&addresses.redis_url), ..redis_only.clone() };
    elsewhere.assert_redis_refused(other_name).await;

    let trusting = |ca_file: &Path, addresses: &Addresses| Addresses {
        ca_file: ca_file.to_owned(),
        ..addresses.clone()
    };
    for ca_file in [&*stranger.file, Path::new("")] {
        trusting(ca_file, &ledger_only).assert_ledger_refused("UnknownIssuer").await;
        trusting(ca_file, &redis_only).assert_redis_refused("UnknownIssuer").await;
    }
    stores.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let expired = authority.identity(folder.path(), "expired", |parameters| {
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(2020, 12, 31);
    });
    let stores = Stores::start_with_tls(folder.path(), &expired).await.unwrap();
    let scratch = Scratch::new().await.unwrap();
    let addresses = Addresses::new(&stores, &authority);
    let ledger_only = Addresses { redis_url: scratch.redis_url.clone(), ..addresses.clone() };
    ledger_only.assert_ledger_refused("certificate expired").await;
    let redis_only = Addresses { database_url: with_poll(&scratch).await, ..addresses };
    redis_only.assert_redis_refused("certificate expired").await;
    stores.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let scratch = Scratch::new().await.unwrap();
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let database_url = format!("postgres://votes@{}/votes?sslmode=verify-full", plain.local_addr().unwrap());
    std::thread::spawn(move || {
        // PostgreSQL without TLS answers a request for it with N.
        for mut client in plain.incoming().map_while(Result::ok) {
            let mut request = [0; 8];
            client.read_exact(&mut request).unwrap();
            client.write_all(b"N").unwrap();
            assert_eq!(client.read(&mut request).unwrap(), 0, "nothing is sent without TLS");
        }
    });
    let addresses = Addresses {
        database_url,
        redis_url: scratch.redis_url.clone(),
        ca_file: authority.file.clone(),
        database_auth: "password",
    };
    addresses.assert_ledger_refused("server does not support TLS").await;
    let redis_url = scratch.redis_url.replace("redis://", "rediss://");
    let addresses = Addresses { database_url: with_poll(&scratch).await, redis_url, ..addresses };
    // A Redis without TLS takes the client hello for an incomplete command and waits. The timeout of the connection and
    // that of the call are equal, so either may come first.
    let (answer, log) = addresses.count(1).await;
    assert_eq!(failures(&answer.unwrap()), json!([]));
    assert!(["timed out", "did not answer within"].iter().any(|silence| log.contains(silence)), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_iam_the_password_is_a_token_and_goes_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let identity = authority.identity(folder.path(), "good", |_| {});
    let (port, passwords) = password_server(&identity);
    let scratch = Scratch::new().await.unwrap();
    let addresses = Addresses {
        database_url: format!("postgres://votes@localhost:{port}/votes?sslmode=verify-full"),
        redis_url: scratch.redis_url.clone(),
        ca_file: authority.file.clone(),
        database_auth: "iam",
    };
    let (answer, log) = addresses.count(1).await;
    assert!(answer.is_err());
    assert_logged(&log, "batch.failed", "no token is good enough");
    let password = passwords.recv().unwrap();
    assert!(!log.contains("X-Amz"), "no token is logged: {log}");
    // The emulator's credentials of functions.
    let role = |name: &str| name.to_owned();
    let now = Clock::system().now();
    let was_signed_at = |seconds: u64| {
        let clock = Clock::from_fn(move || now.saturating_sub(Duration::from_secs(seconds)));
        let signer =
            IamSigner::new(role("local"), role("local"), Some(role("session")), role("us-east-1"), clock);
        signer.token("localhost", port, "votes").unwrap() == password
    };
    assert!((0..60).any(was_signed_at), "{password}");
}

/// Starts a server that requests a password over TLS, passes it to the test and rejects it.
fn password_server(identity: &Identity) -> (u16, Receiver<String>) {
    let chain = CertificateDer::pem_file_iter(&identity.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
    // Creating authorities installs the crypto provider.
    Authorities::amazon();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = [0; 8];
        client.read_exact(&mut request).unwrap();
        client.write_all(b"S").unwrap();
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut client = StreamOwned::new(connection, client);
        message(&mut client);
        client.write_all(b"R\0\0\0\x08\0\0\0\x03").unwrap();
        let mut kind = [0];
        client.read_exact(&mut kind).unwrap();
        let password = message(&mut client);
        sender.send(String::from_utf8(password).unwrap().trim_end_matches('\0').to_owned()).unwrap();
        let refusal = b"SFATAL\0VFATAL\0C28P01\0Mno token is good enough\0\0";
        client.write_all(b"E").unwrap();
        client.write_all(&(u32::try_from(refusal.len()).unwrap() + 4).to_be_bytes()).unwrap();
        client.write_all(refusal).unwrap();
        client.flush().unwrap();
    });
    (port, receiver)
}

/// Reads the length and body of a message of PostgreSQL's protocol.
fn message(client: &mut impl Read) -> Vec<u8> {
    let mut length = [0; 4];
    client.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    client.read_exact(&mut body).unwrap();
    body
}

/// Creates a poll in the scratch database and returns the database's URL.
async fn with_poll(scratch: &Scratch) -> String {
    let draft = json!({
        "title": "Who stays?", "opensAt": "2025-06-01T00:00:00Z", "closesAt": "2025-07-01T00:00:00Z",
        "contestants": [{"name": "Ana"}, {"name": "Bia"}],
    });
    let ledger = Ledger::new(&scratch.database_url, LIMIT).unwrap();
    ledger.create_poll(&serde_json::from_value(draft).unwrap(), "crew").await.unwrap();
    scratch.database_url.clone()
}
