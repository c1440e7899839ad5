//! Injects faults between the queue and the votes function: in deliveries, answers, acknowledgements and processes.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    driver::now_ms,
    fault::{CRASH_POINTS, Fault, Record, crash_label},
};
use emulator::{
    event_source::Disturbance,
    lambda::{EnvironmentHook, InvokeError},
    sqs::Receipt,
};

/// The function that counts votes.
pub const VOTES: &str = "VotesFunction";

/// Probability that an active fault affects a batch.
const HIT_PERCENT: u32 = 50;

/// An invalid environment variable with which a votes process cannot start.
const BROKEN: [&str; 2] = ["BATCH_TIMEOUT_MS", "soon"];

/// Maximum clock skew of a process, in either direction.
const SKEW_MS_MAX: i64 = 3_600_000;
/// The same for a function that signs requests: S3 refuses one that is signed 15 minutes too early or too late.
const SIGNED_SKEW_MS_MAX: i64 = 10 * 60 * 1_000;

/// The active faults of deliveries and processes.
#[derive(Debug)]
pub struct Deliveries {
    record: Arc<Record>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rng: fastrand::Rng,
    on: Option<Fault>,
    /// Crash point for the next votes process.
    crash: Option<(&'static str, String)>,
    /// Whether votes processes that start now are of a release that cannot start.
    is_broken: bool,
    /// Moments of failed batches, in ms since 1970; their messages are redelivered.
    failures_ms: Vec<i64>,
}

impl Deliveries {
    /// Starts without an active fault except [`Fault::Clock`].
    pub fn new(seed: u64, record: Arc<Record>) -> Arc<Self> {
        let rng = fastrand::Rng::with_seed(!seed);
        Arc::new(Self {
            record,
            state: Mutex::new(State {
                rng,
                on: None,
                crash: None,
                is_broken: false,
                failures_ms: Vec::new(),
            }),
        })
    }

    /// Activates a fault, or none.
    pub fn set(&self, fault: Option<Fault>) {
        self.lock().on = fault;
    }

    /// Makes every new votes process fail at start, or not.
    pub fn set_broken(&self, is_broken: bool) {
        self.lock().is_broken = is_broken;
    }

    /// Sets the crash point of the next votes process, or none.
    pub fn arm(&self, crash: Option<(&'static str, String)>) {
        self.lock().crash = crash;
    }

    /// Returns the moments at which batches failed or were not acknowledged, in ms since 1970, ascending.
    pub fn failures_ms(&self) -> Vec<i64> {
        self.lock().failures_ms.clone()
    }

    fn note_failure(&self, function: &str) {
        if function == VOTES {
            self.lock().failures_ms.push(now_ms());
        }
    }

    /// Decides whether the fault affects this batch, and records it if so.
    fn hits(&self, function: &str, fault: Fault) -> bool {
        let mut state = self.lock();
        let hits = function == VOTES && state.on == Some(fault) && state.rng.u32(0..100) < HIT_PERCENT;
        if hits && fault != Fault::Duplicate {
            self.record.add(&fault.name());
        }
        hits
    }

    fn note_crash(&self, answer: &Result<Bytes, InvokeError>) {
        let Err(InvokeError::Crashed(reason)) = answer else { return };
        if self.lock().is_broken {
            self.record.add(&Fault::VotesBroken.name());
        }
        for point in CRASH_POINTS {
            // A process prints this line last, when it dies at its crash point.
            if reason.ends_with(&format!("crash point {point}")) {
                self.record.add(&crash_label(point));
            }
        }
    }

    fn bad_answer(&self) -> Bytes {
        const WHOLE_BATCH: [&str; 6] = [
            r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
            r#"{"batchItemFailures":[{"messageId":"x"}]}"#,
            r#"{"batchItemFailures":["#,
            r#"{"batchFailures":[]}"#,
            r#""done""#,
        ];
        let mut state = self.lock();
        match state.rng.usize(0..=WHOLE_BATCH.len()) {
            index if index < WHOLE_BATCH.len() => Bytes::from_static(WHOLE_BATCH[index].as_bytes()),
            _ => {
                let unknown = Uuid::from_u128(state.rng.u128(..));
                json!({"batchItemFailures": [{"itemIdentifier": unknown}]}).to_string().into()
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disturbance for Deliveries {
    /// Returns the same messages in another order, so that two processes lock the same rows from both ends.
    fn deliver_again(&self, function: &str, event: &Bytes) -> Option<Bytes> {
        if !self.hits(function, Fault::Duplicate) {
            return None;
        }
        let mut event: Value = serde_json::from_slice(event).ok()?;
        let records = event.get_mut("Records")?.as_array_mut()?;
        self.lock().rng.shuffle(records);
        Some(event.to_string().into())
    }

    fn delivered_again(&self, answer: &Result<Bytes, InvokeError>) {
        self.note_crash(answer);
        if !matches!(answer, Err(InvokeError::Throttled)) {
            self.record.add(&Fault::Duplicate.name());
        }
    }

    fn answer(&self, function: &str, answer: Result<Bytes, InvokeError>) -> Result<Bytes, InvokeError> {
        if function == VOTES {
            self.note_crash(&answer);
        }
        let is_corrupted = answer.is_ok() && self.hits(function, Fault::BadResponse);
        if answer.is_err() || is_corrupted {
            self.note_failure(function);
        }
        if is_corrupted { Ok(self.bad_answer()) } else { answer }
    }

    fn acknowledge(&self, function: &str, done: &mut Vec<Receipt>) {
        if done.is_empty() || !self.hits(function, Fault::LostAck) {
            return;
        }
        self.note_failure(function);
        let mut state = self.lock();
        if state.rng.bool() {
            done.clear();
        } else {
            // The other messages are redelivered in other batches.
            done.retain(|_| state.rng.bool());
        }
    }
}

impl EnvironmentHook for Deliveries {
    fn environment(&self, function: &str) -> Vec<(String, String)> {
        let mut environment = Vec::new();
        let mut state = self.lock();
        if self.record.is_requested(Fault::Clock) {
            let max = if function == VOTES { SKEW_MS_MAX } else { SIGNED_SKEW_MS_MAX };
            let skew_ms = state.rng.i64(-max..=max);
            environment.push(("CLOCK_SKEW_MS".to_owned(), skew_ms.to_string()));
            self.record.add(&Fault::Clock.name());
        }
        if function == VOTES && state.is_broken {
            environment.push(BROKEN.map(str::to_owned).into());
        }
        if function == VOTES
            && let Some((point, how)) = state.crash.take()
        {
            environment.push(("CRASH_POINT".to_owned(), format!("{point}:{how}")));
        }
        environment
    }
}
