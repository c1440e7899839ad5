//! `functions/votes`: one batch's way through `Handler::handle`, and its ends before time.

use crate::{
    ledger::Begun,
    mutation::Mutation,
    protocol::Protocol,
    set::Set,
    state::{Announcement, Call, Definition, POLLS, Phase, Pipeline, State, Transaction},
    witness::Event,
};

impl Protocol {
    /// The polls of a batch for which Redis has a definition that memory lacks and the ledger has no more.
    pub fn believable(&self, state: &State, worker: usize, batch: Set) -> Set {
        let differs = |&poll: &usize| {
            let cached = state.redis.cached[poll];
            !state.redis.away
                && state.workers[worker].memory[poll].version == 0
                && cached.version > 0
                && cached != state.ledger.polls[poll]
        };
        self.verdicts.polls_in(batch).iter().filter(differs).collect()
    }

    /// Takes messages that wait.
    pub fn deliver(&self, state: &mut State, worker: usize, batch: Set) {
        state.queue.waiting = state.queue.waiting.without(batch);
        let held = state.workers.iter().any(|other| other.batch().overlaps(batch));
        self.witness.note_if(held, Event::HeldTwice);
        state.workers[worker].phase = Phase::Holding(batch);
        self.announce(state, worker);
    }

    /// Finds definitions: memory, else Redis where it is believed, else the ledger; then judges by them.
    pub fn find(&self, state: &mut State, worker: usize, believed: Set) {
        let batch = state.workers[worker].batch();
        for poll in self.verdicts.polls_in(batch).iter() {
            let source = if believed.has(poll) { &state.redis.cached } else { &state.ledger.polls };
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

    /// Takes the definitions that the ledger has now, and judges again.
    pub fn reload(&self, state: &mut State, worker: usize) {
        let batch = state.workers[worker].batch();
        for poll in self.verdicts.polls_in(batch).iter() {
            state.workers[worker].memory[poll] = state.ledger.polls[poll];
        }
        self.witness.note(Event::JudgedAgain);
        self.judge(state, worker, batch);
    }

    /// Judges by what is remembered. The verdicts are made when the call begins; they depend on nothing else.
    fn judge(&self, state: &mut State, worker: usize, batch: Set) {
        let memory = state.workers[worker].memory;
        let mut judged = [Definition::default(); POLLS];
        for poll in self.verdicts.polls_in(batch).iter() {
            judged[poll] = memory[poll];
        }
        state.workers[worker].phase = Phase::Counting(Call { batch, judged, transaction: None });
    }

    /// Whether a call can begin now.
    pub fn can_begin(&self, state: &State, call: Call) -> bool {
        call.transaction.is_none() && !matches!(self.begin(state, call), Begun::Waits)
    }

    /// PostgreSQL begins the call.
    pub fn begin_call(&self, state: &mut State, worker: usize, call: Call) {
        state.workers[worker].phase = match self.begin(state, call) {
            Begun::Waits => return,
            Begun::Stale => Phase::Stale(call.batch),
            Begun::Open(transaction) => Phase::Counting(Call { transaction: Some(transaction), ..call }),
        };
    }

    /// PostgreSQL commits.
    pub fn commit_call(&self, state: &mut State, worker: usize, call: Call, transaction: Transaction) {
        self.sign(state, call.batch, state.workers[worker].announcement);
        self.commit(state, call, transaction);
        let wrote = !transaction.inserted.union(transaction.recorded).is_empty();
        state.workers[worker].phase = if self.has(Mutation::TallyApart) {
            Phase::Adding(call)
        } else if self.has(Mutation::AnsweredBeforeDisk)
            || !wrote && self.has(Mutation::DuplicatesWaitForNoDisk)
        {
            raising(call.batch, self.pipeline(call, transaction))
        } else {
            Phase::Committed(call.batch, self.pipeline(call, transaction))
        };
    }

    /// The disk has it, and the caller learns the totals.
    pub fn answer(&self, state: &mut State, worker: usize, batch: Set, pipeline: Pipeline) {
        state.on_disk = state.ledger;
        state.workers[worker].phase = raising(batch, pipeline);
    }

    /// The second transaction of [`Mutation::TallyApart`].
    pub fn add_tally_apart(&self, state: &mut State, worker: usize, call: Call) {
        let Some(mut transaction) = call.transaction else { return };
        self.add_tally(state, transaction.inserted);
        transaction.totals = state.ledger.tally;
        state.workers[worker].phase = Phase::Committed(call.batch, self.pipeline(call, transaction));
    }

    /// Redis carries out one more command of the pipeline.
    pub fn raise_step(&self, state: &mut State, worker: usize, batch: Set, mut pipeline: Pipeline) {
        self.raise_next(state, &mut pipeline);
        if pipeline.remaining.is_empty() {
            // Taken back by the last command of the pipeline.
            state.workers[worker].announcement = Announcement::None;
        }
        state.workers[worker].phase = raising(batch, pipeline);
    }

    /// The batch is deleted from the queue, even what SQS was about to deliver again.
    pub fn acknowledge(&self, state: &mut State, worker: usize) {
        let batch = state.workers[worker].batch();
        state.queue.deleted = state.queue.deleted.union(batch);
        state.queue.waiting = state.queue.waiting.without(batch);
        state.workers[worker].phase = Phase::Idle;
        state.workers[worker].announcement = Announcement::None;
    }

    /// The batch comes again; what has been sent may still arrive.
    pub fn fail(&self, state: &mut State, worker: usize) {
        let batch = state.workers[worker].batch();
        self.leave_announcement(state, worker);
        match state.workers[worker].phase {
            Phase::Counting(call) if state.abandoned.is_none() => state.abandoned = Some(call),
            Phase::Raising(_, pipeline) => cut_adrift(state, pipeline),
            _ => {}
        }
        state.queue.waiting = state.queue.waiting.union(batch.without(state.queue.deleted));
        state.workers[worker].phase = Phase::Idle;
    }

    /// The instance is gone; a new one starts with no memory.
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

    /// What is on disk stays; callers learn of it, and leave their batches in the queue.
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

    /// The next thing that PostgreSQL does with a call whose caller is gone.
    pub fn abandoned_begins(&self, state: &mut State, call: Call) {
        state.abandoned = match self.begin(state, call) {
            Begun::Waits => return,
            Begun::Stale => {
                self.witness.note(Event::AbandonedStale);
                None
            }
            Begun::Open(transaction) => {
                let votes = self.verdicts.votes(call.batch, &call.judged);
                let too_late = votes.iter().any(|vote| self.is_counted(state, vote));
                self.witness.note_if(too_late, Event::AbandonedTooLate);
                Some(Call { transaction: Some(transaction), ..call })
            }
        };
    }
}

/// A pipeline under way, or done.
fn raising(batch: Set, pipeline: Pipeline) -> Phase {
    if pipeline.remaining.is_empty() { Phase::Raised(batch) } else { Phase::Raising(batch, pipeline) }
}

/// What a sender that is gone has sent, if there is room for it.
pub fn cut_adrift(state: &mut State, pipeline: Pipeline) {
    if state.adrift.is_none() {
        state.adrift = Some(pipeline);
    }
}
