//! PostgreSQL, the source of truth. All SQL is in this crate and in its `migrations/`.
//!
//! Every call has one deadline, connecting included. After a timeout or a broken connection the outcome is unknown.
//! Each single statement is safe to repeat, so `Ledger::fetch_all` repeats one whose kept connection was broken. A
//! transaction is not repeated: its connection is checked before its first statement.
//!
//! To add a statement: 1. Write a method of [`Ledger`] in the module of its subject; its SQL starts with a
//! comment that names the statement. 2. A single idempotent statement runs through `fetch_all`. A transaction runs in
//! `within`, over `connection`, and gives the connection back with `keep`. A change of a poll takes the definition
//! lock and appends a journal entry. 3. Grant missing rights in `RIGHTS` (`schema.rs`). 4. Test it in
//! `shared/stores/tests/it`.

mod audit;
mod certify;
mod change;
mod connect;
mod count;
mod deleted;
mod error;
mod evidence;
mod export;
mod forget;
mod iam;
mod journal;
mod later;
mod lists;
mod log;
mod names_files;
mod polls;
mod receipts;
mod results;
mod schema;
mod settings;
mod supplement;

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{
    Connection, Execute, PgConnection, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::time::timeout;

pub use audit::{Audit, Progress};
pub use certify::Certified;
pub use connect::AddressError;
pub use count::{Batch, Counted, Outcome};
pub use error::{Defect, Error, Outage};
pub use evidence::Observed;
pub use export::{Asked, Export, Piece};
pub use iam::IamSigner;
pub use journal::{Conflict, JournalEntry};
pub use later::Issued;
pub use log::{Cut, LogBatch, LogPosition};
pub use results::Publishable;
pub use schema::{Role, RoleError, Schema, SchemaError};
pub use supplement::PIECE_ROWS;

use self::connect::Connector;
use domain::{LedgerAddress, PollId, VoteKey, Voter};
use runtime::{Retry, telemetry::error_chain, tls::Authorities};

/// The idle time after which a connection is pinged before its next use. A ping at every use would cost each batch a
/// second round trip. Lambda may freeze an instance for longer.
const PING_AFTER: Duration = Duration::from_secs(30);

/// A client of the ledger with one lazily opened connection. A Lambda instance handles one event at a time, so the
/// number of instances bounds the number of connections; `functions/results` has three.
#[derive(Clone)]
pub struct Ledger {
    connector: Connector,
    idle: Arc<Mutex<Option<(PgConnection, Instant)>>>,
    timeout: Duration,
}

impl Ledger {
    /// Creates the client without connecting, so that a function can start while the database is unavailable.
    /// `timeout` bounds each call. The server aborts a statement or an abandoned transaction after the same time.
    ///
    /// # Errors
    /// If the URL is not a PostgreSQL URL.
    pub fn new(url: &str, timeout: Duration) -> Result<Self, AddressError> {
        Ok(Self::over(Connector::new(url)?, timeout))
    }

    fn over(connector: Connector, timeout: Duration) -> Self {
        Self { connector: connector.for_functions(timeout), idle: Arc::default(), timeout }
    }

    /// Returns a client with a connection of its own, for work beside this one's.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self { idle: Arc::default(), ..self.clone() }
    }

    /// Trusts these authorities instead of Amazon's. They have no effect if the URL does not request TLS.
    #[must_use]
    pub fn trusting(self, authorities: &Authorities) -> Self {
        Self { connector: self.connector.trusting(authorities), ..self }
    }

    /// Returns the address as a hash, for the keys of the ledger's data in Redis. Does not connect.
    pub fn address(&self) -> LedgerAddress {
        self.connector.address()
    }

    /// Returns the voter's counted ballots in a poll among these keys.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn counted_ballots(
        &self,
        poll: PollId,
        keys: &[VoteKey],
        voter: Voter,
    ) -> Result<Vec<i16>, Error> {
        let sql = "/* counted_ballots */ SELECT ballot FROM votes \
                   WHERE poll = $3 AND key = ANY ($1) AND voter = $2 ORDER BY ballot";
        let keys: Vec<_> = keys.iter().map(|key| key.0).collect();
        let query = sqlx::query(sql).bind(&keys).bind(voter.ledger_column()).bind(poll.0);
        let rows = self.fetch_all(query).await?;
        Ok(rows.iter().map(|row| row.try_get("ballot")).collect::<Result<_, _>>()?)
    }

    /// Runs one idempotent statement: one round trip over the kept connection. The server closes connections at a
    /// restart, at a failover or by an operator's command, and the next statement is the first to notice. So a
    /// statement that finds the kept connection broken runs once more over a new connection, within the same
    /// deadline.
    async fn fetch_all(&self, mut query: Query<'_, Postgres, PgArguments>) -> Result<Vec<PgRow>, Error> {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?.unwrap_or_default();
        let sql = query.sql();
        self.within(self.timeout, async {
            if let Some(mut connection) = self.live_connection().await {
                let answer =
                    sqlx::query_with(sql.clone(), arguments.clone()).fetch_all(&mut connection).await;
                match answer {
                    Err(error) if error::retry(&error) == Retry::AtOnce => {
                        tracing::info!(error = error_chain(&error), "ledger.connection_replaced");
                    }
                    answer => {
                        let rows = answer?;
                        self.keep(connection);
                        return Ok(rows);
                    }
                }
            }
            let mut connection = self.connector.connect().await?;
            let rows = sqlx::query_with(sql, arguments).fetch_all(&mut connection).await?;
            self.keep(connection);
            Ok(rows)
        })
        .await
    }

    /// Runs work with a deadline, connecting included.
    async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        timeout(limit, work).await.map_err(|_| Outage::Timeout(limit))?
    }

    /// Returns a connection whose server has just said that it takes writes, or a new one. A transaction needs it,
    /// since it must not run twice after a commit with an unknown outcome. It costs one round trip more than [`Self::fetch_all`].
    ///
    /// The caller gives the connection back with [`Self::keep`]. After an error or a timeout the connection is
    /// dropped, since an answer may still be in flight.
    async fn connection(&self) -> Result<PgConnection, Error> {
        if let Some((mut connection, _)) = self.take_idle()
            && takes_writes(&mut connection).await
        {
            return Ok(connection);
        }
        self.connector.connect().await
    }

    /// Takes the kept connection, if any. After [`PING_AFTER`] it must first answer a ping.
    async fn live_connection(&self) -> Option<PgConnection> {
        let (mut connection, since) = self.take_idle()?;
        (since.elapsed() < PING_AFTER || connection.ping().await.is_ok()).then_some(connection)
    }

    fn take_idle(&self) -> Option<(PgConnection, Instant)> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep(&self, connection: PgConnection) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some((connection, Instant::now()));
    }
}

/// Returns whether the connection is alive and takes writes: a failover may keep the connections to a server that it
/// makes read-only. One round trip, like a ping.
async fn takes_writes(connection: &mut PgConnection) -> bool {
    let sql = "/* takes_writes */ SHOW transaction_read_only";
    let is_read_only = sqlx::raw_sql(sql).fetch_one(connection).await;
    is_read_only.and_then(|row| row.try_get::<String, _>(0)).is_ok_and(|is_read_only| is_read_only == "off")
}

/// Omits the address, which may contain a password.
impl fmt::Debug for Ledger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ledger")
    }
}

/// Timeout of other locks for a holder of the definition lock, since all batches wait for it.
const LOCK_TIMEOUT: &str = "1s";

/// Takes the definition lock exclusively until the transaction ends, which excludes batches: see `fence` in the
/// migrations.
async fn take_definition_lock(transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
    let sql = "/* close_fence */ SELECT pg_advisory_xact_lock(fence()), set_config('lock_timeout', $1, true)";
    sqlx::query(sql).bind(LOCK_TIMEOUT).execute(transaction).await?;
    Ok(())
}
