//! PostgreSQL: the truth. All SQL is in this module and in `migrations/`.
//!
//! Every call is bounded by one deadline, connecting included. A call that passes it, or whose connection broke,
//! leaves the outcome unknown; every write here is safe to repeat.

mod audit;
mod certify;
mod count;
mod polls;
mod receipts;
mod results;

use std::{
    future::Future,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{
    Connection, PgConnection, Postgres, Row, SqlSafeStr,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::Query,
};
use tokio::time::timeout;

pub use audit::Audit;
pub use certify::Frozen;
pub use count::{Batch, Counted, Outcome};
pub use polls::PollWithTally;
pub use results::Publishable;

use crate::domain::{Invalid, VoteKey, Voter};

/// A connection used this recently is used again without asking whether it still lives: that would be a second
/// round trip for every batch. An instance frozen for longer asks first.
const TRUSTED: Duration = Duration::from_secs(30);

/// The ledger, through one lazily opened connection: a Lambda instance handles one event at a time, so the number
/// of instances bounds the connections of the database.
#[derive(Debug, Clone)]
pub struct Ledger {
    options: PgConnectOptions,
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
    /// The rules of polls do not allow the change; nothing was changed.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// The migrations of this release, oldest first, compiled in.
const MIGRATIONS: [(i64, &str, &str); 1] = [(1, "ledger", include_str!("../../migrations/0001_ledger.sql"))];

/// Brings a database's schema up to this release. Safe to repeat, and to run from several places at once.
///
/// # Errors
/// When the database cannot be reached or its schema is not one this release can follow.
pub async fn migrate(url: &str) -> Result<(), MigrateError> {
    let mut connection = PgConnection::connect(url).await?;
    let migrations = MIGRATIONS.map(|(version, description, sql)| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.into()).run(&mut connection).await
}

impl Ledger {
    /// Prepares the connection without opening it, so that a function starts while the database is away.
    /// `timeout` bounds each call; the server gives up on a statement, or on a transaction that we left, as soon.
    ///
    /// # Errors
    /// When the URL is not one of PostgreSQL.
    pub fn new(url: &str, timeout: Duration) -> Result<Self, sqlx::Error> {
        let server_timeout = format!("{}ms", timeout.as_millis());
        let options = PgConnectOptions::from_str(url)?.options([
            ("statement_timeout", &server_timeout),
            ("idle_in_transaction_session_timeout", &server_timeout),
        ]);
        Ok(Self { options, idle: Arc::default(), timeout })
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
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Error> {
        timeout(limit, work).await.map_err(|_| Error::Timeout(limit))?.map_err(Error::Unavailable)
    }

    /// The connection, opened anew where there is none. Who is done with it gives it back with [`Self::keep`];
    /// after an error, or when time runs out, it is dropped instead: an answer may still be on its way.
    async fn connection(&self) -> Result<PgConnection, sqlx::Error> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((mut connection, since)) = kept
            && (since.elapsed() < TRUSTED || connection.ping().await.is_ok())
        {
            return Ok(connection);
        }
        PgConnection::connect_with(&self.options).await
    }

    fn keep(&self, connection: PgConnection) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some((connection, Instant::now()));
    }
}

/// Shuts batches out until the transaction ends: see `fence` in the migrations.
async fn close_fence(transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("/* close_fence */ SELECT pg_advisory_xact_lock(fence())").execute(transaction).await?;
    Ok(())
}
