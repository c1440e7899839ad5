//! Entry point of the scopes function.

use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    run(service_fn(|event: LambdaEvent<_>| async { Ok::<_, Error>(scopes::with_scopes(event.payload)) }))
        .await
}
