//! Why the ledger did not do what it was asked: it is away, this release is wrong, or the rules forbid it.

use std::time::Duration;

use domain::Invalid;
use runtime::Retry;

use crate::Conflict;

/// Why the ledger did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger is away. Trying again later is safe.
    #[error(transparent)]
    Outage(#[from] Outage),
    /// This release or its deployment is wrong. Trying again fails again.
    #[error(transparent)]
    Defect(#[from] Defect),
    /// The rules of polls do not allow the change; nothing was changed.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The change was meant for another version of the poll; nothing was changed.
    #[error("the poll is of version {}", .0.version)]
    Conflict(Conflict),
}

/// The ledger is away. What was asked may have been done all the same; trying again later is safe.
#[derive(Debug, thiserror::Error)]
pub enum Outage {
    /// Not reached, broken off, or refused for now.
    #[error("the ledger is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// No answer within the deadline.
    #[error("the ledger did not answer within {0:?}")]
    Timeout(Duration),
    /// The release was deployed before its migrations. Trying again helps once they have run.
    #[error(
        "the ledger's schema is at version {found}, this release needs {needed}: run the function migrate"
    )]
    SchemaTooOld {
        /// What the database has; 0: nothing.
        found: i64,
        /// What it must have.
        needed: i64,
    },
}

/// PostgreSQL refuses a statement for good, or answers what this release cannot read.
#[derive(Debug, thiserror::Error)]
#[error("the ledger cannot do this: a statement and the schema, or its rights, do not fit")]
pub struct Defect(#[source] sqlx::Error);

impl Error {
    /// What this asks of the caller. A refusal by the rules is final, too.
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
            Retry::Never => Defect(error).into(),
        }
    }
}

/// SQLSTATEs with which the server ends a connection, or refuses its work for as long as it lives: the server's shutdown,
/// crash or restart, a session that was idle for too long, and a server that a failover has made read-only.
const BROKEN: [&str; 6] = ["57P01", "57P02", "57P03", "57P05", "25P03", "25006"];

/// Classes of SQLSTATE of a connection that is of no use any more: connection exceptions.
const BROKEN_CLASS: &str = "08";

/// Classes of SQLSTATE that pass by themselves: a role or a password that is not there yet, a rollback for the sake of
/// another transaction, a lack of resources, an object in use, an operator's intervention, a failing disk.
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
const PASSING_CLASSES: [&str; 6] = ["28", "40", "53", "55", "57", "58"];

/// SQLSTATE of a database that is not there yet.
const NO_DATABASE: &str = "3D000";

/// What a failed statement asks for.
pub(crate) fn retry(error: &sqlx::Error) -> Retry {
    match error {
        sqlx::Error::Io(_) => Retry::AtOnce,
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
    if BROKEN.contains(&code) || class == BROKEN_CLASS {
        Retry::AtOnce
    } else if PASSING_CLASSES.contains(&class) || code == NO_DATABASE {
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
