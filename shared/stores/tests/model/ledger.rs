//! PostgreSQL's part: `count_votes`, changes of a poll and its rebuild.

use crate::{
    mutation::Mutation,
    protocol::Protocol,
    set::Set,
    state::{Call, POLLS, Phase, Pipeline, State, Transaction},
    witness::Event,
};

/// The outcome of starting a call of `count_votes` now.
pub enum CallStart {
    /// The call waits for a row that another transaction has locked.
    Waits,
    /// The batch was judged by an old definition: nothing was done.
    Stale,
    /// The statements have run; the transaction is open.
    Open(Transaction),
}

impl Protocol {
    /// Runs the body of `count_votes` under the shared definition lock.
    ///
    /// Statements of two calls interleave only at locks, and a waiting call is equivalent to a later one: it starts
    /// when no lock is in its way.
    pub fn begin(&self, state: &State, call: Call) -> CallStart {
        if state.is_outdated(call) && !self.has(Mutation::NoVersionCheck) {
            return CallStart::Stale;
        }
        let votes = self.verdicts.votes(call.batch, &call.judged);
        let inserted = self.insert_votes(state, votes);
        let recorded = self.record_rejections(state, call.batch.without(votes), inserted);
        let waits = |other: Transaction| {
            let same_keys = |message: usize| self.verdicts.same_key(message).overlaps(other.inserted);
            let same_tally =
                self.verdicts.polls_in(inserted).overlaps(self.verdicts.polls_in(other.inserted));
            inserted.iter().any(same_keys)
                || recorded.overlaps(other.recorded)
                || same_tally && !self.has(Mutation::TallyApart)
        };
        if state.open().any(waits) {
            return CallStart::Waits;
        }
        let mut totals = [0; POLLS];
        for poll in self.verdicts.polls_in(call.batch).iter() {
            let new = self.verdicts.taps(self.verdicts.of_poll(inserted, poll));
            let before = if self.has(Mutation::Increments) { 0 } else { state.ledger.tally[poll] };
            totals[poll] = before + new;
        }
        CallStart::Open(Transaction { inserted, recorded, totals })
    }

    /// Returns the votes inserted by `INSERT INTO votes … WHERE NOT (look_back AND EXISTS (SELECT FROM rejections
    /// …)) ORDER BY key, cast_at ON CONFLICT DO NOTHING`. The plain insert before it has the same effect or is
    /// rolled back. `look_back` is false only if no message was rejected under an earlier definition; then none of
    /// the votes was.
    fn insert_votes(&self, state: &State, votes: Set) -> Set {
        let mut inserted = Set::EMPTY;
        for message in votes.iter() {
            let rejected = state.ledger.rejected.has(message) && !self.has(Mutation::CountsWhatWasRejected);
            let taken = self.is_counted(state, message) || self.verdicts.same_key(message).overlaps(inserted);
            if !rejected && (!taken || self.has(Mutation::KeyNotUnique)) {
                inserted.insert(message);
            }
        }
        inserted
    }

    /// Returns the rejections recorded by `INSERT INTO rejections … WHERE NOT EXISTS (SELECT FROM votes …) ON
    /// CONFLICT DO NOTHING`.
    fn record_rejections(&self, state: &State, rejections: Set, inserted: Set) -> Set {
        let counted = |message: usize| {
            (self.is_counted(state, message) || self.verdicts.same_key(message).overlaps(inserted))
                && !self.has(Mutation::RejectsWhatWasCounted)
        };
        rejections
            .iter()
            .filter(|&message| !counted(message) && !state.ledger.rejected.has(message))
            .collect()
    }

    /// Tells whether a committed row of `votes` has this message's key.
    pub fn is_counted(&self, state: &State, message: usize) -> bool {
        self.verdicts.same_key(message).iter().any(|same| state.ledger.rows[same] > 0)
    }

    /// Commits a transaction; in one mutation without its tallies.
    pub fn commit(&self, state: &mut State, call: Call, transaction: Transaction) {
        self.witness_commit(state, call, transaction);
        state.certification.quiet &= transaction.inserted.is_empty();
        state.ledger.outdated |= state.is_outdated(call);
        for message in transaction.inserted.iter() {
            state.ledger.rows[message] += 1;
        }
        state.ledger.rejected = state.ledger.rejected.union(transaction.recorded);
        if !self.has(Mutation::TallyApart) {
            self.add_tally(state, transaction.inserted);
        }
    }

