//! `functions/votes`: a batch in `Handler::handle`, its failures and crashes.

use crate::{
    ledger::CallStart,
    mutation::Mutation,
    protocol::Protocol,
    set::Set,
    state::{Announcement, Call, Definition, POLLS, Phase, Pipeline, State, Transaction},
    witness::Event,
};

impl Protocol {
    /// Returns the polls of a batch whose definition in Redis is stale and not shadowed by memory.
    pub fn stale_in_cache(&self, state: &State, worker: usize, batch: Set) -> Set {
        let differs = |&poll: &usize| {
            let cached = state.redis.cached[poll];
            !state.redis.down
                && state.workers[worker].memory[poll].version == 0
                && cached.version > 0
                && cached != state.ledger.polls[poll]
        };
        self.verdicts.polls_in(batch).iter().filter(differs).collect()
    }

    /// Delivers queued messages to a worker.
    pub fn deliver(&self, state: &mut State, worker: usize, batch: Set) {
        state.queue.waiting = state.queue.waiting.without(batch);
        let held = state.workers.iter().any(|other| other.batch().overlaps(batch));
        self.witness.note_if(held, Event::HeldTwice);
        state.workers[worker].phase = Phase::Holding(batch);
        self.announce(state, worker);
    }

    /// Finds definitions in memory, else in Redis for the polls of `from_cache`, else in the ledger; then judges by
    /// them.
    pub fn find(&self, state: &mut State, worker: usize, from_cache: Set) {
        let batch = state.workers[worker].batch();
        for poll in self.verdicts.polls_in(batch).iter() {
            let source = if from_cache.has(poll) { &state.redis.cached } else { &state.ledger.polls };
            let remembered = &mut state.workers[worker].memory[poll];
            if remembered.version == 0 {
                *remembered = source[poll];
            }
        }
        self.judge(state, worker, batch);
        if self.has(Mutation::AcknowledgedBeforeCommit) {
            state.queue.deleted = state.queue.deleted.union(batch);
        }
    }

    /// Loads the ledger's current definitions and judges again.
    pub fn reload(&self, state: &mut State, worker: usize) {
        let batch = state.workers[worker].batch();
        for poll in self.verdicts.polls_in(batch).iter() {
            state.workers[worker].memory[poll] = state.ledger.polls[poll];
        }
        self.witness.note(Event::JudgedAgain);
        self.judge(state, worker, batch);
    }

    /// Judges by the definitions in memory. The verdicts depend on these alone and are evaluated when the call
    /// starts.
    fn judge(&self, state: &mut State, worker: usize, batch: Set) {
        let memory = state.workers[worker].memory;
        let mut judged = [Definition::default(); POLLS];
        for poll in self.verdicts.polls_in(batch).iter() {
            judged[poll] = memory[poll];
        }
        state.workers[worker].phase = Phase::Counting(Call { batch, judged, transaction: None });
    }

    /// Tells whether a call can start now.
    pub fn can_begin(&self, state: &State, call: Call) -> bool {
        call.transaction.is_none() && !matches!(self.begin(state, call), CallStart::Waits)
    }

    /// Starts the call in PostgreSQL.
    pub fn begin_call(&self, state: &mut State, worker: usize, call: Call) {
        state.workers[worker].phase = match self.begin(state, call) {
            CallStart::Waits => return,
            CallStart::Stale => Phase::Stale(call.batch),
            CallStart::Open(transaction) => Phase::Counting(Call { transaction: Some(transaction), ..call }),
        };
    }

    /// Commits the transaction in PostgreSQL.
    pub fn commit_call(&self, state: &mut State, worker: usize, call: Call, transaction: Transaction) {
        self.sign(state, call.batch, state.workers[worker].announcement);
        self.commit(state, call, transaction);
        let wrote = !transaction.inserted.union(transaction.recorded).is_empty();
        state.workers[worker].phase = if self.has(Mutation::TallyApart) {
            Phase::Adding(call)
        } else if self.has(Mutation::AnsweredBeforeDisk) || !wrote && self.has(Mutation::DuplicatesSkipFlush)
        {
            raising(call.batch, self.pipeline(call, transaction))
        } else {
            Phase::Committed(call.batch, self.pipeline(call, transaction))
        };
    }

    /// Flushes the log; the caller receives the totals.
    pub fn answer(&self, state: &mut State, worker: usize, batch: Set, pipeline: Pipeline) {
        state.on_disk = state.ledger;
        state.workers[worker].phase = raising(batch, pipeline);
    }

