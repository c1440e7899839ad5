//! PostgreSQL: the truth. All SQL is in this module and in `migrations/`.
//!
//! Every call is bounded by one deadline, connecting included. A call that passes it, or whose connection broke,
//! leaves the outcome unknown; every write here is safe to repeat.

mod audit;
mod certify;
mod connect;
mod count;
mod export;
mod iam;
mod later;
mod polls;
mod receipts;
mod results;
mod schema;

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{
    Connection, PgConnection, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::time::timeout;

pub use audit::Audit;
pub use certify::Frozen;
pub use connect::AddressError;
pub use count::{Batch, Counted, Outcome};
pub use export::{Asked, Export, Piece};
pub use iam::IamSigner;
pub use later::Issued;
pub use polls::PollWithTally;
pub use results::Publishable;
pub use schema::{Role, RoleError, Schema, SchemaError};

use self::connect::Connector;
use crate::{
    domain::{Invalid, VoteKey, Voter},
    tls::Authorities,
};

/// A connection used this recently is used again without asking whether it still lives: that would be a second
/// round trip for every batch. An instance frozen for longer asks first.
const TRUSTED: Duration = Duration::from_secs(30);

/// The ledger, through one lazily opened connection: a Lambda instance handles one event at a time, so the number
/// of instances bounds the connections of the database.
#[derive(Clone)]
pub struct Ledger {
    connector: Connector,
    idle: Arc<Mutex<Option<(PgConnection, Instant)>>>,
    timeout: Duration,
}

/// Why the ledger did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not reached, broken off or refused. Trying again later is safe.
    #[error("the ledger is unavailable")]
    Unavailable(#[from] sqlx::Error),
    /// No answer within the deadline. Trying again later is safe.
    #[error("the ledger did not answer within {0:?}")]
    Timeout(Duration),
    /// The release was deployed before its migrations. Trying again is safe, and helps once they have run.
    #[error(
        "the ledger's schema is at version {found}, this release needs {needed}: run the function migrate"
    )]
    SchemaTooOld {
        /// What the database has; 0: nothing.
        found: i64,
        /// What it must have.
        needed: i64,
    },
    /// The rules of polls do not allow the change; nothing was changed.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl Ledger {
    /// Prepares the connection without opening it, so that a function starts while the database is away.
    /// `timeout` bounds each call; the server gives up on a statement, or on a transaction that we left, as soon.
    ///
    /// # Errors
    /// When the URL is not one of PostgreSQL.
    pub fn new(url: &str, timeout: Duration) -> Result<Self, AddressError> {
        let connector = Connector::new(url)?.giving_up_after(timeout);
        Ok(Self { connector, idle: Arc::default(), timeout })
    }

    /// Believes these authorities in place of Amazon's; where the URL does not ask for TLS, none are needed.
    #[must_use]
    pub fn trusting(self, authorities: &Authorities) -> Self {
        Self { connector: self.connector.trusting(authorities), ..self }
    }

    /// Gives a token of RDS IAM for a password, signed anew for each connection.
    ///
    /// # Errors
    /// [`AddressError::IamWithoutTls`] where the URL does not ask for `sslmode=verify-full`.
    pub fn signing(self, iam: IamSigner) -> Result<Self, AddressError> {
        Ok(Self { connector: self.connector.signing(iam)?, ..self })
    }

    /// Which of a voter's ballots, given by their keys, have been counted.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn counted_ballots(&self, keys: &[VoteKey], voter: Voter) -> Result<Vec<i16>, Error> {
        let sql = "/* counted_ballots */ SELECT ballot FROM votes WHERE key = ANY ($1) AND voter = $2 ORDER BY ballot";
        let keys: Vec<_> = keys.iter().map(|key| key.0).collect();
        let rows = self.fetch_all(sqlx::query(sql).bind(&keys).bind(voter.ledger_column())).await?;
        Ok(rows.iter().map(|row| row.try_get("ballot")).collect::<Result<_, _>>()?)
    }

    /// Runs one statement.
    async fn fetch_all(&self, query: Query<'_, Postgres, PgArguments>) -> Result<Vec<PgRow>, Error> {
        self.within(self.timeout, async {
            let mut connection = self.connection().await?;
            let rows = query.fetch_all(&mut connection).await?;
            self.keep(connection);
            Ok(rows)
        })
        .await
    }

    /// Bounds a piece of work, connecting included.
    async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        timeout(limit, work).await.map_err(|_| Error::Timeout(limit))?
    }

    /// The connection, opened anew where there is none. Who is done with it gives it back with [`Self::keep`];
    /// after an error, or when time runs out, it is dropped instead: an answer may still be on its way.
    async fn connection(&self) -> Result<PgConnection, Error> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((mut connection, since)) = kept
            && (since.elapsed() < TRUSTED || connection.ping().await.is_ok())
        {
            return Ok(connection);
        }
        self.connector.connect().await
    }

    fn keep(&self, connection: PgConnection) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some((connection, Instant::now()));
    }
}

/// Shows no part of the address: it may hold a password.
impl fmt::Debug for Ledger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ledger")
    }
}

/// Shuts batches out until the transaction ends: see `fence` in the migrations.
async fn close_fence(transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("/* close_fence */ SELECT pg_advisory_xact_lock(fence())").execute(transaction).await?;
    Ok(())
}
