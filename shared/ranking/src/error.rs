//! Errors of Redis: an outage, or a defect of this release. Votes count in both cases.

use std::time::Duration;

use redis::RedisError;
use runtime::Retry;

/// The reason why a call to Redis failed. Votes count all the same.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis is unavailable. A later retry is safe.
    #[error(transparent)]
    Outage(#[from] Outage),
    /// A defect of this release or its deployment. A retry would fail again.
    #[error(transparent)]
    Defect(#[from] Defect),
}

/// Redis is unavailable. The outcome of the call is unknown; a later retry is safe.
#[derive(Debug, thiserror::Error)]
pub enum Outage {
    /// The connection failed or broke, or Redis refused the call temporarily.
    #[error("Redis is unavailable")]
    Unavailable(#[source] RedisError),
    /// Redis did not answer within the deadline.
    #[error("Redis did not answer within {0:?}")]
    Timeout(Duration),
    /// Redis was not called, since a call has just timed out.
    #[error("Redis was not called: the circuit breaker is open after a timeout")]
    CircuitOpen,
}

/// Redis permanently refuses a command, or this release cannot decode the answer.
#[derive(Debug, thiserror::Error)]
#[error("Redis cannot do this: a command does not match the data or the user's rights")]
pub struct Defect(#[source] RedisError);

/// The reason why a Redis URL is refused.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is not a Redis URL.
    #[error("use rediss://user:password@host:port ({0})")]
    Url(#[from] RedisError),
    /// `#insecure` would trust any server.
    #[error("remove #insecure: the server's certificate is always verified")]
    Unverified,
}

impl Error {
    /// Returns the retry decision.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Outage(Outage::Unavailable(error)) => retry(error),
            Self::Outage(_) => Retry::Later,
            Self::Defect(_) => Retry::Never,
        }
    }
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        match retry(&error) {
            Retry::AtOnce | Retry::Later => Outage::Unavailable(error).into(),
            Retry::Never => Defect(error).into(),
        }
    }
}

/// Error codes of a server that is not ready, or not the right one.
const NOT_READY_CODES: [&str; 8] =
    ["LOADING", "MASTERDOWN", "READONLY", "MOVED", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "NOAUTH"];

/// Whether this server is not the one to ask, although its connection is intact: a failover keeps connections to a
/// primary that has become a replica. Only a new connection finds the new primary.
pub(crate) fn is_other_server(error: &RedisError) -> bool {
    error.code().is_some_and(|code| NOT_READY_CODES.contains(&code))
}

/// Error codes of a server that is overloaded for a while: no memory, a failed save, a long script.
const OVERLOADED_CODES: [&str; 3] = ["OOM", "MISCONF", "BUSY"];

/// Returns the retry decision for a failed command.
pub(crate) fn retry(error: &RedisError) -> Retry {
    if error.is_unrecoverable_error() || is_other_server(error) {
        Retry::AtOnce
    } else if error.is_io_error()
        || error.is_timeout()
        || error.is_connection_refusal()
        || error.code().is_some_and(|code| OVERLOADED_CODES.contains(&code))
    {
        Retry::Later
    } else {
        Retry::Never
    }
}
