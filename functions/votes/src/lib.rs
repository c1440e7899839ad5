//! The votes function: judges a batch of the queue's messages, counts the votes in the ledger, raises the ranking.
//!
//! Invariant: a message is acknowledged after the commit that decided it, never before. If an earlier step fails, SQS
//! delivers the batch again, and it is counted as on the first delivery. If only the ranking fails, the votes are
//! counted, and the ranking is repaired at the next load of its poll.
//!
//! To add a reason for a rejection: add a `Rejection` and its check to `judge` in `shared/domain`; nothing changes
//! here.

mod arrival;
mod crash;
mod definitions;
mod lag;
mod record;
mod repeats;
mod voters;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use aws_lambda_events::sqs::SqsBatchResponse;
use domain::{Message, PollId, Rejection, Tally, VoterHasher, judge};
use lambda_runtime::{Diagnostic, LambdaEvent};
use ledger::{Batch, Counted, Outcome};
use ranking::VotersUpdate;
use runtime::{
    Clock, Retry,
    environment::{self, Reader},
    telemetry::{BatchMetrics, error_chain},
};
use stores::Stores;
use tokio::time::timeout;

pub use record::Event;

use crate::{
    arrival::{Announcer, Arrival},
    crash::{CrashPoints, Point},
    definitions::{Definitions, polls_in},
    lag::RankingLag,
    record::Record,
    repeats::Repeats,
    voters::UnsentVoters,
};

/// Maximum number of times that a batch is judged. A definition may change while a batch is judged by it. So many
/// changes in a row, each within the few milliseconds of an attempt, indicate a defect.
const JUDGEMENTS_MAX: usize = 5;

