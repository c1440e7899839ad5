//! The retry policy for failed calls to a store or to AWS. Each error type decides beside its definition which
//! [`Retry`] applies.

/// The retry decision after a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The connection is broken by a restart, a failover or an idle timeout. An idempotent call is repeated once,
    /// immediately, over a new connection and within the same deadline.
    AtOnce,
    /// The server is unavailable or busy. A later call may succeed without any change.
    Later,
    /// A defect of this release or of its deployment. The same call would fail again, so it is not repeated.
    Never,
}

impl Retry {
    /// Returns whether the failure is transient.
    pub fn is_transient(self) -> bool {
        self != Self::Never
    }
}
