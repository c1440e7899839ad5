//! The loop of one mapping: gather a batch, invoke the function, delete the successful messages.
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::body::Bytes;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};
use uuid::Uuid;

use super::{
    Disturbance,
    backoff::Backoff,
    batch::Batch,
    concurrency::{Concurrency, Slot},
    response,
    settings::Settings,
};
use crate::{
    lambda::{Functions, InvokeError},
    sqs::{Queue, Receipt, Received, WAIT_MAX},
};

/// Limit on the messages of one receive, to bound the time under the queue's lock.
const RECEIVE_CHUNK_MAX: usize = 1_000;

/// Estimated size of a record in the event, for the buffer's initial capacity: a small message takes around 800.
const RECORD_BYTES_ESTIMATE: usize = 1_024;

/// A queue is quiet if a batching window yields less than this fraction (1/10) of a full batch.
const QUIET_DIVISOR: usize = 10;

#[derive(Debug)]
pub(super) struct Mapping {
    settings: Settings,
    queue: Arc<Queue>,
    queue_arn: String,
    functions: Arc<Functions>,
    disturbance: Option<Arc<dyn Disturbance>>,
    backoff: Backoff,
    /// Whether a batch has failed since the last gathering began.
    has_failed: AtomicBool,
}

impl Mapping {
    pub fn new(
        settings: Settings,
        queue: Arc<Queue>,
        functions: Arc<Functions>,
        disturbance: Option<Arc<dyn Disturbance>>,
    ) -> Arc<Self> {
        let queue_arn = queue.arn();
        let (backoff, has_failed) = (Backoff::default(), AtomicBool::new(false));
        Arc::new(Self { settings, queue, queue_arn, functions, disturbance, backoff, has_failed })
    }

    /// Runs until `stop` becomes true, and then until the last invocation has ended. While `enabled` is false, no
    /// batch is gathered; messages already received for one become visible again when their visibility timeout ends.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>, mut enabled: watch::Receiver<bool>) {
        let concurrency = Concurrency::new(self.settings.concurrency_max);
        let mut invocations = JoinSet::new();
        let mut left_over = Vec::new();
        loop {
            let disabled = becomes_disabled(enabled.clone());
            let next = async {
                // The error means that the switch was dropped: the mapping stays enabled.
                drop(enabled.wait_for(|enabled| *enabled).await);
                self.backoff.wait().await;
                sleep(self.queue.poller_pause(self.has_failed.swap(false, Ordering::Relaxed))).await;
                // The slot is acquired before the receive: a message that waits for a slot loses visibility timeout.
                let slot = concurrency.acquire().await;
                (slot, self.gather(&mut left_over).await)
            };
            let (slot, batch) = tokio::select! {
                // `stop` takes precedence over a batch that is ready at the same time.
                biased;
                // The error means that the mappings were dropped, which ends this task anyway.
                _ = stop.wait_for(|stop| *stop) => break,
                () = disabled => continue,
                next = next => next,
            };
            let (event, deliveries) = batch.into_parts();
            invocations.spawn(Arc::clone(&self).process(slot, event, deliveries));
            while invocations.try_join_next().is_some() {}
        }
        while invocations.join_next().await.is_some() {}
    }

    /// Waits for a message, then for more until the batch is full or the batching window ends.
    pub(super) async fn gather(&self, left_over: &mut Vec<Received>) -> Batch<'_> {
        let mut batch = Batch::new(&self.queue_arn, self.settings.batch_size * RECORD_BYTES_ESTIMATE);
        let mut received = std::mem::take(left_over);
        while received.is_empty() {
            received =
                self.queue.receive(self.settings.batch_size.min(RECEIVE_CHUNK_MAX), None, WAIT_MAX).await;
        }
        let began = Instant::now();
        let mut window = self.settings.window;
        loop {
            let fitting = received.iter().take_while(|message| batch.push(message)).count();
            if fitting < received.len() {
                *left_over = received.split_off(fitting);
                return batch;
            }
            let remaining = self.settings.batch_size - batch.len();
            if remaining == 0 {
                return batch;
            }
            let left = window.saturating_sub(began.elapsed());
            received = self.queue.receive(remaining.min(RECEIVE_CHUNK_MAX), None, left).await;
            if received.is_empty() {
                let is_quiet = batch.len() * QUIET_DIVISOR < self.settings.batch_size;
                let quiet_window = self.queue.quiet_window();
                if !is_quiet || quiet_window <= window {
                    return batch;
                }
                window = quiet_window;
            }
        }
    }

    async fn process(self: Arc<Self>, slot: Slot, event: Bytes, deliveries: Vec<(Uuid, Receipt)>) {
        let answer = self.deliver(event).await;
        drop(slot);
        self.backoff.record(matches!(answer, Err(InvokeError::Throttled)));
        match answer.map_err(|error| error.to_string()).and_then(|answer| self.failed(&answer, &deliveries)) {
            Ok(failed) => {
                self.has_failed.fetch_or(!failed.is_empty(), Ordering::Relaxed);
                let mut done: Vec<Receipt> =
                    deliveries.into_iter().filter(|(id, _)| !failed.contains(id)).map(|(_, r)| r).collect();
                if let Some(disturbance) = &self.disturbance {
                    disturbance.acknowledge(&self.settings.function, &mut done);
                }
                self.queue.delete(&done);
            }
            Err(error) => {
                self.has_failed.store(true, Ordering::Relaxed);
                let (function, messages) = (&self.settings.function, deliveries.len());
                tracing::warn!(function, messages, error, "a batch failed and will be delivered again");
            }
        }
    }

    async fn deliver(&self, event: Bytes) -> Result<Bytes, InvokeError> {
        let function = &self.settings.function;
        let Some(disturbance) = &self.disturbance else {
            return self.functions.invoke(function, event).await;
        };
        let answer = match disturbance.deliver_again(function, &event) {
            None => self.functions.invoke(function, event).await,
            Some(again) => {
                let both = (self.functions.invoke(function, event), self.functions.invoke(function, again));
                let (answer, again) = tokio::join!(both.0, both.1);
                disturbance.delivered_again(&again);
                answer
            }
        };
        disturbance.answer(function, answer)
    }

    fn failed(&self, answer: &[u8], deliveries: &[(Uuid, Receipt)]) -> Result<HashSet<Uuid>, String> {
        if !self.settings.reports_failures {
            return Ok(HashSet::new());
        }
        response::failures(answer, &deliveries.iter().map(|(id, _)| *id).collect())
    }
}

/// Waits until the mapping is enabled and then disabled.
async fn becomes_disabled(mut enabled: watch::Receiver<bool>) {
    let changes = async {
        enabled.wait_for(|enabled| *enabled).await?;
        enabled.wait_for(|enabled| !*enabled).await.map(drop)
    };
    if changes.await.is_err() {
        // The switch was dropped: the mapping stays as it is.
        std::future::pending::<()>().await;
    }
}
