use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, mpsc},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::Value;

use super::*;

/// A fake S3 that answers one request with each of the statuses, in order.
struct S3 {
    port: u16,
    requests: mpsc::Receiver<String>,
}

impl S3 {
    fn plain(statuses: &'static [u16]) -> Self {
        Self::start(statuses, None)
    }

    fn start(statuses: &'static [u16], tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, requests) = mpsc::channel();
        thread::spawn(move || {
            for status in statuses {
                let (client, _) = listener.accept().unwrap();
                let received = match &tls {
                    Some(tls) => {
                        let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
                        serve(StreamOwned::new(connection, client), *status)
                    }
                    None => serve(client, *status),
                };
                // A client that does not trust the certificate hangs up before it sends anything.
                if let Ok(request) = received {
                    sender.send(request).unwrap();
                }
            }
        });
        Self { port, requests }
    }

    fn request(&self, scheme: &str, host: &str) -> Request {
        let url = format!("{scheme}://{host}:{}/answer?X-Amz-Signature=secret", self.port);
        let event = json!({
            "RequestType": "Create", "ResponseURL": url, "StackId": "the stack", "RequestId": "the request",
            "LogicalResourceId": "Schema",
        });
        serde_json::from_value(event).unwrap()
    }
}

/// Reads one request and answers it.
fn serve(client: impl Read + Write, status: u16) -> std::io::Result<String> {
    let mut client = BufReader::new(client);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        if client.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = &head[start..];
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body)?;
    let client = client.get_mut();
    write!(client, "HTTP/1.1 {status} so\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    client.flush()?;
    Ok(head + &String::from_utf8(body).unwrap())
}

fn body_of(request: &str) -> Value {
    serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// Answers over plain HTTP, where the authorities do not matter.
fn answers() -> Answers {
    Answers::new(&Authorities::amazon()).unwrap()
}

#[tokio::test]
async fn an_answer_is_put_as_cloudformation_takes_it() {
    let s3 = S3::plain(&[200]);
    answers().send(&s3.request("http", "127.0.0.1"), &Outcome::Success(Some(3))).await.unwrap();
    let request = s3.requests.recv().unwrap();
    assert!(request.starts_with("PUT /answer?X-Amz-Signature=secret HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\ncontent-type: \r\n"), "{request}");
    let expected = json!({
        "Status": "SUCCESS", "Reason": "", "PhysicalResourceId": "schema", "StackId": "the stack",
        "RequestId": "the request", "LogicalResourceId": "Schema", "Data": {"Version": 3},
    });
    assert_eq!(body_of(&request), expected);
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_given_again_and_then_given_up() {
    let s3 = S3::plain(&[503, 200]);
    answers().send(&s3.request("http", "127.0.0.1"), &Outcome::Success(None)).await.unwrap();
    assert_eq!(s3.requests.iter().count(), 2);

    let s3 = S3::plain(&[403, 403, 403]);
    let error = answers().send(&s3.request("http", "127.0.0.1"), &Outcome::Success(None)).await.unwrap_err();
    assert_eq!(error.to_string(), "the ResponseURL answered 403 Forbidden");
}

#[test]
fn a_long_reason_is_cut_between_characters_and_fits() {
    let s3 = S3::plain(&[]);
    let request = s3.request("https", "cloudformation-custom-resource-response-useast1.s3.amazonaws.com");
    let body = body(&request, &Outcome::Failed("ação ".repeat(1_000)));
    assert!(body.len() <= 4_096, "{}", body.len());
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["Status"], "FAILED");
    assert!(body["Reason"].as_str().unwrap().starts_with("ação ação "));
}

#[tokio::test]
async fn over_https_only_the_right_server_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let file = folder.path().join("authority.pem");
    std::fs::write(&file, parameters.self_signed(&authority_key).unwrap().pem()).unwrap();
    let authority = Issuer::new(parameters, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let trusting = Answers::new(&Authorities::from_file(&file).unwrap()).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let tls = Arc::new(config);

    let s3 = S3::start(&[200], Some(Arc::clone(&tls)));
    trusting.send(&s3.request("https", "localhost"), &Outcome::Success(None)).await.unwrap();
    assert_eq!(body_of(&s3.requests.recv().unwrap())["Status"], "SUCCESS");

    for (answers, host) in [(&trusting, "127.0.0.1"), (&answers(), "localhost")] {
        let s3 = S3::start(&[200, 200, 200], Some(Arc::clone(&tls)));
        let error = answers.send(&s3.request("https", host), &Outcome::Success(None)).await.unwrap_err();
        assert_eq!(error.to_string(), "the ResponseURL was not reached");
        assert_eq!(s3.requests.iter().count(), 0, "nothing is said to {host}");
    }
}

#[test]
fn a_panic_is_answered() {
    let s3 = S3::plain(&[200]);
    answer_panics();
    let pending = guard(&answers(), &s3.request("http", "127.0.0.1"));
    let work = thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { panic!("on purpose") });
    });
    assert!(work.join().is_err());
    let answer = body_of(&s3.requests.recv().unwrap());
    assert_eq!((&answer["Status"], &answer["RequestId"]), (&"FAILED".into(), &"the request".into()));
    assert!(!answer["Reason"].as_str().unwrap().contains("on purpose"), "a panic may say anything");
    drop(pending);
}
