//! Measures cold starts: a new process of `votes` counts one vote, one of `polls` lists the polls, each with and
//! without TLS to both stores. Uses Lambda's artifacts, real stores and a private certificate authority.
//!
//! ```sh
//! make artifacts && cargo run -p bench --example cold_start -- --artifacts target/sam
//! ```
//!
//! A function of 256 MB has a seventh of a core, so its CPU time takes seven times as long.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use emulator::{
    cloudwatch::CloudWatch,
    lambda::Functions,
    template::{Context, Template},
};
use ledger::{Ledger, Schema};
use local_stores::{FUNCTIONS_ROLE, Given, Identity, Stores};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use runtime::tls::Authorities;
use serde_json::{Value, json};
use uuid::Uuid;

const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Parser)]
struct Arguments {
    /// Folder of the built functions
    #[arg(long, default_value = "target/sam")]
    artifacts: PathBuf,
    /// Cold starts of each kind; the table has their median
    #[arg(long, default_value_t = 21)]
    starts: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir()?;
    println!("{:10} {:5} {:>18} {:>18}", "function", "TLS", "first answer (ms)", "computing (ms)");
    for tls in [false, true] {
        let data = folder.path().join(if tls { "tls" } else { "plain" });
        fs::create_dir(&data)?;
        let identity = identity(&data)?;
        let stores = if tls {
            Stores::start_with_tls(&data, &identity).await?
        } else {
            Stores::start(&data, &Given::default(), false).await?
        };
        let measured = measure(&arguments, &data, &stores, tls).await;
        stores.stop().await;
        measured?;
    }
    Ok(())
}

async fn measure(arguments: &Arguments, folder: &Path, stores: &Stores, tls: bool) -> Result<()> {
    prepare(folder, stores).await?;
    for (id, binary) in [("VotesFunction", "votes"), ("PollsFunction", "polls")] {
        let logs = Arc::new(CloudWatch::new(folder.join(binary))?);
        let template = template(id, binary, folder, stores)?;
        let functions = Functions::from_template(&template, arguments.artifacts.clone(), logs)?;
        let (mut answers_ms, mut cpu_ms) = (Vec::new(), Vec::new());
        for _ in 0..arguments.starts {
            functions.force_cold_start(id);
            let event = if binary == "votes" { batch() } else { request() };
            let started = Instant::now();
            let answer = functions.invoke(id, event.to_string().into()).await?;
            answers_ms.push(started.elapsed().as_secs_f64() * 1_000.0);
            let answer: Value = serde_json::from_slice(&answer)?;
            let is_success = answer["batchItemFailures"] == json!([]) || answer["statusCode"] == 200;
            ensure!(is_success, "{answer}");
            cpu_ms.push(cpu_time_ms(&functions)?);
            functions.end_idle(id);
        }
        functions.shut_down().await;
        let (answer, computing) = (median(answers_ms), median(cpu_ms));
        println!("{binary:10} {:5} {answer:18.1} {computing:18.1}", if tls { "on" } else { "off" });
    }
    Ok(())
}

/// Creates a ledger with a poll that was open in June 2025.
async fn prepare(folder: &Path, stores: &Stores) -> Result<()> {
    let authorities = Authorities::from_file(&folder.join("authority.pem"))?;
    let schema = Schema::new(&stores.database_url)?.trusting(&authorities);
    schema.migrate().await?;
    schema.grant(&FUNCTIONS_ROLE.parse()?).await?;
    let draft = json!({
        "title": "Who stays?", "opensAt": "2025-06-01T00:00:00Z", "closesAt": "2025-07-01T00:00:00Z",
        "contestants": [{"name": "Ana"}, {"name": "Bia"}],
    });
    let ledger = Ledger::new(&stores.functions_url, TIMEOUT)?.trusting(&authorities);
    ledger.create_poll(&serde_json::from_value(draft)?, "crew").await?;
    Ok(())
}

fn template(id: &str, binary: &str, folder: &Path, stores: &Stores) -> Result<Template> {
    let function = json!({
        "Type": "AWS::Serverless::Function",
        "Metadata": {"BuildProperties": {"Binary": binary}},
        "Properties": {
            "Timeout": 20, "MemorySize": 256, "LoggingConfig": {"LogFormat": "JSON", "ApplicationLogLevel": "INFO"},
            "Environment": {"Variables": {
                "DATABASE_URL": stores.functions_url, "DATABASE_AUTH": "password", "DATABASE_TIMEOUT_MS": "5000",
                "REDIS_URL": stores.redis_url, "REDIS_TIMEOUT_MS": "500", "TLS_CA_FILE": folder.join("authority.pem"),
                "RANKING_TTL_SECONDS": "600", "POLL_CACHE_SECONDS": "3", "RELOAD_LEASE_MS": "6500",
                "BATCH_TIMEOUT_MS": "12000", "METRICS_NAMESPACE": "Votes/cold", "PUBLIC_CACHE_CONTROL": "no-store",
                "ABSENCE_CACHE_CONTROL": "no-store",
                "VOTER_HASH_KEY": "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
            }},
        },
    });
    Template::parse(&format!("Resources:\n  {id}: {function}"), "template.yaml", &Context::default())
}

fn batch() -> Value {
    json!({"Records": [{
        "messageId": Uuid::new_v4(), "receiptHandle": "r",
        "body": json!({"poll": 1, "contestant": 1}).to_string(),
        "attributes": {"SentTimestamp": "1750000000000", "ApproximateReceiveCount": "1", "MessageGroupId": "alice"},
        "eventSource": "aws:sqs", "awsRegion": "us-east-1",
    }]})
}

fn request() -> Value {
    let http =
        json!({"method": "GET", "path": "/polls", "protocol": "HTTP/1.1", "sourceIp": "", "userAgent": ""});
    json!({
        "version": "2.0", "routeKey": "GET /polls", "rawPath": "/polls", "rawQueryString": "", "headers": {},
        "isBase64Encoded": false,
        "requestContext": {"http": http, "routeKey": "GET /polls", "stage": "$default", "timeEpoch": 0},
    })
}

/// Returns the CPU time of the only running process, from `/proc` (Linux).
fn cpu_time_ms(functions: &Functions) -> Result<f64> {
    let pid = *functions.counts()[0].pids.first().context("no process runs")?;
    let mut nanoseconds = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let schedule = fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += schedule.split(' ').next().context("schedstat")?.parse::<f64>()?;
    }
    Ok(nanoseconds / 1_000_000.0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Writes a certificate for `localhost` and that of its authority.
fn identity(folder: &Path) -> Result<Identity> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    fs::write(folder.join("authority.pem"), parameters.self_signed(&key)?.pem())?;
    let authority = Issuer::new(parameters, key);
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &authority)?;
    let identity = Identity { certificate: folder.join("server.crt"), key: folder.join("server.key") };
    fs::write(&identity.certificate, certificate.pem())?;
    fs::write(&identity.key, key.serialize_pem())?;
    Ok(identity)
}
