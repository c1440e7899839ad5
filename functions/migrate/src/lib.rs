//! A custom resource of CloudFormation: the ledger's schema, brought up to the release at every deployment, before
//! the functions that need it.
//!
//! Invariants: CloudFormation is answered in every case, since a deployment waits for as long as it is not; whatever
//! it asks for may be asked again, and twice at once; nothing that is deleted or rolled back takes data away.

mod answer;
mod request;

use std::time::Duration;

use domain::Timestamp;
use lambda_runtime::{Error, LambdaEvent};
use ledger::{Role, Schema, SchemaError};
use runtime::{
    Clock,
    environment::{self, Reader},
    telemetry::error_chain,
    tls::Authorities,
};
use serde_json::Value;
use tokio::time::timeout;
use tracing::{error, info};

pub use answer::{Answers, Undelivered, answer_panics};
pub use request::Request;

use answer::Outcome;
use request::Kind;

/// What is left of the function's time when the work is given up, to say so: three tries to answer.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// The handler, with what outlives an invocation.
#[derive(Debug)]
pub struct Handler {
    work: Result<Work, environment::Error>,
    answers: Answers,
    clock: Clock,
}

/// What is to be done.
#[derive(Debug)]
struct Work {
    schema: Schema,
    role: Option<Role>,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Environment(String),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("it took longer than {0:?}; what was under way is rolled back")]
    Time(Duration),
    #[error("the request {0} is unknown")]
    Kind(String),
}

impl Handler {
    /// Reads `DATABASE_URL` (of the schema's owner), `DATABASE_AUTH`, `TLS_CA_FILE`, and `APPLICATION_ROLE` (whom the
    /// functions connect as; empty: as the owner, and no role is made).
    ///
    /// A mistake in them is told to CloudFormation: a function that does not start would leave it waiting.
    ///
    /// # Errors
    /// When no HTTPS can be had.
    pub fn new(lookup: impl Fn(&str) -> Option<String>, clock: Clock) -> Result<Self, runtime::tls::Error> {
        let mut reader = Reader::new(&lookup);
        let schema = Schema::read(&mut reader, &clock);
        let role = match reader.optional("APPLICATION_ROLE") {
            Some(_) => reader.parsed("APPLICATION_ROLE").map(Some),
            None => Some(None),
        };
        let work = schema.zip(role).map(|(schema, role)| Work { schema, role });
        // S3's certificates come from Amazon whatever the stores' come from.
        Ok(Self { work: reader.finish(work), answers: Answers::new(&Authorities::amazon())?, clock })
    }

    /// Does what CloudFormation asks and answers it.
    ///
    /// # Errors
    /// When the event is no request of CloudFormation, or the answer does not reach it: Lambda then tries again.
    pub async fn handle(&self, event: LambdaEvent<Value>) -> Result<(), Error> {
        let request: Request = serde_json::from_value(event.payload)?;
        let owed = answer::owe(&self.answers, &request);
        let time = left(event.context.deadline, self.clock.now()).saturating_sub(ANSWER_TIME);
        let done = timeout(time, self.done(&request)).await.unwrap_or(Err(Failure::Time(time)));
        drop(owed);
        let outcome = match done {
            Ok(version) => Outcome::Success(version),
            Err(failure) => {
                let reason = error_chain(&failure);
                error!(name: "schema.failed", reason, "schema.failed");
                Outcome::Failed(reason)
            }
        };
        Ok(self.answers.give(&request, &outcome).await?)
    }

    /// The version that the schema has then, where it was looked at.
    async fn done(&self, request: &Request) -> Result<Option<i64>, Failure> {
        match &request.kind {
            // The votes stay. Whoever wants them gone deletes the database.
            Kind::Delete => Ok(None),
            // A rollback is an update too, to what was before. It needs no database, which may be why it is there, and
            // must not fail: CloudFormation would be stuck between two releases.
            Kind::Update if request.asks_for_nothing_new() => {
                info!(name: "schema.kept", "schema.kept: this release has been here, and the schema is its own or a later one");
                Ok(None)
            }
            Kind::Create | Kind::Update => {
                let work = self.work.as_ref().map_err(|error| Failure::Environment(error.to_string()))?;
                work.run().await.map(Some)
            }
            Kind::Unknown(kind) => Err(Failure::Kind(kind.clone())),
        }
    }
}

impl Work {
    async fn run(&self) -> Result<i64, Failure> {
        let version = self.schema.migrate().await?;
        info!(name: "schema.migrated", version, "schema.migrated");
        if let Some(role) = &self.role {
            self.schema.grant(role).await?;
        }
        Ok(version)
    }
}

/// Until a deadline in milliseconds since 1970.
fn left(deadline_ms: u64, now: Timestamp) -> Duration {
    let now_ms = u64::try_from(now.millis()).unwrap_or_default();
    Duration::from_millis(deadline_ms.saturating_sub(now_ms))
}
