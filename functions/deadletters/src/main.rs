//! Entry point of the deadletters function.

use lambda_http::{Error, run, service_fn, tracing};
use runtime::environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let handler = &deadletters::Handler::new(&environment::variable)?;
    run(service_fn(move |request| handler.handle(request))).await
}
