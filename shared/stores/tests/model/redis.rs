//! Redis's part: totals, cached definitions and outages.

use crate::{
    mutation::Mutation,
    protocol::Protocol,
    set::Set,
    state::{Definition, EPOCHS, Load, POLLS, Pipeline, State},
    witness::Event,
};

impl Protocol {
    /// Executes the next `ZADD … GT` of a batch's pipeline.
    pub fn raise_next(&self, state: &mut State, pipeline: &mut Pipeline) {
        let Some(poll) = pipeline.remaining.iter().next() else { return };
        pipeline.remaining = pipeline.remaining.without(Set::only(poll));
        let (epoch, total) = (pipeline.epochs[poll], pipeline.totals[poll]);
        self.witness.note_if(epoch < state.ledger.polls[poll].epoch, Event::LateEpoch);
        if self.has(Mutation::Increments) {
            state.redis.ranking[poll][usize::from(epoch)] += total;
        } else {
            self.raise(state, poll, epoch, total);
        }
    }

    /// Executes `ZADD ranking:{poll}:{epoch} GT total`. Redis must be available.
    fn raise(&self, state: &mut State, poll: usize, epoch: u8, total: u8) {
        let score = &mut state.redis.ranking[poll][usize::from(epoch)];
        self.witness.note_if(total < *score, Event::LateTotal);
        *score = if self.has(Mutation::LastTotalStays) { total } else { total.max(*score) };
    }

    /// Executes `KEEP_POLL`: caches a definition unless a newer one is cached. During an outage the load ends here.
    pub fn keep_loaded(&self, state: &mut State) {
        let Some(load) = &mut state.load else { return };
        if state.redis.down {
            state.load = None;
            return;
        }
        load.kept = true;
        let cached = &mut state.redis.cached[load.poll];
        *cached = load.definition.max(*cached);
    }

    /// Raises the ranking to the total of the loaded poll.
    pub fn raise_loaded(&self, state: &mut State) {
        let Some(Load { poll, definition, total, .. }) = state.load.take() else { return };
        if state.redis.down || self.has(Mutation::LoadsDoNotRaise) {
            return;
        }
        let before = state.ranked(poll);
        self.raise(state, poll, definition.epoch, total);
        self.witness.note_if(state.ranked(poll) > before, Event::HealedByLoad);
    }

    /// Deletes all of Redis's data.
    pub fn flush(state: &mut State) {
        state.redis.cached = [Definition::default(); POLLS];
        state.redis.ranking = [[0; EPOCHS]; POLLS];
    }
}
