//! A custom resource of CloudFormation: migrates the ledger's schema at every deployment, before the functions that
//! need it are updated.
//!
//! Invariants: CloudFormation gets an answer in every case, since a deployment waits until then. Every request is
//! idempotent, also when two arrive at once. Neither a deletion nor a rollback removes data.
//!
//! To add a migration: see `shared/ledger/migrations/README.md`. Nothing changes here.

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

/// Time reserved for the answer when the migration exceeds its deadline: three attempts.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// Lambda's longest timeout.
const TIMEOUT_MAX: Duration = Duration::from_secs(900);

/// The function's handler, built once at start.
#[derive(Debug)]
pub struct Handler {
    migration: Result<Migration, environment::Error>,
    answers: Answers,
    clock: Clock,
}

/// The migration of a schema, and the role to grant rights to.
#[derive(Debug)]
struct Migration {
    schema: Schema,
    role: Option<Role>,
}

/// The reason why a request failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Environment(String),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("it took longer than {0:?}; the unfinished migration is rolled back")]
    Time(Duration),
    #[error("the request {0} is unknown")]
    Kind(String),
}

impl Handler {
    /// Reads `DATABASE_URL` (of the schema's owner), `DATABASE_AUTH`, `TLS_CA_FILE`, and `APPLICATION_ROLE` (the
    /// role of the functions; if empty, they connect as the owner, and no role is created).
    ///
    /// Configuration errors are reported to CloudFormation: a function that fails to start would leave it waiting.
    ///
    /// # Errors
    /// The HTTPS client cannot be built.
    pub fn new(lookup: impl Fn(&str) -> Option<String>, clock: Clock) -> Result<Self, runtime::tls::Error> {
        let mut reader = Reader::new(&lookup);
        let schema = Schema::read(&mut reader, &clock);
        let role = match reader.optional("APPLICATION_ROLE") {
            Some(_) => reader.parsed("APPLICATION_ROLE").map(Some),
            None => Some(None),
        };
        let migration = schema.zip(role).map(|(schema, role)| Migration { schema, role });
        // Amazon signs S3's certificates, whichever authority signs the stores'.
        let migration = reader.finish(migration);
        Ok(Self { migration, answers: Answers::new(&Authorities::amazon())?, clock })
    }

    /// Carries out a request of CloudFormation and answers it.
    ///
    /// # Errors
    /// The event is no request of CloudFormation, or the answer was not delivered. Lambda then retries.
    pub async fn handle(&self, event: LambdaEvent<Value>) -> Result<(), Error> {
        let request: Request = serde_json::from_value(event.payload)?;
        let pending = answer::guard(&self.answers, &request);
        let time = time_left(event.context.deadline, self.clock.now()).saturating_sub(ANSWER_TIME);
        let result = timeout(time, self.carry_out(&request)).await.unwrap_or(Err(Failure::Time(time)));
        drop(pending);
        let outcome = match result {
            Ok(version) => Outcome::Success(version),
            Err(failure) => {
                let reason = error_chain(&failure);
                error!(name: "schema.failed", reason, "schema.failed");
                Outcome::Failed(reason)
            }
        };
        Ok(self.answers.send(&request, &outcome).await?)
    }

    /// Carries out the request. Returns the schema's version afterwards, if the database was read.
    async fn carry_out(&self, request: &Request) -> Result<Option<i64>, Failure> {
        match &request.kind {
            // The votes stay. To remove them, delete the database.
            Kind::Delete => Ok(None),
            // A rollback is also an update. It uses no database, which may be the cause of the rollback. A rollback
            // must not fail: CloudFormation would be stuck between two releases.
            Kind::Update if request.needs_no_migration() => {
                info!(
                    name: "schema.kept",
                    "schema.kept: this release was deployed before; its schema or a later one is in place"
                );
                Ok(None)
            }
            Kind::Create | Kind::Update => {
                let migration = self.migration.as_ref();
                let migration = migration.map_err(|error| Failure::Environment(error.to_string()))?;
                migration.run().await.map(Some)
            }
            Kind::Unknown(kind) => Err(Failure::Kind(kind.clone())),
        }
    }
}

impl Migration {
    async fn run(&self) -> Result<i64, Failure> {
        let version = self.schema.migrate().await?;
        info!(name: "schema.migrated", version, "schema.migrated");
        if let Some(role) = &self.role {
            self.schema.grant(role).await?;
        }
        Ok(version)
    }
}

/// Returns the time until a deadline in milliseconds since 1970. Lambda never sends a past deadline; cargo-lambda sends a
/// constant. Then the longest timeout applies.
fn time_left(deadline_ms: u64, now: Timestamp) -> Duration {
    let now_ms = u64::try_from(now.millis()).unwrap_or_default();
    deadline_ms.checked_sub(now_ms).filter(|&left_ms| left_ms > 0).map_or(TIMEOUT_MAX, Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_has_passed_is_no_deadline() {
        let now = Timestamp::from_millis(1_000_000).unwrap();
        assert_eq!(time_left(1_030_000, now), Duration::from_secs(30));
        assert_eq!(time_left(600_000, now), TIMEOUT_MAX);
    }
}
