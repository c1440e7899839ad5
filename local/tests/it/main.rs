//! The stand-ins for Lambda and its event source mappings, with a real function: `examples/echo_function.rs`; and the
//! whole stack with the real ones.
#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod cache_user;
mod dead_letters;
mod event_source;
mod evidence;
mod identity;
mod invalidations;
mod lambda;
mod leaks;
mod log_level;
mod one_call;
mod outage;
mod reconnect;
mod schema;
mod stack;
mod tls;
mod whole;

use std::{path::PathBuf, sync::Arc, time::Duration};

use local::{
    cloudwatch::CloudWatch,
    lambda::Functions,
    sqs::Queues,
    template::{Context, Template},
};

/// Long enough for anything that happens at all.
const LIMIT: Duration = Duration::from_secs(20);

/// Where cargo puts the examples, which it builds for tests: beside the folder of this test's binary.
fn examples() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let examples = test.ancestors().nth(2).unwrap().join("examples");
    assert!(examples.join("echo_function").is_file(), "run: cargo build -p local --examples");
    examples
}

/// Queues and functions of a template, without its event source mappings.
struct Stack {
    template: Template,
    queues: Arc<Queues>,
    functions: Arc<Functions>,
    logs: Arc<CloudWatch>,
    folder: tempfile::TempDir,
}

impl Stack {
    /// `resources`: YAML of the template's `Resources`; functions whose `Binary` is `echo_function` are real.
    fn new(resources: &str) -> anyhow::Result<Self> {
        Self::of(resources, examples())
    }

    /// The same with the functions found in `artifacts`.
    fn of(resources: &str, artifacts: PathBuf) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let context = Context { aws_endpoint: "http://localhost:4566".to_owned(), ..Context::default() };
        let template = Template::parse(&format!("Resources:\n{resources}"), "template.yaml", &context)?;
        let logs = Arc::new(CloudWatch::new(folder.path().to_owned())?);
        let queues = Queues::from_template(&template)?;
        let functions = Functions::from_template(&template, artifacts, Arc::clone(&logs))?;
        Ok(Self { template, queues, functions, logs, folder })
    }
}
