//! Entry point of the migrate function.

use lambda_runtime::{Error, run, service_fn, tracing};
use runtime::{Clock, environment};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let handler = &migrate::Handler::new(environment::variable, Clock::system())?;
    migrate::answer_panics();
    run(service_fn(move |event| handler.handle(event))).await
}
