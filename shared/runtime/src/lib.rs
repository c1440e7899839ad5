//! The runtime services of a function: environment, clock, retry policy, log, metrics and TLS.

pub mod clock;
pub mod environment;
mod retry;
pub mod telemetry;
pub mod tls;

pub use clock::Clock;
pub use retry::Retry;
