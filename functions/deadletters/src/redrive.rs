//! The redrive: sends dead letters to the votes queue, then deletes them. A crash in between leaves a vote in both
//! queues. Such a vote still counts once, since both copies have the id and the moment of the original.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use runtime::telemetry::error_chain;
use serde::Serialize;

use crate::{
    dead_letter::DeadLetter,
    queues::{CALL_MESSAGES_MAX, CALL_TIMEOUT, Error, Queues},
};

/// Maximum number of dead letters moved in one request; a further request moves more.
const MOVED_MAX: u64 = 20_000;

/// No round begins after this time. A round takes three calls and the final count one more, so a response takes at
/// most 12 s + 4 x [`CALL_TIMEOUT`], which is less than the function's Timeout of 29 s.
const ROUNDS_TIMEOUT: Duration = Duration::from_secs(12);
const _: () = assert!(ROUNDS_TIMEOUT.as_secs() + 4 * CALL_TIMEOUT.as_secs() < 29);

/// Concurrent rounds.
const WORKERS: usize = 10;

/// Visibility timeout of a dead letter in flight: as long as a request may last. A dead letter that was not moved
/// becomes visible again after it.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(30);

/// The response.
#[derive(Debug, Serialize)]
pub struct Redriven {
    /// Dead letters moved to the votes queue.
    pub moved: u64,
    /// Dead letters that the votes queue refused and that stay; the function's log has the reason.
    pub failed: u64,
    /// SQS's estimate of the dead letters left.
    pub remaining: u64,
}

/// The shared state of a request's workers.
struct Work<'a> {
    queues: &'a Queues,
    started: Instant,
    moved: AtomicU64,
    failed: AtomicU64,
}

/// Moves dead letters until the queue is empty, or up to [`MOVED_MAX`] or [`ROUNDS_TIMEOUT`].
///
/// # Errors
/// SQS does not answer: nothing was moved, or the remaining dead letters could not be counted.
pub async fn redrive(queues: &Queues) -> Result<Redriven, Error> {
    let work = Work { queues, started: Instant::now(), moved: AtomicU64::new(0), failed: AtomicU64::new(0) };
    let workers = join_all((0..WORKERS).map(|_| work.worker())).await;
    let (moved, failed) = (work.moved.into_inner(), work.failed.into_inner());
    if let Some(error) = workers.into_iter().find_map(Result::err) {
        if moved == 0 {
            return Err(error);
        }
        tracing::error!(error = error_chain(&error), "dead_letters.redriven_in_part");
    }
    let remaining = queues.count_dead_letters().await?;
    Ok(Redriven { moved, failed, remaining })
}

impl Work<'_> {
    async fn worker(&self) -> Result<(), Error> {
        while self.started.elapsed() < ROUNDS_TIMEOUT && self.moved.load(Ordering::Relaxed) < MOVED_MAX {
            let received = self.queues.receive(VISIBILITY_TIMEOUT).await?;
            if received.is_empty() {
                break;
            }
            let dead_letters: Vec<_> = self.queues.parse(received).collect();
            self.move_to_votes(&dead_letters).await?;
        }
        Ok(())
    }

    async fn move_to_votes(&self, dead_letters: &[DeadLetter]) -> Result<(), Error> {
        debug_assert!(dead_letters.len() <= CALL_MESSAGES_MAX);
        let entries = dead_letters
            .iter()
            .enumerate()
            .map(|(index, dead_letter)| self.queues.redrive_entry(dead_letter, index));
        let sent = self.queues.send(entries.collect::<Result<_, _>>()?).await?;
        let sent: Vec<_> = sent.iter().filter_map(|id| dead_letters.get(id.parse::<usize>().ok()?)).collect();
        self.failed.fetch_add((dead_letters.len() - sent.len()) as u64, Ordering::Relaxed);
        if !sent.is_empty() {
            let receipts: Vec<_> = sent.iter().map(|dead_letter| dead_letter.receipt.as_str()).collect();
            self.queues.delete(&receipts).await?;
            self.moved.fetch_add(sent.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}
