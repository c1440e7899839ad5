//! Entry point of the results function.

use lambda_runtime::{Error, run, service_fn, tracing};
use runtime::{Clock, environment};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let handler = &results::Handler::new(&environment::variable, Clock::system())?;
    run(service_fn(move |event: lambda_runtime::LambdaEvent<results::Start>| handler.handle(event.payload)))
        .await
}
