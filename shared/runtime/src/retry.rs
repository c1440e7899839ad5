//! The retry policy: what a failed call to a store or to AWS asks of its caller. Each error decides beside its definition
//! which of these it is.

/// What a failed call asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The connection is broken: a restart, a failover, an idle connection that was cut. A call that is safe to repeat is
    /// repeated once, at once, over a new connection, inside the same deadline.
    AtOnce,
    /// The other side is away or busy. A later call may succeed, without a change by anybody.
    Later,
    /// A defect of this release or of its deployment. The same call fails again, so nobody repeats it.
    Never,
}

impl Retry {
    /// Whether the failure passes by itself.
    pub fn is_transient(self) -> bool {
        self != Self::Never
    }
}
