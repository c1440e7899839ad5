//! The possible steps of each state, and their effects.

use stateright::{Model, Property};

use crate::{
    mutation::Mutation,
    properties,
    scenario::{Scenario, Verdicts},
    set::Set,
    state::{
        Announcement, Budget, Call, Certification, Definition, EPOCHS, Ledger, Load, MESSAGES_MAX, POLLS,
        Phase, Queue, Redis, State, WORKERS_MAX, Worker,
    },
    step::Step,
    witness::{Event, Witness},
    worker::detach_pipeline,
};

/// The protocol in one scenario, correct or with one mutation.
#[derive(Debug)]
pub struct Protocol {
    /// The initial state and the budget.
    pub scenario: Scenario,
    /// Verdicts on the scenario's messages.
    pub verdicts: Verdicts,
    /// The defect, if any.
    pub mutation: Option<Mutation>,
    /// The events that have happened.
    pub witness: Witness,
}

impl Protocol {
    /// Judges the scenario's messages.
    pub fn new(scenario: Scenario, mutation: Option<Mutation>) -> Self {
        Self { verdicts: scenario.verdicts(), scenario, mutation, witness: Witness::default() }
    }

    /// Tells whether the protocol has this mutation.
    pub fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// Tells whether no fair step is left.
    pub fn is_over(&self, state: &State) -> bool {
        let mut steps = Vec::new();
        self.fair_steps(state, &mut steps);
        steps.is_empty()
    }

    /// Adds the steps that happen eventually if they stay possible (weak fairness).
    fn fair_steps(&self, state: &State, steps: &mut Vec<Step>) {
        for worker in 0..self.scenario.workers {
            self.worker_steps(state, worker, steps);
        }
        if let Some(call) = state.abandoned {
            if call.transaction.is_some() {
                steps.push(Step::AbandonedCommits);
            } else if self.can_begin(state, call) {
                steps.push(Step::AbandonedBegins);
            }
            steps.push(Step::AbandonedEnds);
        }
        if state.detached.is_some() {
            steps.push(Step::DetachedEnds);
            if !state.redis.down {
                steps.push(Step::DetachedRaises);
            }
        }
        match state.load {
            Some(Load { kept: false, .. }) => steps.push(Step::KeepLoaded),
            Some(_) => steps.push(Step::RaiseLoaded),
            None => {}
        }
        if state.rebuild.is_some() && self.is_definition_lock_free(state) {
            steps.push(Step::MoveEpoch);
        }
        if state.redis.down {
            steps.push(Step::RedisRecovers);
        }
        self.certification_steps(state, steps);
        if steps.is_empty() && state.budget.heals > 0 {
            // Only when no other step is left, so that heals do not hide a defect of other steps.
            let lacks = |&poll: &usize| state.ranked(poll) != state.ledger.tally[poll];
            steps.extend((0..POLLS).filter(lacks).map(|poll| Step::Heal { poll }));
        }
    }

    /// Adds a worker's next steps: none while its call waits for another.
    fn worker_steps(&self, state: &State, worker: usize, steps: &mut Vec<Step>) {
        match state.workers[worker].phase {
            Phase::Idle => {
                let certification = &state.certification;
                let available = state.queue.waiting.without(certification.withheld);
                let available = if certification.stopped { Set::EMPTY } else { available };
                let batches =
                    available.subsets().filter(|&batch| !batch.is_empty() && self.verdicts.is_whole(batch));
                steps.extend(batches.map(|batch| Step::Deliver { worker, batch }));
            }
            Phase::Holding(batch) => {
                let stale = self.stale_in_cache(state, worker, batch);
                steps.extend(stale.subsets().map(|from_cache| Step::Find { worker, from_cache }));
            }
            Phase::Counting(Call { transaction: Some(_), .. }) => steps.push(Step::Commit { worker }),
            Phase::Counting(call) if self.can_begin(state, call) => steps.push(Step::Begin { worker }),
            Phase::Counting(_) => {}
            Phase::Stale(_) => steps.push(Step::Reload { worker }),
            Phase::Adding(_) => steps.push(Step::AddTally { worker }),
            Phase::Committed(..) => steps.push(Step::Answer { worker }),
            Phase::Raising(..) if state.redis.down => steps.push(Step::SkipRaise { worker }),
            Phase::Raising(..) => steps.push(Step::Raise { worker }),
            Phase::Raised(_) => steps.push(Step::Acknowledge { worker }),
        }
    }

