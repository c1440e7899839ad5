//! What a function needs of the process that it runs in: its environment, the time, its log and metrics, and TLS.

pub mod clock;
pub mod environment;
mod retry;
pub mod telemetry;
pub mod tls;

pub use clock::Clock;
pub use retry::Retry;
