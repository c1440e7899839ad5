//! Entry point of the export function.

use lambda_runtime::{Error, run, service_fn, tracing};
use runtime::{Clock, environment};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let handler = &export::Handler::new(&environment::variable, &Clock::system())?;
    run(service_fn(move |_: lambda_runtime::LambdaEvent<serde_json::Value>| handler.handle())).await
}
