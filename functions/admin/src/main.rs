//! Entry point of the admin function.

use lambda_http::{Error, run, service_fn, tracing};
use runtime::{Clock, environment};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let handler = &admin::Handler::new(&environment::variable, Clock::system())?;
    run(service_fn(move |request| handler.handle(request))).await
}
