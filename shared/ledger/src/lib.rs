//! PostgreSQL: the truth. All SQL is in this module and in `migrations/`.
//!
//! Every call is bounded by one deadline, connecting included. A call that passes it, or whose connection broke,
//! leaves the outcome unknown. Each statement that runs by itself is safe to repeat, so `Ledger::fetch_all` repeats one
//! whose kept connection was broken. A transaction is not repeated: its connection is checked before its first statement.

mod audit;
mod certify;
mod change;
mod connect;
mod count;
mod deleted;
mod error;
mod evidence;
mod export;
mod iam;
mod journal;
mod later;
mod lists;
mod polls;
mod receipts;
mod results;
mod schema;
mod settings;

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

pub use audit::Audit;
pub use certify::Frozen;
pub use connect::AddressError;
pub use count::{Batch, Counted, Outcome};
pub use error::{Defect, Error, Outage};
pub use evidence::Observed;
pub use export::{Asked, Export, Piece};
pub use iam::IamSigner;
pub use journal::{Conflict, JournalEntry};
pub use later::Issued;
pub use results::Publishable;
pub use schema::{Role, RoleError, Schema, SchemaError};

use self::connect::Connector;
use domain::{VoteKey, Voter};
use runtime::{Retry, telemetry::error_chain, tls::Authorities};

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
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn counted_ballots(&self, keys: &[VoteKey], voter: Voter) -> Result<Vec<i16>, Error> {
        let sql = "/* counted_ballots */ SELECT ballot FROM votes WHERE key = ANY ($1) AND voter = $2 ORDER BY ballot";
        let keys: Vec<_> = keys.iter().map(|key| key.0).collect();
        let rows = self.fetch_all(sqlx::query(sql).bind(&keys).bind(voter.ledger_column())).await?;
        Ok(rows.iter().map(|row| row.try_get("ballot")).collect::<Result<_, _>>()?)
    }

    /// Runs one statement that is safe to repeat: one round trip over the kept connection. The server closes connections
    /// when it restarts, fails over or is told to, and the next statement is the first to notice. So a statement whose
    /// kept connection is broken runs once more over a new connection, within the same deadline.
    async fn fetch_all(&self, mut query: Query<'_, Postgres, PgArguments>) -> Result<Vec<PgRow>, Error> {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?.unwrap_or_default();
        let sql = query.sql();
        self.within(self.timeout, async {
            if let Some(mut connection) = self.trusted_connection().await {
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

    /// Bounds a piece of work, connecting included.
    async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        timeout(limit, work).await.map_err(|_| Outage::Timeout(limit))?
    }

    /// A connection that has just answered, opened anew where the kept one does not: for a transaction, which must not
    /// run twice after a commit whose outcome is unknown. One round trip more than [`Self::fetch_all`] needs.
    ///
    /// The caller gives the connection back with [`Self::keep`]; after an error, or when time runs out, it is dropped
    /// instead: an answer may still be on its way.
    async fn connection(&self) -> Result<PgConnection, Error> {
        if let Some((mut connection, _)) = self.take_kept()
            && connection.ping().await.is_ok()
        {
            return Ok(connection);
        }
        self.connector.connect().await
    }

    /// The kept connection, if there is one; asked whether it still lives only where it has been idle for long.
    async fn trusted_connection(&self) -> Option<PgConnection> {
        let (mut connection, since) = self.take_kept()?;
        (since.elapsed() < TRUSTED || connection.ping().await.is_ok()).then_some(connection)
    }

    fn take_kept(&self) -> Option<(PgConnection, Instant)> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).take()
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
async fn take_definition_lock(transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("/* close_fence */ SELECT pg_advisory_xact_lock(fence())").execute(transaction).await?;
    Ok(())
}
