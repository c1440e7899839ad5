//! `functions/results`: its observations of a closed poll, and certification.
//!
//! The model has no time; two assumptions replace it:
//! - A probe does not overtake an undelivered vote that was sent before it. One probe on a standard queue may; the
//!   code sends twenty, and all must be decided. A single withheld message
//!   ([`Step::Withhold`](crate::step::Step::Withhold)) is an exception: see [`Certification::excused`].
//! - A sign expires only after each batch that had failed before it was redelivered and has ended:
//!   `CERTIFY_SIGN_SECONDS` is longer than that, as long as messages are delivered at all.
//!
//! The queue's own counts are left out: they only delay a certificate.

use crate::{
    mutation::Mutation,
    protocol::Protocol,
    scenario::FROZEN,
    set::Set,
    state::{Announcement, Certification, Phase, State, Worker},
    step::Step,
    witness::Event,
};

impl Protocol {
    /// Adds the fair steps towards certification.
    pub fn certification_steps(&self, state: &State, steps: &mut Vec<Step>) {
        let certification = &state.certification;
        if !certification.is_due {
            return;
        }
        if certification.stopped {
            steps.push(Step::Resume);
            if !certification.observed_stop {
                steps.push(Step::ObserveStop);
            }
        }
        if !certification.withheld.is_empty() {
            steps.push(Step::Release);
        }
        if self.probes_can_be_decided(state) {
            steps.push(Step::DecideProbes);
        }
        if self.signs_can_expire(state) {
            steps.push(Step::SignsExpire);
        }
        if self.may_certify(state) {
            steps.push(Step::Certify);
        }
    }

    /// Tells whether the queue has no undelivered message from before the probes.
    fn probes_can_be_decided(&self, state: &State) -> bool {
        let Certification { probes_decided, stopped, delivered, withheld, .. } = state.certification;
        let ahead = state.queue.waiting.without(delivered).without(withheld);
        !probes_decided && !stopped && ahead.is_empty()
    }

    /// Tells whether each batch that had failed before the latest sign was redelivered and has ended.
    fn signs_can_expire(&self, state: &State) -> bool {
        let Certification { stopped, delivered, withheld, redelivered, .. } = state.certification;
        let awaits_redelivery = state.queue.waiting.without(withheld).overlaps(delivered);
        let is_still_running = |worker: &Worker| {
            worker.phase != Phase::Idle
                && (worker.batch().overlaps(redelivered)
                    || matches!(worker.announcement, Announcement::Failed | Announcement::Lost))
        };
        let has_ended = !awaits_redelivery && !state.workers.iter().any(is_still_running);
        // While nothing is delivered, the next probe of the series is missing: that is an unexpired sign.
        let is_watched = !self.has(Mutation::ProbesEndAfterTheClose);
        state.has_sign() && if stopped { !is_watched } else { has_ended }
    }

    /// Evaluates `Observation::judge` (`shared/domain/src/evidence.rs`), then the definition lock.
    fn may_certify(&self, state: &State) -> bool {
        let certification = &state.certification;
        let is_evident = if self.has(Mutation::CertifiesOnQuiet) {
            certification.quiet
        } else {
            let awaited = |worker: &Worker| worker.announcement == Announcement::Awaited;
            let decided = certification.probes_decided || self.has(Mutation::CertifiesWithoutProbes);
            let has_sign = state.has_sign() && !self.has(Mutation::IgnoresSigns);
            decided && !has_sign && !state.redis.down && !state.workers.iter().any(awaited)
        };
        is_evident && self.is_definition_lock_free(state)
    }

    /// Applies a step of certification.
    pub fn apply_certification(&self, state: &mut State, step: Step) {
        let certification = &mut state.certification;
        match step {
            Step::Stop => {
                self.witness.note(Event::Stopped);
                certification.stopped = true;
            }
            Step::Resume => {
                certification.stopped = false;
                certification.observed_stop = false;
            }
            Step::ObserveStop => {
                certification.observed_stop = true;
                certification.quiet = true;
                certification.signed = true;
            }
            Step::Withhold { message } => {
                certification.withheld.insert(message);
                certification.excused.insert(message);
            }
            Step::Release => certification.withheld = Set::EMPTY,
            Step::DecideProbes => self.decide_probes(state),
            Step::SignsExpire => {
                self.witness.note_if(certification.orphaned, Event::AnnouncementExpired);
                certification.signed = false;
                certification.orphaned = false;
                state.ledger.signed = false;
                state.on_disk = state.ledger;
            }
            _ => self.certify(state),
        }
    }

