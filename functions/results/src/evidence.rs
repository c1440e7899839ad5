//! Observes the voting pipeline and sends probes through it. [`Observation`] decides what follows from the evidence.

use std::time::Duration;

use domain::{Counting, Observation, Poll, ProbeId, Sign, Timestamp, attribute};
use futures_util::future::join_all;
use ranking::{Backlog, Batches};
use runtime::telemetry::{Condition, error_chain};
use tokio::time::Instant;

use crate::Handler;

/// Tolerance between the clocks of the ledger, Redis and this function. Moments closer together count as
/// simultaneous.
const CLOCK_SKEW: Duration = Duration::from_secs(2);

impl Handler {
    /// Observes the pipeline, then sends the probes that are due.
    ///
    /// # Errors
    /// The ledger does not answer. Missing answers of Redis and the queue are part of the observation.
    pub(crate) async fn observe_and_probe(&self, polls: &[Poll]) -> Result<Observation, ledger::Error> {
        let observation = self.observe().await?;
        let is_stopped = matches!(observation.counting(self.policy), Counting::Stopped(_));
        self.report(Condition::CountingStopped, is_stopped);
        let closes = polls.iter().filter_map(|poll| crate::certify::closed_at(poll, observation.now));
        let due = observation.probes_due(closes);
        if due > 0 {
            self.send_probes(due, observation.handled).await?;
        }
        Ok(observation)
    }

    async fn observe(&self) -> Result<Observation, ledger::Error> {
        let mut observation = self.certifying.observe(self.policy.kept()).await?;
        // Redis and the queue are read after the ledger. So a batch that began before the probes were read is
        // visible, unless it has ended, and the queue's count includes no probe that the ledger lacks.
        let read_at = Instant::now();
        let batches = self.stores.ranking.batches(self.policy.kept());
        let (batches, queued) = tokio::join!(batches, self.aws.queued(&self.queue_url));
        let now = observation.now.saturating_add(read_at.elapsed());
        self.add_batches(&mut observation, batches, now).await?;
        match queued {
            Ok(queued) => observation.queued = Some(queued),
            Err(error) => tracing::warn!(error = error_chain(&error), "queue.unavailable"),
        }
        self.publish_backlog(observation.votes_queued()).await;
        Ok(observation)
    }

    /// Adds Redis's data on batches to the observation, and records signs of failed batches.
    async fn add_batches(
        &self,
        observation: &mut Observation,
        batches: Result<Batches, ranking::Error>,
        now: Timestamp,
    ) -> Result<(), ledger::Error> {
        let batches = match batches {
            Ok(batches) => batches,
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "ranking.unavailable");
                return self.note(observation, Sign::RedisAway, Duration::ZERO, now).await;
            }
        };
        observation.handled = Some(batches.handled);
        observation.outstanding = batches.outstanding.iter().map(|&age| now.saturating_sub(age)).collect();
        if let Some(&age) = batches.outstanding.iter().filter(|&&age| age > self.policy.probe_late).min() {
            self.note(observation, Sign::Announced, age, now).await?;
        }
        // A new Redis has lost data only if batches were announced before it started.
        let whole_since = now.saturating_sub(batches.whole_for + CLOCK_SKEW);
        if batches.whole_for < self.policy.kept()
            && observation.probes.first().is_some_and(|first| first.sent_at < whole_since)
        {
            self.note(observation, Sign::RedisAway, batches.whole_for, now).await?;
        }
        Ok(())
    }

    /// Records a sign in the ledger, unless it is recorded already.
    async fn note(
        &self,
        observation: &mut Observation,
        sign: Sign,
        ago: Duration,
        now: Timestamp,
    ) -> Result<(), ledger::Error> {
        let at = now.saturating_sub(ago);
        let is_known =
            |&(known, seen): &(Sign, Timestamp)| known == sign && seen.saturating_add(CLOCK_SKEW) >= at;
        if !observation.signs.iter().any(is_known) {
            self.certifying.note_sign(sign, ago).await?;
        }
        observation.signs.push((sign, at));
        Ok(())
    }

    /// Sends probes concurrently. A probe that the queue did not accept stays recorded as unsent.
    async fn send_probes(&self, count: usize, handled: Option<u64>) -> Result<(), ledger::Error> {
        let probes = self.certifying.begin_probes(count, handled, self.policy.kept()).await?;
        let sent = join_all(probes.iter().map(|&probe| self.send_probe(probe))).await;
        let sent: Vec<_> = sent.into_iter().flatten().collect();
        self.certifying.probes_sent(&sent).await
    }

    async fn send_probe(&self, probe: ProbeId) -> Option<ProbeId> {
        let signature = probe.sign(&self.hasher).to_string();
        let attributes = [(attribute::PROBE, signature.as_str())];
        let sent = self.aws.send_message(&self.queue_url, &probe.body(), &attributes).await;
        sent.inspect_err(|error| tracing::warn!(error = error_chain(error), "probe.not_sent"))
            .is_ok()
            .then_some(probe)
    }

    /// Writes the queue's length to Redis, for the crew's live figures.
    async fn publish_backlog(&self, votes: Option<u64>) {
        let Some(messages) = votes else { return };
        if let Err(error) =
            self.stores.ranking.keep_backlog(Backlog { messages, as_of: self.clock.now() }).await
        {
            tracing::warn!(error = error_chain(&error), "backlog.not_passed_on");
        }
    }
}