    /// Adds the steps that need not happen and have a budget.
    fn optional_steps(&self, state: &State, steps: &mut Vec<Step>) {
        let budget = state.budget;
        let messages = self.verdicts.all();
        if budget.redeliveries > 0 {
            let others = messages.without(state.queue.waiting).iter();
            steps.extend(others.map(|message| Step::Redeliver { message }));
        }
        if budget.failures > 0 {
            for worker in 0..self.scenario.workers {
                let Worker { phase, memory, .. } = state.workers[worker];
                let has_memory = memory.iter().any(|definition| definition.version > 0);
                if phase != Phase::Idle || has_memory {
                    steps.push(Step::Die { worker });
                }
                if matches!(phase, Phase::Counting(_) | Phase::Committed(..)) && has_memory {
                    steps.push(Step::TimeOut { worker });
                }
            }
            if state.open().next().is_some() || state.on_disk != state.ledger {
                steps.push(Step::LedgerDies);
            }
            if state.load.is_some() {
                steps.push(Step::LoaderDies);
            }
            if state.rebuild.is_some() {
                steps.push(Step::RebuilderDies);
            }
        }
        if budget.redis_faults > 0 {
            steps.push(Step::Flush);
            if !state.redis.down {
                steps.push(Step::RedisFails);
            }
            let raising = |&worker: &usize| matches!(state.workers[worker].phase, Phase::Raising(..));
            let workers = (0..self.scenario.workers).filter(raising);
            steps.extend(workers.map(|worker| Step::RaiseTimesOut { worker }));
        }
        if budget.loads > 0 && state.load.is_none() && !state.redis.down {
            steps.extend((0..POLLS).map(|poll| Step::Load { poll }));
        }
        if budget.changes > 0 && self.is_definition_lock_free(state) {
            steps.push(Step::Change);
        }
        if budget.rebuilds > 0 && state.rebuild.is_none() {
            steps.push(Step::FindDrift);
        }
        if budget.stops > 0 && state.certification.is_due && !state.certification.stopped {
            steps.push(Step::Stop);
        }
        if budget.withheld > 0 && state.certification.is_due {
            let never_delivered = state.queue.waiting.without(state.certification.delivered);
            steps.extend(never_delivered.iter().map(|message| Step::Withhold { message }));
        }
    }

    /// Applies a step.
    fn apply(&self, state: &mut State, step: Step) {
        match step {
            Step::Deliver { worker, batch } => self.deliver(state, worker, batch),
            Step::Find { worker, from_cache } => self.find(state, worker, from_cache),
            Step::Reload { worker } => self.reload(state, worker),
            Step::Begin { worker }
            | Step::Commit { worker }
            | Step::AddTally { worker }
            | Step::Answer { worker }
            | Step::Raise { worker }
            | Step::SkipRaise { worker }
            | Step::RaiseTimesOut { worker } => self.apply_call(state, worker, step),
            Step::Acknowledge { worker } => self.acknowledge(state, worker),
            Step::Die { worker } => self.die(state, worker),
            Step::TimeOut { worker } => {
                self.witness.note(Event::LedgerTimedOut);
                self.fail(state, worker);
            }
            Step::LedgerDies => {
                self.witness.note(Event::LedgerDied);
                self.ledger_dies(state);
            }
            Step::AbandonedBegins | Step::AbandonedCommits | Step::AbandonedEnds => {
                self.apply_abandoned(state, step);
            }
            Step::DetachedRaises => {
                if let Some(mut pipeline) = state.detached.take() {
                    self.witness.note(Event::DetachedTotal);
                    self.raise_next(state, &mut pipeline);
                    state.detached = (!pipeline.remaining.is_empty()).then_some(pipeline);
                }
            }
            Step::DetachedEnds => state.detached = None,
            Step::Load { poll } | Step::Heal { poll } => {
                if !self.has(Mutation::LoadsBeforeDisk) {
                    state.on_disk = state.ledger;
                }
                let (definition, total) = (state.ledger.polls[poll], state.ledger.tally[poll]);
                state.load = Some(Load { poll, definition, total, kept: false });
            }
            Step::KeepLoaded => self.keep_loaded(state),
            Step::RaiseLoaded => self.raise_loaded(state),
            Step::LoaderDies => {
                self.witness.note(Event::DiedLoading);
                state.load = None;
            }
            Step::Change => self.change(state),
            Step::FindDrift => state.rebuild = Some(self.found_drift(state)),
            Step::MoveEpoch => {
                if let Some(drift) = state.rebuild.take() {
                    self.move_epoch(state, drift);
                }
            }
            Step::RebuilderDies => state.rebuild = None,
            Step::Redeliver { message } => {
                let message = self.verdicts.same_message(message);
                state.queue.waiting = state.queue.waiting.union(message);
                state.queue.deleted = state.queue.deleted.without(message);
            }
            Step::Flush => {
                Self::flush(state);
                self.lose_announcements(state);
            }
            Step::Stop
            | Step::Resume
            | Step::ObserveStop
            | Step::Withhold { .. }
            | Step::Release
            | Step::DecideProbes
            | Step::SignsExpire
            | Step::Certify => self.apply_certification(state, step),
            Step::RedisFails => state.redis.down = true,
            Step::RedisRecovers => state.redis.down = false,
        }
    }