    /// Delivers, commits, flushes and acknowledges the probes in one step: a probe in a batch with votes is decided
    /// when these are counted, and one in a failed batch is decided later.
    fn decide_probes(&self, state: &mut State) {
        state.certification.probes_decided = true;
        state.on_disk = state.ledger;
        for worker in &mut state.workers {
            if worker.announcement == Announcement::Present {
                worker.announcement = Announcement::Awaited;
            }
        }
    }

    /// Freezes the poll as `Ledger::freeze` does: under the definition lock, with a new version.
    fn certify(&self, state: &mut State) {
        let missing = self.verdicts.all().iter().any(|vote| !self.is_counted(state, vote));
        self.witness.note(Event::Certified);
        self.witness.note_if(missing, Event::CertifiedWithoutExcused);
        self.witness.note_if(!state.is_quiet(), Event::CertifiedWhileWorking);
        state.certification =
            Certification { excused: state.certification.excused, ..Certification::default() };
        let definition = &mut state.ledger.polls[0];
        definition.version += 1;
        definition.window = FROZEN;
        state.ledger.signed = false;
        state.on_disk = state.ledger;
        for worker in &mut state.workers {
            worker.announcement = Announcement::None;
        }
    }

    /// Announces a batch that was just delivered.
    pub fn announce(&self, state: &mut State, worker: usize) {
        let certification = &mut state.certification;
        if !certification.is_due {
            return;
        }
        let batch = state.workers[worker].batch();
        certification.redelivered =
            certification.redelivered.union(batch.without(batch.without(certification.delivered)));
        certification.delivered = certification.delivered.union(batch);
        if state.redis.down {
            certification.excused = certification.excused.union(batch);
            state.workers[worker].announcement = Announcement::Failed;
            return;
        }
        if !certification.probes_decided {
            // From now on certification waits for this batch's announcement.
            certification.excused = certification.excused.without(batch);
        }
        state.workers[worker].announcement = Announcement::Present;
    }

    /// Writes a sign together with the votes, in the batch's transaction.
    pub fn sign(&self, state: &mut State, batch: Set, announcement: Announcement) {
        if !state.certification.is_due {
            return;
        }
        let is_sign = batch.overlaps(state.certification.redelivered) || announcement == Announcement::Failed;
        state.ledger.signed |= is_sign;
    }

    /// Leaves the announcement of a failed batch in Redis, where it is a sign.
    pub fn leave_announcement(&self, state: &mut State, worker: usize) {
        let announcement = std::mem::take(&mut state.workers[worker].announcement);
        let was_there = matches!(announcement, Announcement::Present | Announcement::Awaited);
        state.certification.orphaned |= was_there && !self.has(Mutation::FailsUnannounced);
    }

    /// Leaves the announcement of a counted batch whose totals did not reach Redis: the same pipeline would have
    /// removed it.
    pub fn forget_announcement(&self, state: &mut State, worker: usize) {
        let announcement = std::mem::take(&mut state.workers[worker].announcement);
        state.certification.orphaned |= matches!(announcement, Announcement::Present | Announcement::Awaited);
    }

    /// Loses the announcements in Redis. The moment of the loss is known there, so it is a sign.
    pub fn lose_announcements(&self, state: &mut State) {
        let certification = &mut state.certification;
        if !certification.is_due {
            return;
        }
        certification.orphaned = false;
        certification.signed |= !self.has(Mutation::FlushIsNoSign);
        for worker in &mut state.workers {
            if matches!(worker.announcement, Announcement::Present | Announcement::Awaited) {
                worker.announcement = Announcement::Lost;
            }
        }
    }
}