    /// Runs the second transaction of [`Mutation::TallyApart`].
    pub fn add_tally_apart(&self, state: &mut State, worker: usize, call: Call) {
        let Some(mut transaction) = call.transaction else { return };
        self.add_tally(state, transaction.inserted);
        transaction.totals = state.ledger.tally;
        state.workers[worker].phase = Phase::Committed(call.batch, self.pipeline(call, transaction));
    }

    /// Executes the pipeline's next command in Redis.
    pub fn raise_step(&self, state: &mut State, worker: usize, batch: Set, mut pipeline: Pipeline) {
        self.raise_next(state, &mut pipeline);
        if pipeline.remaining.is_empty() {
            // The pipeline's last command removes the announcement.
            state.workers[worker].announcement = Announcement::None;
        }
        state.workers[worker].phase = raising(batch, pipeline);
    }

    /// Deletes the batch from the queue, including messages that SQS was about to redeliver.
    pub fn acknowledge(&self, state: &mut State, worker: usize) {
        let batch = state.workers[worker].batch();
        state.queue.deleted = state.queue.deleted.union(batch);
        state.queue.waiting = state.queue.waiting.without(batch);
        state.workers[worker].phase = Phase::Idle;
        state.workers[worker].announcement = Announcement::None;
    }

    /// Fails the batch: it is redelivered, and its sent call or pipeline may still arrive.
    pub fn fail(&self, state: &mut State, worker: usize) {
        let batch = state.workers[worker].batch();
        self.leave_announcement(state, worker);
        match state.workers[worker].phase {
            Phase::Counting(call) if state.abandoned.is_none() => state.abandoned = Some(call),
            Phase::Raising(_, pipeline) => detach_pipeline(state, pipeline),
            _ => {}
        }
        state.queue.waiting = state.queue.waiting.union(batch.without(state.queue.deleted));
        state.workers[worker].phase = Phase::Idle;
    }

    /// Crashes the instance; a new one starts with an empty memory.
    pub fn die(&self, state: &mut State, worker: usize) {
        let all = self.verdicts.polls_in(state.workers[worker].batch());
        self.witness.note(match state.workers[worker].phase {
            Phase::Idle => Event::DiedAfterAcknowledging,
            Phase::Holding(_) => Event::DiedBeforeJudging,
            Phase::Counting(Call { transaction: None, .. }) => Event::DiedBeforeCounting,
            Phase::Counting(_) => Event::DiedBeforeCommit,
            Phase::Stale(_) => Event::DiedBeforeReload,
            Phase::Adding(_) | Phase::Committed(..) => Event::DiedBeforeAnswer,
            Phase::Raising(_, pipeline) if pipeline.remaining == all => Event::DiedBeforeRaise,
            Phase::Raising(..) => Event::DiedWithinRaise,
            Phase::Raised(_) => Event::DiedBeforeAcknowledging,
        });
        self.fail(state, worker);
        state.workers[worker].memory = [Definition::default(); POLLS];
    }

    /// Crashes PostgreSQL: flushed data stays, and callers fail and leave their batches in the queue.
    pub fn ledger_dies(&self, state: &mut State) {
        self.witness.note_if(state.on_disk != state.ledger, Event::LedgerForgot);
        state.ledger = state.on_disk;
        state.abandoned = None;
        state.rebuild = None;
        for worker in 0..self.scenario.workers {
            if let Phase::Counting(Call { batch, transaction: Some(_), .. }) | Phase::Committed(batch, _) =
                state.workers[worker].phase
            {
                self.leave_announcement(state, worker);
                state.queue.waiting = state.queue.waiting.union(batch.without(state.queue.deleted));
                state.workers[worker].phase = Phase::Idle;
            }
        }
    }

    /// Starts the abandoned call in PostgreSQL.
    pub fn abandoned_begins(&self, state: &mut State, call: Call) {
        state.abandoned = match self.begin(state, call) {
            CallStart::Waits => return,
            CallStart::Stale => {
                self.witness.note(Event::AbandonedStale);
                None
            }
            CallStart::Open(transaction) => {
                let votes = self.verdicts.votes(call.batch, &call.judged);
                let too_late = votes.iter().any(|vote| self.is_counted(state, vote));
                self.witness.note_if(too_late, Event::AbandonedTooLate);
                Some(Call { transaction: Some(transaction), ..call })
            }
        };
    }
}

/// Returns the phase of a pipeline in progress or done.
fn raising(batch: Set, pipeline: Pipeline) -> Phase {
    if pipeline.remaining.is_empty() { Phase::Raised(batch) } else { Phase::Raising(batch, pipeline) }
}

/// Detaches the pipeline of a sender that is gone. A second one at a time is dropped.
pub fn detach_pipeline(state: &mut State, pipeline: Pipeline) {
    if state.detached.is_none() {
        state.detached = Some(pipeline);
    }
}
