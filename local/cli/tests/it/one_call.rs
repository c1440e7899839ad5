//! Calls a real function in a new process.

use std::fs;

use emulator::lambda::InvokeError;
use ledger::Ledger;
use local_stores::scratch::Scratch;
use serde_json::{Value, json};

use crate::{LIMIT, TestFunctions};

/// Environment variables of all functions; each function reads a part of them.
const VARIABLES: [&str; 22] = [
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
    "ABSENCE_CACHE_CONTROL",
    "VOTES_PER_TOKEN",
    "GATEWAY_ADDRESS",
];

/// A call of a function.
#[derive(Clone, Copy)]
pub enum Call<'a> {
    /// A batch with one vote in poll 1.
    Vote,
    /// An HTTP request: route and body; `{id}` is poll 1.
    Http(&'a str, &'a str),
}

/// Invokes a new process of the function once and returns its answer and log.
pub async fn invoke(scratch: &Scratch, binary: &str, call: Call<'_>) -> (Result<Value, InvokeError>, String) {
    let function = Function::on(scratch, binary);
    let answer = function.invoke(call).await;
    (answer, function.end().await)
}

/// A real function with one instance for consecutive calls.
pub struct Function(TestFunctions);

impl Function {
    /// Returns a function on these stores; it starts with the first call.
    pub fn on(scratch: &Scratch, binary: &str) -> Self {
        Self::logging(scratch, binary, "INFO")
    }

    /// Returns the same with a log level.
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
        Self(TestFunctions::new(&format!("  Function: {function}")))
    }

    /// Invokes the function and returns its answer.
    pub async fn invoke(&self, call: Call<'_>) -> Result<Value, InvokeError> {
        let answer = self.0.functions.invoke("Function", call.event().to_string().into()).await;
        answer.map(|body| serde_json::from_slice(&body).unwrap())
    }

    /// Returns the number of processes started so far.
    pub fn cold_starts(&self) -> u64 {
        self.0.functions.counts()[0].cold_starts
    }

    /// Stops the process and returns its log.
    pub async fn end(self) -> String {
        self.0.functions.shut_down().await;
        let files = fs::read_dir(self.0.folder.path()).unwrap();
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }
}

/// Creates poll 1, which was open in June 2025.
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
