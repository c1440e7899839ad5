//! Tests of Lambda and its event source mappings with a real function: `examples/echo_function.rs`.
#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod event_source;
mod lambda;

use std::{path::PathBuf, sync::Arc};

use emulator::{
    cloudwatch::CloudWatch,
    lambda::Functions,
    sqs::Queues,
    template::{Context, Template},
};

/// Returns cargo's folder of the examples, which is beside the folder of this test's binary.
fn examples() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let examples = test.ancestors().nth(2).unwrap().join("examples");
    assert!(examples.join("echo_function").is_file(), "run: cargo build -p emulator --examples");
    examples
}

/// A fixture: the queues and functions of a template, without its event source mappings.
struct Stack {
    template: Template,
    queues: Arc<Queues>,
    functions: Arc<Functions>,
    logs: Arc<CloudWatch>,
    folder: tempfile::TempDir,
}

impl Stack {
    /// Creates a stack. `resources`: YAML of the template's `Resources`; a function with the `Binary` `echo_function`
    /// is real.
    fn new(resources: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let context = Context { aws_endpoint: "http://localhost:4566".to_owned(), ..Context::default() };
        let template = Template::parse(&format!("Resources:\n{resources}"), "template.yaml", &context)?;
        let logs = Arc::new(CloudWatch::new(folder.path().to_owned())?);
        let queues = Queues::from_template(&template)?;
        let functions = Functions::from_template(&template, examples(), Arc::clone(&logs))?;
        Ok(Self { template, queues, functions, logs, folder })
    }
}
