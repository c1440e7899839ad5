//! Stands in for Lambda's event source mappings: from a queue to a function, in batches.
//!
//! Invariants: a message is deleted only after the function has answered for it; whatever else happens, it becomes
//! visible again when its visibility timeout ends.
mod backoff;
mod batch;
mod concurrency;
mod mapping;
mod response;
mod settings;

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context as _;
use axum::body::Bytes;
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    lambda::{Functions, InvokeError},
    sqs::{Queue, Queues, Receipt, Received},
    template::Template,
};
use mapping::Mapping;
use settings::Settings;

/// The running event source mappings; dropping them ends them at once.
#[derive(Debug)]
pub struct Mappings {
    loops: JoinSet<()>,
    /// With the function that each is for.
    queues: Vec<(String, Arc<Queue>)>,
    stop: watch::Sender<bool>,
    /// By logical id of the function.
    enabled: BTreeMap<String, watch::Sender<bool>>,
}

/// What goes wrong between a queue and a function, decided batch by batch. All of it is what SQS and Lambda may do.
pub trait Disturbance: std::fmt::Debug + Send + Sync {
    /// The event of a second delivery of the batch, at the same time.
    fn deliver_again(&self, function: &str, event: &Bytes) -> Option<Bytes>;
    /// How the second delivery ended.
    fn delivered_again(&self, answer: &Result<Bytes, InvokeError>);
    /// The answer as it arrives.
    fn answer(&self, function: &str, answer: Result<Bytes, InvokeError>) -> Result<Bytes, InvokeError>;
    /// Takes out those acknowledgements that are lost.
    fn acknowledge(&self, function: &str, done: &mut Vec<Receipt>);
}

/// Starts a mapping for every event of type `SQS` of every function.
///
/// # Errors
/// An event with an unknown queue, or with properties AWS would refuse.
pub fn start(
    template: &Template,
    queues: &Arc<Queues>,
    functions: &Arc<Functions>,
    disturbance: Option<&Arc<dyn Disturbance>>,
) -> anyhow::Result<Mappings> {
    start_with(template, queues, functions, disturbance, None)
}

/// As [`start`]; `concurrency` takes the place of each `MaximumConcurrency`, also where AWS would refuse it: 1.
///
/// # Errors
/// Those of [`start`].
pub fn start_with(
    template: &Template,
    queues: &Arc<Queues>,
    functions: &Arc<Functions>,
    disturbance: Option<&Arc<dyn Disturbance>>,
    concurrency: Option<u64>,
) -> anyhow::Result<Mappings> {
    let mut mappings = Mappings {
        loops: JoinSet::new(),
        queues: Vec::new(),
        stop: watch::Sender::new(false),
        enabled: BTreeMap::new(),
    };
    for function in template.of_kind("AWS::Serverless::Function") {
        for (name, event) in function.properties["Events"].as_object().into_iter().flatten() {
            if event["Type"] != "SQS" || event["Properties"]["Enabled"] == Value::Bool(false) {
                continue;
            }
            let path = || format!("{}.Events.{name}", function.id);
            let mut settings = Settings::of(function, &event["Properties"]).with_context(path)?;
            settings.concurrency_max = concurrency.or(settings.concurrency_max);
            let arn = event["Properties"]["Queue"].as_str().unwrap_or_default();
            let queue = queues.get(arn).with_context(|| format!("{}: there is no queue {arn:?}", path()))?;
            settings.warn_of_short_visibility(&queue);
            mappings.queues.push((function.id.clone(), Arc::clone(&queue)));
            let mapping = Mapping::new(settings, queue, Arc::clone(functions), disturbance.cloned());
            let enabled =
                mappings.enabled.entry(function.id.clone()).or_insert_with(|| watch::Sender::new(true));
            mappings.loops.spawn(mapping.run(mappings.stop.subscribe(), enabled.subscribe()));
        }
    }
    Ok(mappings)
}

/// The event that these messages make together, as far as they fit into one.
pub fn event_of(messages: &[Received], queue_arn: &str) -> Bytes {
    let mut batch = batch::Batch::new(queue_arn, 0);
    let _fitting = messages.iter().take_while(|message| batch.push(message)).count();
    batch.into_parts().0
}

impl Mappings {
    /// Waits until the mapped queues are empty: nothing visible, in flight or delayed.
    ///
    /// A failing function empties a queue only by its DLQ or the messages' retention: put a deadline on this.
    pub async fn drained(&self) {
        for (_, queue) in &self.queues {
            queue.emptied().await;
        }
    }

    /// Enables (`true`) or disables every mapping to the function of this logical id, as `UpdateEventSourceMapping` does.
    /// Batches that run go on. `None`: nothing is mapped to it.
    pub fn switch(&self, function: &str) -> Option<watch::Sender<bool>> {
        self.enabled.get(function).cloned()
    }

    /// Leaves a function's queues out of what [`Mappings::drained`] waits for.
    pub fn leave_out(&mut self, function: &str) {
        self.queues.retain(|(of, _)| of != function);
    }

    /// Starts no more batches and waits for those that run; other messages stay in their queues.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.loops.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests;
