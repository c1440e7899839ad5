//! `functions/results`: what it observes of a closed poll, and when it certifies.
//!
//! Time is not in the model, so two assumptions about it are:
//! - A probe does not overtake a vote that was sent before it and that nobody has received yet. Of one probe that would be
//!   too much to ask of a standard queue; the code sends twenty, and all are decided. A message that the queue withholds
//!   by itself ([`Step::Withhold`](crate::step::Step::Withhold)) is not covered: see [`Certification::excused`].
//! - A sign grows old only when each batch that had failed before it has been delivered again and has ended:
//!   `CERTIFY_SIGN_SECONDS` is longer than that takes, as long as messages are delivered at all.
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
    /// What is bound to happen until the poll is certified.
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
        if self.signs_can_age(state) {
            steps.push(Step::SignsAge);
        }
        if self.may_certify(state) {
            steps.push(Step::Certify);
        }
    }

    /// Whether nothing that was sent before the probes and that nobody has received is still in the queue.
    fn probes_can_be_decided(&self, state: &State) -> bool {
        let Certification { probes_decided, stopped, delivered, withheld, .. } = state.certification;
        let ahead = state.queue.waiting.without(delivered).without(withheld);
        !probes_decided && !stopped && ahead.is_empty()
    }

    /// Whether each batch that had failed before the latest sign has come again and ended.
    fn signs_can_age(&self, state: &State) -> bool {
        let Certification { stopped, delivered, withheld, again, .. } = state.certification;
        let may_come_again = state.queue.waiting.without(withheld).overlaps(delivered);
        let is_long_under_way = |worker: &Worker| {
            worker.phase != Phase::Idle
                && (worker.batch().overlaps(again)
                    || matches!(worker.announcement, Announcement::Failed | Announcement::Wiped))
        };
        let has_ended = !may_come_again && !state.workers.iter().any(is_long_under_way);
        // While nothing is delivered, the next probe of the series is missing: that is a young sign.
        let is_watched = !self.has(Mutation::ProbesEndAfterTheClose);
        state.has_sign() && if stopped { !is_watched } else { has_ended }
    }

    /// `Observation::judge` in `shared/domain/src/evidence.rs`, then the fence.
    fn may_certify(&self, state: &State) -> bool {
        let certification = &state.certification;
        let is_evident = if self.has(Mutation::CertifiesOnQuiet) {
            certification.quiet
        } else {
            let needed = |worker: &Worker| worker.announcement == Announcement::Needed;
            let decided = certification.probes_decided || self.has(Mutation::CertifiesWithoutProbes);
            let has_sign = state.has_sign() && !self.has(Mutation::IgnoresSigns);
            decided && !has_sign && !state.redis.away && !state.workers.iter().any(needed)
        };
        is_evident && self.is_fence_free(state)
    }

    /// Does what one of these steps does.
    pub fn take_certification(&self, state: &mut State, step: Step) {
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
            Step::SignsAge => {
                self.witness.note_if(certification.orphaned, Event::AnnouncementGrewOld);
                certification.signed = false;
                certification.orphaned = false;
                state.ledger.signed = false;
                state.on_disk = state.ledger;
            }
            _ => self.certify(state),
        }
    }

    /// One step for their delivery, their transaction, its way to the disk, and their acknowledgement: a probe in a batch
    /// with votes is decided when they are counted, and one whose batch fails is decided later.
    fn decide_probes(&self, state: &mut State) {
        state.certification.probes_decided = true;
        state.on_disk = state.ledger;
        for worker in &mut state.workers {
            if worker.announcement == Announcement::There {
                worker.announcement = Announcement::Needed;
            }
        }
    }

    /// `Ledger::freeze`: behind the fence, with a new version.
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

    /// The announcement of a batch that has just been delivered.
    pub fn announce(&self, state: &mut State, worker: usize) {
        let certification = &mut state.certification;
        if !certification.is_due {
            return;
        }
        let batch = state.workers[worker].batch();
        certification.again =
            certification.again.union(batch.without(batch.without(certification.delivered)));
        certification.delivered = certification.delivered.union(batch);
        if state.redis.away {
            certification.excused = certification.excused.union(batch);
            state.workers[worker].announcement = Announcement::Failed;
            return;
        }
        if !certification.probes_decided {
            // From now on the announcement keeps the certificate waiting for it.
            certification.excused = certification.excused.without(batch);
        }
        state.workers[worker].announcement = Announcement::There;
    }

    /// What a batch's transaction writes of signs, with the votes.
    pub fn sign(&self, state: &mut State, batch: Set, announcement: Announcement) {
        if !state.certification.is_due {
            return;
        }
        let is_sign = batch.overlaps(state.certification.again) || announcement == Announcement::Failed;
        state.ledger.signed |= is_sign;
    }

    /// The announcement of a batch that is given up stays, if it ever came: it is a sign.
    pub fn leave_announcement(&self, state: &mut State, worker: usize) {
        let announcement = std::mem::take(&mut state.workers[worker].announcement);
        let was_there = matches!(announcement, Announcement::There | Announcement::Needed);
        state.certification.orphaned |= was_there && !self.has(Mutation::FailsUnannounced);
    }

    /// Nobody takes back the announcement of a batch that is counted: Redis did not get the totals either.
    pub fn forget_announcement(&self, state: &mut State, worker: usize) {
        let announcement = std::mem::take(&mut state.workers[worker].announcement);
        state.certification.orphaned |= matches!(announcement, Announcement::There | Announcement::Needed);
    }

    /// Redis has lost the announcements, and knows since when it has data.
    pub fn lose_announcements(&self, state: &mut State) {
        let certification = &mut state.certification;
        if !certification.is_due {
            return;
        }
        certification.orphaned = false;
        certification.signed |= !self.has(Mutation::FlushIsNoSign);
        for worker in &mut state.workers {
            if matches!(worker.announcement, Announcement::There | Announcement::Needed) {
                worker.announcement = Announcement::Wiped;
            }
        }
    }
}
