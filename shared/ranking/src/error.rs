//! Why Redis gave no answer: it is away, or this release is wrong. Votes count all the same.

use std::time::Duration;

use redis::RedisError;
use runtime::Retry;

/// Why Redis gave no answer. Votes count all the same.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis is away. Trying again later is safe.
    #[error(transparent)]
    Outage(#[from] Outage),
    /// This release or its deployment is wrong. Trying again fails again.
    #[error(transparent)]
    Defect(#[from] Defect),
}

/// Redis is away. What was asked may have been done all the same; trying again later is safe.
#[derive(Debug, thiserror::Error)]
pub enum Outage {
    /// Not reached, broken off, or refused for now.
    #[error("Redis is unavailable")]
    Unavailable(#[source] RedisError),
    /// No answer in time.
    #[error("Redis did not answer within {0:?}")]
    Timeout(Duration),
    /// It was not asked, because it did not answer a moment ago.
    #[error("Redis is left alone for a moment, since it did not answer")]
    Resting,
}

/// Redis refuses a command for good, or answers what this release cannot read.
#[derive(Debug, thiserror::Error)]
#[error("Redis cannot do this: a command and the data, or its user's rights, do not fit")]
pub struct Defect(#[source] RedisError);

/// Why no Redis can be at such an address.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is no URL of Redis.
    #[error("use rediss://user:password@host:port ({0})")]
    Url(#[from] RedisError),
    /// `#insecure` would believe any server.
    #[error("take #insecure off: the server's certificate is always verified")]
    Unverified,
}

impl Error {
    /// What this asks of the caller.
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

/// What a server answers that is not the one to ask, or not yet.
const NOT_HERE: [&str; 8] =
    ["LOADING", "MASTERDOWN", "READONLY", "MOVED", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "NOAUTH"];

/// What a failed command asks for.
pub(crate) fn retry(error: &RedisError) -> Retry {
    if error.is_unrecoverable_error() {
        Retry::AtOnce
    } else if error.is_io_error()
        || error.is_timeout()
        || error.is_connection_refusal()
        || error.code().is_some_and(|code| NOT_HERE.contains(&code))
    {
        Retry::Later
    } else {
        Retry::Never
    }
}
