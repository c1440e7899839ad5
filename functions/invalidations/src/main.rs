//! Entry point of the invalidations function.

use lambda_runtime::{Error, run, service_fn, tracing};
use runtime::{Clock, environment};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let handler = &invalidations::Handler::new(&environment::variable, Clock::system())?;
    run(service_fn(move |event| handler.handle(event))).await
}
