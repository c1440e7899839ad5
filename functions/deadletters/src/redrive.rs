//! Dead letters go back to the votes' queue: sent first, deleted then. Dying in between leaves a vote in both queues,
//! which counts once all the same: its id and its moment are those of its first casting.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde::Serialize;

use crate::{
    dead_letter::DeadLetter,
    queues::{CALL_MESSAGES_MAX, CALL_TIMEOUT, Error, Queues},
};

/// Dead letters moved in one request; whoever has more asks again.
const MOVED_MAX: u64 = 20_000;

/// A request begins no further round after this. A round is three calls and the final count one more, so an answer
/// takes at most 12 s + 4 x [`CALL_TIMEOUT`], which is less than the function's Timeout of 29 s.
const TIME: Duration = Duration::from_secs(12);
const _: () = assert!(TIME.as_secs() + 4 * CALL_TIMEOUT.as_secs() < 29);

/// Rounds under way at a time.
const WORKERS: usize = 10;

/// Hides what is being moved from other requests for as long as one may last. What could not be moved is seen again
/// after it.
const HIDDEN: Duration = Duration::from_secs(30);

/// The answer.
#[derive(Debug, Serialize)]
pub struct Redriven {
    /// Sent back.
    pub moved: u64,
    /// Left where they are, because the votes' queue did not take them; the reason is in the function's log.
    pub failed: u64,
    /// Still there, as SQS estimates them.
    pub remaining: u64,
}

/// What the workers of one request have in common.
struct Work<'a> {
    queues: &'a Queues,
    started: Instant,
    moved: AtomicU64,
    failed: AtomicU64,
}

/// Moves what is there, up to [`MOVED_MAX`] and [`TIME`].
///
/// # Errors
/// When SQS does not answer and nothing was moved.
pub async fn redrive(queues: &Queues) -> Result<Redriven, Error> {
    let work = Work { queues, started: Instant::now(), moved: AtomicU64::new(0), failed: AtomicU64::new(0) };
    let workers = join_all((0..WORKERS).map(|_| work.worker())).await;
    let (moved, failed) = (work.moved.into_inner(), work.failed.into_inner());
    if let Some(error) = workers.into_iter().find_map(Result::err) {
        if moved == 0 {
            return Err(error);
        }
        tracing::error!(error = &error as &dyn std::error::Error, "dead_letters.redriven_in_part");
    }
    let remaining = queues.dead_letters().await?;
    Ok(Redriven { moved, failed, remaining })
}

impl Work<'_> {
    async fn worker(&self) -> Result<(), Error> {
        while self.started.elapsed() < TIME && self.moved.load(Ordering::Relaxed) < MOVED_MAX {
            let received = self.queues.receive(HIDDEN).await?;
            if received.is_empty() {
                break;
            }
            let letters: Vec<_> = self.queues.letters(received).collect();
            self.send_back(&letters).await?;
        }
        Ok(())
    }

    async fn send_back(&self, letters: &[DeadLetter]) -> Result<(), Error> {
        debug_assert!(letters.len() <= CALL_MESSAGES_MAX);
        let entries = letters.iter().enumerate().map(|(index, letter)| self.queues.sent_back(letter, index));
        let sent = self.queues.send(entries.collect::<Result<_, _>>()?).await?;
        let sent: Vec<_> = sent.iter().filter_map(|id| letters.get(id.parse::<usize>().ok()?)).collect();
        self.failed.fetch_add((letters.len() - sent.len()) as u64, Ordering::Relaxed);
        if !sent.is_empty() {
            let receipts: Vec<_> = sent.iter().map(|letter| letter.receipt.as_str()).collect();
            self.queues.delete(&receipts).await?;
            self.moved.fetch_add(sent.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}