/// An error that leaves the whole batch in the queue. No vote is lost: SQS delivers the batch again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger could not be reached, or did not answer.
    #[error("batch not counted")]
    Ledger(#[from] ledger::Error),
    /// The batch exceeded its deadline, which ends before Lambda's timeout: Lambda would report no cause.
    #[error("batch not counted within {0:?}")]
    BatchTimeout(Duration),
    /// Definitions kept changing.
    #[error("poll definitions changed {JUDGEMENTS_MAX} times while the batch was judged")]
    DefinitionsKeptChanging,
    /// The event has another format, which only a defect can cause.
    #[error("the event is not an SQS event")]
    Event(#[from] serde_json::Error),
}

impl Error {
    /// Returns whether a retry may help. SQS delivers the batch again in any case; only an outage ends by itself.
    fn retry(&self) -> Retry {
        match self {
            Self::Ledger(error) => error.retry(),
            Self::BatchTimeout(_) => Retry::Later,
            Self::DefinitionsKeptChanging | Self::Event(_) => Retry::Never,
        }
    }
}

/// The error that Lambda reports. The cause has been logged.
impl From<Error> for Diagnostic {
    fn from(error: Error) -> Self {
        let error_type = if error.retry().is_transient() { "BatchNotCounted" } else { "Defect" };
        Self { error_type: error_type.to_owned(), error_message: error.to_string() }
    }
}

/// The function's handler, built once at start.
#[derive(Debug)]
pub struct Handler {
    stores: Stores,
    hasher: VoterHasher,
    definitions: Definitions,
    announcer: Announcer,
    batch_timeout: Duration,
    metrics_namespace: String,
    crash_points: CrashPoints,
    clock: Clock,
    lag: RankingLag,
    repeats: Repeats,
    unsent_voters: UnsentVoters,
}

impl Handler {
    /// Reads the configuration through `lookup` and prepares the clients without connecting.
    ///
    /// # Errors
    /// Every error in the configuration.
    pub fn new(lookup: &dyn Fn(&str) -> Option<String>, clock: Clock) -> Result<Self, environment::Error> {
        let mut reader = Reader::new(lookup);
        let stores = Stores::read(&mut reader, &clock).zip(reader.parsed("VOTER_HASH_KEY"));
        let rest = reader.parsed("BATCH_TIMEOUT_MS").zip(reader.text("METRICS_NAMESPACE"));
        let ((stores, hasher), (batch_timeout_ms, metrics_namespace)) = reader.finish(stores.zip(rest))?;
        let definitions = Definitions::new(stores.catalog.clone());
        let announcer = Announcer::new(stores.ranking.clone());
        let batch_timeout = Duration::from_millis(batch_timeout_ms);
        let crash_points = CrashPoints::read(lookup);
        Ok(Self {
            stores,
            hasher,
            definitions,
            announcer,
            batch_timeout,
            metrics_namespace,
            crash_points,
            lag: RankingLag::default(),
            repeats: Repeats::default(),
            unsent_voters: UnsentVoters::default(),
            clock,
        })
    }

    /// Counts one batch. With cached definitions this takes two round trips, one to PostgreSQL and one to Redis. The
    /// batch's announcement is sent in the background.
    ///
    /// Idempotent. The answer names no failed record: either every record has an outcome, or none has. Records that
    /// no retry can help are rejected.
    ///
    /// # Errors
    /// SQS must deliver the whole batch again.
    pub async fn handle(&self, event: LambdaEvent<Event>) -> Result<SqsBatchResponse, Error> {
        let started = Instant::now();
        let announcement = self.announcer.announce();
        let records = event.payload.records().inspect_err(|error| {
            tracing::error!(error = error_chain(error), "event.unreadable");
        })?;
        let redelivered = records.iter().any(Record::is_redelivered);
        let mut arrival = Arrival { announcement, probes: Vec::new(), redelivered };
        let arrived = self.clock.now();
        let mut messages = Vec::with_capacity(records.len());
        let mut without_id = 0;
        for record in &records {
            if let Some(probe) = record.probe(&self.hasher) {
                arrival.probes.push(probe);
            } else if let Some(message) = record.message(&self.hasher, arrived) {
                messages.push(message);
            } else {
                without_id += 1;
            }
        }
        if without_id > 0 {
            // They cannot be recorded, and only a defect can have put them into the queue.
            tracing::error!(records = without_id, "record.nameless");
        }
        let outcome = self.count_and_raise(&messages, &mut arrival).await.inspect_err(|error| {
            let defect = !error.retry().is_transient();
            tracing::error!(error = error_chain(error), received = records.len(), defect, "batch.failed");
        })?;
        // A batch of probes alone has no votes to report.
        if arrival.probes.len() < records.len() {
            self.report(outcome, &messages, without_id, started);
        }
        Ok(SqsBatchResponse::default())
    }

    async fn count_and_raise(&self, messages: &[Message], arrival: &mut Arrival) -> Result<Done, Error> {
        let unannounced = self.announcer.take_failure();
        // Each call has a timeout, but the number of calls grows when definitions change meanwhile.
        let counting = timeout(self.batch_timeout, self.count(messages, arrival, unannounced));
        let counted = counting.await.unwrap_or(Err(Error::BatchTimeout(self.batch_timeout)));
        let (counted, judged, totals, mut voters) =
            counted.inspect_err(|_| self.announcer.restore_failure(unannounced))?;
        self.crash_points.pass(Point::Committed);
        let handled = messages.len() as u64;
        arrival.announcement.sent().await;
        let batch = arrival.announcement.batch;
        self.unsent_voters.move_into(&mut voters);
        let raising = self.stores.ranking.raise_batch(&totals, &voters, batch, handled);
        let raised = self.crash_points.within(Point::Raising, raising).await;
        self.crash_points.pass(Point::Raised);
        if let Err(error) = &raised {
            tracing::warn!(error = error_chain(error), "ranking.not_raised");
            self.unsent_voters.keep(voters);
        }
        Ok(Done { counted, judged, raised: raised.is_ok() })
    }

    /// Judges and counts the batch, and repeats both when a definition has changed meanwhile.
    async fn count(
        &self,
        messages: &[Message],
        arrival: &Arrival,
        unannounced: bool,
    ) -> Result<(Counted, u64, Totals, VotersUpdate), Error> {
        let ids = polls_in(messages);
        let mut polls = self.definitions.find(&ids).await?;
        for _ in 0..JUDGEMENTS_MAX {
            let mut batch = self.judged(messages, &polls);
            arrival.add_to(&mut batch, unannounced);
            batch.expect_repeats(self.repeats.are_expected());
            self.crash_points.pass(Point::Judged);
            let counting = self.crash_points.within(Point::Counting, self.stores.ledger.count(&batch));
            if let Outcome::Counted(mut counted) = counting.await? {
                self.repeats.record(counted.counted < batch.casts());
                let voters = voters::update(&counted, batch.voters(), &batch.taps());
                let totals = std::mem::take(&mut counted.tallies).into_iter();
                let epoch = |id| polls.get(&id).and_then(Option::as_ref).map_or(0, |poll| poll.epoch);
                let totals = totals.map(|(id, tally)| ((id, epoch(id)), tally)).collect();
                return Ok((counted, batch.len() as u64, totals, voters));
            }
            tracing::info!("batch.judged_again");
            polls = self.definitions.reload(&ids).await?;
        }
        Err(Error::DefinitionsKeptChanging)
    }

    fn judged(&self, messages: &[Message], polls: &definitions::Polls) -> Batch {
        let mut batch = Batch::default();
        for (&id, poll) in polls {
            batch.judged_by(id, poll.as_ref().map_or(0, |poll| poll.version));
        }
        for message in messages {
            let poll = definitions::poll_of(message).and_then(|id| polls.get(&id)?.as_deref());
            for outcome in judge(message, poll, &self.hasher) {
                batch.add(message, outcome);
            }
        }
        batch
    }

    /// Prints the batch's metrics, which are also its one log line. `without_id` counts the records that have no
    /// message id and so no row in the ledger.
    fn report(&self, mut done: Done, messages: &[Message], without_id: u64, started: Instant) {
        let at = self.clock.now();
        let oldest = messages.iter().map(|message| message.sent_at).min().unwrap_or(at);
        let received = done.judged + without_id;
        if without_id > 0 {
            *done.counted.rejected.entry(Rejection::Unreadable.name().to_owned()).or_default() += without_id;
        }
        let rejected: u64 = done.counted.rejected.values().sum();
        let metrics = BatchMetrics {
            namespace: &self.metrics_namespace,
            at,
            received,
            counted: done.counted.counted,
            duplicate: received - done.counted.counted - rejected,
            rejected: &done.counted.rejected,
            duration: started.elapsed(),
            ranking_lag: self.lag.record(oldest, done.raised, at),
        };
        for line in metrics.lines() {
            println!("{line}");
        }
    }
}

/// Absolute totals by poll and epoch.
type Totals = BTreeMap<(PollId, i32), Tally>;

/// The outcome of a batch that is in the ledger.
#[derive(Default)]
struct Done {
    counted: Counted,
    /// Votes of its messages, and malformed messages.
    judged: u64,
    raised: bool,
}
