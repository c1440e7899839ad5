//! Brings the schema up at every deployment: wiring.

use lambda_runtime::{Error, run, service_fn, tracing};
use shared::config;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let handler = &migrate::Handler::new(config::environment)?;
    migrate::answer_panics();
    run(service_fn(move |event| handler.handle(event))).await
}
