//! Tests of the real functions and the whole stack.
//!
//! To add a test: of one function, start from `one_call`; of the whole stack, from `stack`; with TLS, from `tls`.
#![expect(clippy::unwrap_used, reason = "an error fails the test")]

mod cache_user;
mod dead_letters;
mod edge;
mod evidence;
mod identity;
mod invalidations;
mod leaks;
mod log_level;
mod one_call;
mod outage;
mod reconnect;
mod schema;
mod stack;
mod tls;
mod whole;

use std::{path::Path, sync::Arc, time::Duration};

use emulator::{
    cloudwatch::CloudWatch,
    lambda::Functions,
    template::{Context, Template},
};

/// Timeout of one call.
const LIMIT: Duration = Duration::from_secs(20);

/// Functions of a template, without the rest of the stack.
struct TestFunctions {
    functions: Arc<Functions>,
    /// Folder of the logs.
    folder: tempfile::TempDir,
}

impl TestFunctions {
    /// Starts no process yet. `resources` is the YAML of the template's `Resources`.
    fn new(resources: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let template =
            Template::parse(&format!("Resources:\n{resources}"), "template.yaml", &Context::default());
        let logs = Arc::new(CloudWatch::new(folder.path().to_owned()).unwrap());
        let artifacts = Path::new(env!("CARGO_BIN_EXE_local")).parent().unwrap().to_owned();
        Self { functions: Functions::from_template(&template.unwrap(), artifacts, logs).unwrap(), folder }
    }
}