    /// Applies a step of a worker's call or pipeline.
    fn apply_call(&self, state: &mut State, worker: usize, step: Step) {
        match (step, state.workers[worker].phase) {
            (Step::Begin { .. }, Phase::Counting(call)) => self.begin_call(state, worker, call),
            (Step::Commit { .. }, Phase::Counting(call)) => {
                if let Some(transaction) = call.transaction {
                    self.commit_call(state, worker, call, transaction);
                }
            }
            (Step::AddTally { .. }, Phase::Adding(call)) => self.add_tally_apart(state, worker, call),
            (Step::Answer { .. }, Phase::Committed(batch, pipeline)) => {
                self.answer(state, worker, batch, pipeline);
            }
            (Step::Raise { .. }, Phase::Raising(batch, pipeline)) => {
                self.raise_step(state, worker, batch, pipeline);
            }
            (Step::SkipRaise { .. }, Phase::Raising(batch, _)) => {
                self.witness.note(Event::RaiseRefused);
                self.forget_announcement(state, worker);
                state.workers[worker].phase = Phase::Raised(batch);
            }
            (Step::RaiseTimesOut { .. }, Phase::Raising(batch, pipeline)) => {
                self.witness.note(Event::RaiseTimedOut);
                self.forget_announcement(state, worker);
                detach_pipeline(state, pipeline);
                state.workers[worker].phase = Phase::Raised(batch);
            }
            (step, phase) => unreachable!("{step:?} in {phase:?}"),
        }
    }

    /// Applies a step of the abandoned call.
    fn apply_abandoned(&self, state: &mut State, step: Step) {
        let Some(call) = state.abandoned else { return };
        match (step, call.transaction) {
            (Step::AbandonedBegins, None) => self.abandoned_begins(state, call),
            (Step::AbandonedCommits, Some(transaction)) => {
                self.witness.note(Event::AbandonedCommit);
                state.abandoned = None;
                self.sign(state, call.batch, Announcement::None);
                self.commit(state, call, transaction);
            }
            _ => state.abandoned = None,
        }
    }

    /// Subtracts a step's cost from the budget.
    fn spend(budget: &mut Budget, step: Step) {
        let cost = match step {
            Step::Redeliver { .. } => &mut budget.redeliveries,
            Step::Flush | Step::RedisFails | Step::RaiseTimesOut { .. } => &mut budget.redis_faults,
            Step::Load { .. } => &mut budget.loads,
            Step::Heal { .. } => &mut budget.heals,
            Step::Change => &mut budget.changes,
            Step::FindDrift => &mut budget.rebuilds,
            Step::Stop => &mut budget.stops,
            Step::Withhold { .. } => &mut budget.withheld,
            Step::Die { .. }
            | Step::TimeOut { .. }
            | Step::LedgerDies
            | Step::LoaderDies
            | Step::RebuilderDies => &mut budget.failures,
            _ => return,
        };
        *cost -= 1;
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let definition = Definition { version: 1, ..Definition::default() };
        let polls = [Definition { window: self.scenario.window, ..definition }, definition];
        let mut ranking = [[0; EPOCHS]; POLLS];
        ranking[0][0] = self.scenario.drift;
        let ledger = Ledger {
            polls,
            rows: [0; MESSAGES_MAX],
            tally: [self.scenario.drift, 0],
            rejected: Set::EMPTY,
            signed: false,
            drift: self.scenario.drift,
            outdated: false,
        };
        vec![State {
            queue: Queue { waiting: self.verdicts.all(), deleted: Set::EMPTY },
            ledger,
            on_disk: ledger,
            redis: Redis { down: false, cached: polls, ranking },
            workers: [Worker::default(); WORKERS_MAX],
            abandoned: None,
            detached: None,
            load: None,
            rebuild: None,
            certification: Certification { is_due: self.scenario.certifies, ..Certification::default() },
            budget: self.scenario.budget(),
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        self.fair_steps(state, steps);
        self.optional_steps(state, steps);
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = *before;
        Self::spend(&mut state.budget, step);
        self.apply(&mut state, step);
        if !self.scenario.has_changes() {
            // Without changes, a cached definition and a newly found one are the same: drop it to merge states.
            for worker in &mut state.workers {
                worker.memory = [Definition::default(); POLLS];
            }
        }
        if state.budget.failures == 0 {
            // Only a crash can reveal unflushed data: without one left, treat everything as flushed.
            state.on_disk = state.ledger;
        }
        // Workers are symmetric: sort them to merge equivalent states.
        state.workers[..self.scenario.workers].sort_unstable();
        assert!(
            state.work_left() < before.work_left(),
            "{step:?} does not decrease the work left: {before:?}"
        );
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
