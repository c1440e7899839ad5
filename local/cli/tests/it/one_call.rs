//! A real function, started anew to be called once.

use std::fs;

use emulator::lambda::InvokeError;
use ledger::Ledger;
use local_stores::scratch::Scratch;
use serde_json::{Value, json};

use crate::{Alone, LIMIT};

/// What the template gives the functions, of which each takes its own.
const VARIABLES: [&str; 19] = [
    "DATABASE_URL",
    "DATABASE_AUTH",
    "DATABASE_TIMEOUT_MS",
    "REDIS_URL",
    "REDIS_TIMEOUT_MS",
    "RANKING_TTL_SECONDS",
    "POLL_CACHE_SECONDS",
    "CERTIFY_SIGN_SECONDS",
    "PROBE_LATE_SECONDS",
    "RELOAD_LEASE_MS",
    "VOTER_HASH_KEY",
    "BATCH_TIMEOUT_MS",
    "AUDIT_TIMEOUT_MS",
    "EXPORTS_BUCKET",
    "EXPORT_LINK_SECONDS",
    "CALL_TIMEOUT_MS",
    "WAKE_QUEUE_URL",
    "METRICS_NAMESPACE",
    "PUBLIC_CACHE_CONTROL",
];

/// What a function is asked.
#[derive(Clone, Copy)]
pub enum Call<'a> {
    /// To count a vote in poll 1.
    Vote,
    /// A route, with the body given; `{id}` is poll 1.
    Http(&'a str, &'a str),
}

/// The function's answer, and all that it logged.
pub async fn ask(scratch: &Scratch, binary: &str, call: Call<'_>) -> (Result<Value, InvokeError>, String) {
    let function = Function::on(scratch, binary);
    let answer = function.ask(call).await;
    (answer, function.end().await)
}

/// A real function, whose instance serves one call after another.
pub struct Function(Alone);

impl Function {
    /// One on these stores, that has not started yet.
    pub fn on(scratch: &Scratch, binary: &str) -> Self {
        Self::logging(scratch, binary, "INFO")
    }

    /// The same, logging what has at least this level.
    pub fn logging(scratch: &Scratch, binary: &str, level: &str) -> Self {
        let mut variables: Value =
            VARIABLES.iter().map(|name| ((*name).to_owned(), json!(scratch.environment(name)))).collect();
        variables["RUST_LOG"] = json!(level);
        let function = json!({
            "Type": "AWS::Serverless::Function",
            "Metadata": {"BuildProperties": {"Binary": binary}},
            "Properties": {
                "Timeout": 20,
                "LoggingConfig": {"LogFormat": "JSON", "ApplicationLogLevel": "INFO"},
                "Environment": {"Variables": variables},
            },
        });
        Self(Alone::new(&format!("  Function: {function}")))
    }

    /// Its answer.
    pub async fn ask(&self, call: Call<'_>) -> Result<Value, InvokeError> {
        let answer = self.0.functions.invoke("Function", call.event().to_string().into()).await;
        answer.map(|body| serde_json::from_slice(&body).unwrap())
    }

    /// Processes started so far.
    pub fn cold_starts(&self) -> u64 {
        self.0.functions.counts()[0].cold_starts
    }

    /// Ends it; all that it logged.
    pub async fn end(self) -> String {
        self.0.functions.shut_down().await;
        let files = fs::read_dir(self.0.folder.path()).unwrap();
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }
}

/// Makes poll 1, which was open in June 2025.
pub async fn with_a_poll(scratch: &Scratch) {
    let draft = json!({
        "title": "Who stays?", "opensAt": "2025-06-01T00:00:00Z", "closesAt": "2025-07-01T00:00:00Z",
        "contestants": [{"name": "Ana"}, {"name": "Bia"}],
    });
    let ledger = Ledger::new(&scratch.database_url, LIMIT).unwrap();
    ledger.create_poll(&serde_json::from_value(draft).unwrap(), "crew").await.unwrap();
}

impl Call<'_> {
    fn event(self) -> Value {
        match self {
            Self::Vote => json!({"Records": [{
                "messageId": uuid::Uuid::new_v4(), "receiptHandle": "r",
                "body": json!({"poll": 1, "contestant": 1}).to_string(),
                "attributes": {"SentTimestamp": "1750000000000", "ApproximateReceiveCount": "1", "MessageGroupId": "alice"},
                "eventSource": "aws:sqs", "awsRegion": "us-east-1",
            }]}),
            Self::Http(route, body) => {
                let (method, path) = route.split_once(' ').unwrap();
                let path = path.replace("{id}", "1");
                let http = json!({
                    "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "", "userAgent": "",
                });
                json!({
                    "version": "2.0", "routeKey": route, "rawPath": path, "rawQueryString": "",
                    "headers": {"content-type": "application/json"}, "pathParameters": {"id": "1"},
                    "body": body, "isBase64Encoded": false,
                    "requestContext": {"http": http, "routeKey": route, "stage": "$default", "timeEpoch": 0},
                })
            }
        }
    }
}
