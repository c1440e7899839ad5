//! Emulates Lambda's event source mappings: from a queue to a function, in batches.
//!
//! Invariants: a message is deleted only after the function has processed it successfully; in any other case it
//! becomes visible again when its visibility timeout ends.
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

/// The running event source mappings; they end at once on drop.
#[derive(Debug)]
pub struct Mappings {
    tasks: JoinSet<()>,
    /// The mapped queues, each with the logical id of its function.
    queues: Vec<(String, Arc<Queue>)>,
    stop: watch::Sender<bool>,
    /// The `Enabled` switches, by logical id of the function.
    enabled: BTreeMap<String, watch::Sender<bool>>,
}

/// Fault injection between a queue and a function, decided for each batch. SQS and Lambda may do all of this.
pub trait Disturbance: std::fmt::Debug + Send + Sync {
    /// Returns the event of a concurrent second delivery of the batch; `None`: no second delivery.
    fn deliver_again(&self, function: &str, event: &Bytes) -> Option<Bytes>;
    /// Receives the result of the second delivery.
    fn delivered_again(&self, answer: &Result<Bytes, InvokeError>);
    /// Returns the response as the mapping receives it.
    fn answer(&self, function: &str, answer: Result<Bytes, InvokeError>) -> Result<Bytes, InvokeError>;
    /// Removes the acknowledgements that get lost.
    fn acknowledge(&self, function: &str, done: &mut Vec<Receipt>);
}

/// Starts a mapping for each event of type `SQS` of each function.
///
/// # Errors
/// An event with an unknown queue, or with properties that AWS refuses.
pub fn start(
    template: &Template,
    queues: &Arc<Queues>,
    functions: &Arc<Functions>,
    disturbance: Option<&Arc<dyn Disturbance>>,
) -> anyhow::Result<Mappings> {
    start_with(template, queues, functions, disturbance, None)
}

/// Starts like [`start`]. `concurrency` overrides each `MaximumConcurrency`, even with 1, which AWS refuses.
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
        tasks: JoinSet::new(),
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
            mappings.tasks.spawn(mapping.run(mappings.stop.subscribe(), enabled.subscribe()));
        }
    }
    Ok(mappings)
}

/// Builds one event of the messages, up to Lambda's payload limit.
pub fn event_of(messages: &[Received], queue_arn: &str) -> Bytes {
    let mut batch = batch::Batch::new(queue_arn, 0);
    let _fitting = messages.iter().take_while(|message| batch.push(message)).count();
    batch.into_parts().0
}

impl Mappings {
    /// Waits until the mapped queues are empty: no message visible, in flight or delayed.
    ///
    /// The queue of a failing function drains only through its DLQ or the retention period: use a timeout.
    pub async fn drained(&self) {
        for (_, queue) in &self.queues {
            queue.emptied().await;
        }
    }

    /// Returns the switch that enables (`true`) or disables every mapping of a function, like
    /// `UpdateEventSourceMapping`. Running batches continue. `None`: the function has no mapping.
    pub fn switch(&self, function: &str) -> Option<watch::Sender<bool>> {
        self.enabled.get(function).cloned()
    }

    /// Excludes a function's queues from [`Mappings::drained`].
    pub fn leave_out(&mut self, function: &str) {
        self.queues.retain(|(of, _)| of != function);
    }

    /// Stops the mappings and waits for running batches; all other messages stay in their queues.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests;