    /// Applies `UPDATE tallies SET votes = tallies.votes + added.votes`.
    pub fn add_tally(&self, state: &mut State, inserted: Set) {
        for message in inserted.iter() {
            let taps =
                if self.has(Mutation::TallyCountsRows) { 1 } else { self.verdicts.taps(Set::only(message)) };
            state.ledger.tally[self.verdicts.poll(message)] += taps;
        }
    }

    /// Returns a committed call's pipeline: the totals of each of its polls, with the epochs of its definitions. A
    /// poll has one contestant here; in the code, the pipeline has at least those of the batch's messages.
    pub fn pipeline(&self, call: Call, transaction: Transaction) -> Pipeline {
        let sent = if self.has(Mutation::TotalsOfNewVotesOnly) { transaction.inserted } else { call.batch };
        Pipeline {
            totals: transaction.totals,
            epochs: call.judged.map(|definition| definition.epoch),
            remaining: self.verdicts.polls_in(sent),
        }
    }

    /// Tells whether a change gets the definition lock, which it holds exclusively.
    pub fn is_definition_lock_free(&self, state: &State) -> bool {
        self.has(Mutation::NoDefinitionLock) || state.open().next().is_none()
    }

    /// Changes the first poll's window.
    pub fn change(&self, state: &mut State) {
        self.witness.note_if(!state.is_quiet(), Event::Changed);
        let definition = &mut state.ledger.polls[0];
        definition.version += 1;
        definition.window = 1 - definition.window;
        state.on_disk = state.ledger;
    }

    /// Returns the first poll's tally minus its votes.
    pub fn found_drift(&self, state: &State) -> u8 {
        let votes = self.verdicts.of_poll(self.verdicts.all(), 0);
        let taps = |message| state.ledger.rows[message] * self.verdicts.taps(Set::only(message));
        state.ledger.tally[0] - votes.iter().map(taps).sum::<u8>()
    }

    /// Corrects the first poll's tally and starts another epoch.
    pub fn move_epoch(&self, state: &mut State, drift: u8) {
        self.witness.note_if(!state.is_quiet(), Event::Rebuilt);
        state.ledger.tally[0] -= drift;
        state.ledger.drift -= drift;
        let definition = &mut state.ledger.polls[0];
        definition.version += 1;
        if !self.has(Mutation::RebuildInSameEpoch) {
            definition.epoch += 1;
        }
        state.on_disk = state.ledger;
    }

    fn witness_commit(&self, state: &State, call: Call, transaction: Transaction) {
        let Transaction { inserted, recorded, totals } = transaction;
        let witness = &self.witness;
        witness.note_if(!inserted.is_empty(), Event::Counted);
        witness.note_if(!recorded.is_empty(), Event::Rejected);
        witness.note_if(!recorded.is_empty() && state.is_certified(), Event::RecordedLate);
        witness.note_if(!inserted.is_empty() && state.rebuild.is_some(), Event::CountedWithinRebuild);
        let retry_rejected = |message| self.verdicts.same_key(message).overlaps(state.ledger.rejected);
        witness.note_if(inserted.iter().any(retry_rejected), Event::CountedAfterRejectedRetry);
        let counted_meanwhile = recorded.iter().any(|message| self.is_counted(state, message));
        witness.note_if(counted_meanwhile, Event::RejectedWhileCounted);
        let votes = self.verdicts.votes(call.batch, &call.judged);
        for message in votes.without(inserted).iter() {
            let delivered = state.ledger.rows[message] > 0;
            witness.note_if(delivered, Event::DuplicateDelivery);
            let retried = !delivered && !state.ledger.rejected.has(message);
            witness.note_if(retried, Event::DuplicateRetry);
            witness.note_if(state.ledger.rejected.has(message), Event::RejectedStaysRejected);
        }
        for message in call.batch.without(votes).iter() {
            witness.note_if(state.ledger.rows[message] > 0, Event::CountedStaysCounted);
        }
        let others_raising = state
            .workers
            .iter()
            .any(|worker| matches!(worker.phase, Phase::Raising(..)) && worker.batch() != call.batch);
        let lacks = |poll: usize| {
            self.verdicts.of_poll(inserted, poll).is_empty() && state.ranked(poll) < totals[poll]
        };
        let heals = self.verdicts.polls_in(call.batch).iter().any(lacks);
        witness.note_if(heals && !others_raising && state.detached.is_none(), Event::HealedByRedelivery);
    }
}
