//! Errors of the ledger: an outage, a defect of this release, or a refusal by the rules.

use std::time::Duration;

use domain::Invalid;
use runtime::Retry;

use crate::Conflict;

/// The reason why a call to the ledger failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger is unavailable. A later retry is safe.
    #[error(transparent)]
    Outage(#[from] Outage),
    /// A defect of this release or its deployment. A retry would fail again.
    #[error(transparent)]
    Defect(#[from] Defect),
    /// The rules of polls forbid the change. Nothing was changed.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The change was meant for another version of the poll. Nothing was changed.
    #[error("the poll is of version {}", .0.version)]
    Conflict(Conflict),
}

/// The ledger is unavailable. The outcome of the call is unknown; a later retry is safe.
#[derive(Debug, thiserror::Error)]
pub enum Outage {
    /// The connection failed or broke, or the server refused the call temporarily.
    #[error("the ledger is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// The ledger did not answer within the deadline.
    #[error("the ledger did not answer within {0:?}")]
    Timeout(Duration),
    /// The release was deployed before its migrations. A retry helps once they have run.
    #[error(
        "the ledger's schema is at version {found}, this release needs {needed}: run the function migrate"
    )]
    SchemaTooOld {
        /// The database's version. 0 if it has no schema.
        found: i64,
        /// The lowest usable version.
        needed: i64,
    },
}

/// This release or its deployment is wrong: the same call fails again.
#[derive(Debug, thiserror::Error)]
pub enum Defect {
    /// PostgreSQL permanently refuses a statement, or this release cannot decode the answer.
    #[error("the ledger cannot do this: a statement does not match the schema or the role's rights")]
    Statement(#[source] sqlx::Error),
    /// The server at the address is a pooler that takes no startup options.
    #[error(
        "DATABASE_URL names a pooler that refuses startup options, as RDS Proxy and PgBouncer do: name the database itself"
    )]
    Pooler(#[source] sqlx::Error),
}

impl Error {
    /// Returns the retry decision. A refusal by the rules is final.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Outage(Outage::Unavailable(error)) => retry(error),
            Self::Outage(_) => Retry::Later,
            Self::Defect(_) | Self::Invalid(_) | Self::Conflict(_) => Retry::Never,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match retry(&error) {
            Retry::AtOnce | Retry::Later => Outage::Unavailable(error).into(),
            Retry::Never if is_pooler(&error) => Defect::Pooler(error).into(),
            Retry::Never => Defect::Statement(error).into(),
        }
    }
}

/// SQLSTATEs after which a connection is useless: the server's shutdown, crash or restart, a session that was idle
/// for too long, and a server that a failover has made read-only.
const CONNECTION_LOST_CODES: [&str; 6] = ["57P01", "57P02", "57P03", "57P05", "25P03", "25006"];

/// The SQLSTATE class of connection exceptions.
const CONNECTION_EXCEPTION_CLASS: &str = "08";

/// Transient SQLSTATE classes: a role or password that does not exist yet, a rollback in favour of another
/// transaction, insufficient resources, an object in use, an operator's intervention, a failing disk.
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
const TRANSIENT_CLASSES: [&str; 6] = ["28", "40", "53", "55", "57", "58"];

/// The SQLSTATE of a database that does not exist yet.
const UNDEFINED_DATABASE: &str = "3D000";

/// Parts of the refusals of PgBouncer and RDS Proxy. Other errors share their SQLSTATEs, so the message decides.
const POOLER_REFUSALS: [&str; 2] = ["startup parameter", "command-line options"];

fn is_pooler(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    POOLER_REFUSALS.iter().any(|refusal| error.message().contains(refusal))
}

/// The message of PostgreSQL for a prepared `SELECT *` whose table has changed. Other errors share its SQLSTATE, so the message decides.
const OUTDATED_PLAN: &str = "cached plan must not change result type";

/// Returns the retry decision for a failed statement.
pub(crate) fn retry(error: &sqlx::Error) -> Retry {
    match error {
        sqlx::Error::Io(_) => Retry::AtOnce,
        // A migration has added a column. A new connection has no prepared statements.
        sqlx::Error::Database(error) if error.message().contains(OUTDATED_PLAN) => Retry::AtOnce,
        sqlx::Error::Database(_) if is_pooler(error) => Retry::Never,
        sqlx::Error::Database(error) => error.code().map_or(Retry::Never, |code| retry_sqlstate(&code)),
        sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Retry::Later,
        _ => Retry::Never,
    }
}

fn retry_sqlstate(code: &str) -> Retry {
    let class = code.get(..2).unwrap_or_default();
    if CONNECTION_LOST_CODES.contains(&code) || class == CONNECTION_EXCEPTION_CLASS {
        Retry::AtOnce
    } else if TRANSIENT_CLASSES.contains(&class) || code == UNDEFINED_DATABASE {
        Retry::Later
    } else {
        Retry::Never
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_from_a_defect() {
        for (code, expected) in [
            ("57P01", Retry::AtOnce),
            ("08006", Retry::AtOnce),
            ("25006", Retry::AtOnce),
            ("57014", Retry::Later),
            ("40P01", Retry::Later),
            ("53300", Retry::Later),
            ("28P01", Retry::Later),
            ("3D000", Retry::Later),
            ("42P01", Retry::Never),
            ("42501", Retry::Never),
            ("23505", Retry::Never),
            ("22003", Retry::Never),
            ("XX000", Retry::Never),
            ("", Retry::Never),
        ] {
            assert_eq!(retry_sqlstate(code), expected, "{code}");
        }
        let unreadable = Error::from(sqlx::Error::ColumnNotFound("votes".to_owned()));
        assert!(matches!(unreadable, Error::Defect(_)) && !unreadable.retry().is_transient());
        let cut = Error::from(sqlx::Error::Io(std::io::Error::other("cut")));
        assert!(matches!(cut, Error::Outage(_)) && cut.retry() == Retry::AtOnce);
    }
}
