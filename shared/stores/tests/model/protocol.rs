//! Which steps are possible, and what each does.

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
    worker::cut_adrift,
};

/// The protocol in one scenario, right or wrong in one place.
#[derive(Debug)]
pub struct Protocol {
    /// What it starts from.
    pub scenario: Scenario,
    /// What judging says of its messages.
    pub verdicts: Verdicts,
    /// What is wrong with it.
    pub mutation: Option<Mutation>,
    /// What has been seen to happen.
    pub witness: Witness,
}

impl Protocol {
    /// Judges the scenario's messages.
    pub fn new(scenario: Scenario, mutation: Option<Mutation>) -> Self {
        Self { verdicts: scenario.verdicts(), scenario, mutation, witness: Witness::default() }
    }

    /// Whether it is wrong in this place.
    pub fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// Whether nothing is left that is bound to happen.
    pub fn is_over(&self, state: &State) -> bool {
        let mut steps = Vec::new();
        self.bound_steps(state, &mut steps);
        steps.is_empty()
    }

    /// What happens sooner or later, unless something else comes first.
    fn bound_steps(&self, state: &State, steps: &mut Vec<Step>) {
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
        if state.adrift.is_some() {
            steps.push(Step::AdriftEnds);
            if !state.redis.away {
                steps.push(Step::AdriftRaises);
            }
        }
        match state.load {
            Some(Load { kept: false, .. }) => steps.push(Step::KeepLoaded),
            Some(_) => steps.push(Step::RaiseLoaded),
            None => {}
        }
        if state.rebuild.is_some() && self.is_fence_free(state) {
            steps.push(Step::MoveEpoch);
        }
        if state.redis.away {
            steps.push(Step::RedisReturns);
        }
        self.certification_steps(state, steps);
        if steps.is_empty() && state.budget.heals > 0 {
            // The last resort, so that no other way of healing is credited to it.
            let lacks = |&poll: &usize| state.ranked(poll) != state.ledger.tally[poll];
            steps.extend((0..POLLS).filter(lacks).map(|poll| Step::Heal { poll }));
        }
    }

    /// What a worker does next; nothing while its call waits for another.
    fn worker_steps(&self, state: &State, worker: usize, steps: &mut Vec<Step>) {
        match state.workers[worker].phase {
            Phase::Idle => {
                let certification = &state.certification;
                let there = state.queue.waiting.without(certification.withheld);
                let there = if certification.stopped { Set::EMPTY } else { there };
                let batches = there.subsets().filter(|batch| !batch.is_empty());
                steps.extend(batches.map(|batch| Step::Deliver { worker, batch }));
            }
            Phase::Holding(batch) => {
                let believable = self.believable(state, worker, batch);
                steps.extend(believable.subsets().map(|believed| Step::Find { worker, believed }));
            }
            Phase::Counting(Call { transaction: Some(_), .. }) => steps.push(Step::Commit { worker }),
            Phase::Counting(call) if self.can_begin(state, call) => steps.push(Step::Begin { worker }),
            Phase::Counting(_) => {}
            Phase::Stale(_) => steps.push(Step::Reload { worker }),
            Phase::Adding(_) => steps.push(Step::AddTally { worker }),
            Phase::Committed(..) => steps.push(Step::Answer { worker }),
            Phase::Raising(..) if state.redis.away => steps.push(Step::GoOnUnraised { worker }),
            Phase::Raising(..) => steps.push(Step::Raise { worker }),
            Phase::Raised(_) => steps.push(Step::Acknowledge { worker }),
        }
    }

    /// What may happen as long as there is a budget for it.
    fn chance_steps(&self, state: &State, steps: &mut Vec<Step>) {
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
            if !state.redis.away {
                steps.push(Step::RedisLeaves);
            }
            let raising = |&worker: &usize| matches!(state.workers[worker].phase, Phase::Raising(..));
            let workers = (0..self.scenario.workers).filter(raising);
            steps.extend(workers.map(|worker| Step::RaiseTimesOut { worker }));
        }
        if budget.loads > 0 && state.load.is_none() && !state.redis.away {
            steps.extend((0..POLLS).map(|poll| Step::Load { poll }));
        }
        if budget.changes > 0 && self.is_fence_free(state) {
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

    /// Does what a step does.
    fn take(&self, state: &mut State, step: Step) {
        match step {
            Step::Deliver { worker, batch } => self.deliver(state, worker, batch),
            Step::Find { worker, believed } => self.find(state, worker, believed),
            Step::Reload { worker } => self.reload(state, worker),
            Step::Begin { worker }
            | Step::Commit { worker }
            | Step::AddTally { worker }
            | Step::Answer { worker }
            | Step::Raise { worker }
            | Step::GoOnUnraised { worker }
            | Step::RaiseTimesOut { worker } => self.take_call(state, worker, step),
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
                self.take_abandoned(state, step);
            }
            Step::AdriftRaises => {
                if let Some(mut pipeline) = state.adrift.take() {
                    self.witness.note(Event::AdriftTotal);
                    self.raise_next(state, &mut pipeline);
                    state.adrift = (!pipeline.remaining.is_empty()).then_some(pipeline);
                }
            }
            Step::AdriftEnds => state.adrift = None,
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
                let message = Set::only(message);
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
            | Step::SignsAge
            | Step::Certify => self.take_certification(state, step),
            Step::RedisLeaves => state.redis.away = true,
            Step::RedisReturns => state.redis.away = false,
        }
    }

    /// The steps of a worker whose call or pipeline is under way.
    fn take_call(&self, state: &mut State, worker: usize, step: Step) {
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
            (Step::GoOnUnraised { .. }, Phase::Raising(batch, _)) => {
                self.witness.note(Event::RaiseRefused);
                self.forget_announcement(state, worker);
                state.workers[worker].phase = Phase::Raised(batch);
            }
            (Step::RaiseTimesOut { .. }, Phase::Raising(batch, pipeline)) => {
                self.witness.note(Event::RaiseTimedOut);
                self.forget_announcement(state, worker);
                cut_adrift(state, pipeline);
                state.workers[worker].phase = Phase::Raised(batch);
            }
            (step, phase) => unreachable!("{step:?} in {phase:?}"),
        }
    }

    /// The steps of the call whose caller is gone.
    fn take_abandoned(&self, state: &mut State, step: Step) {
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

    /// Takes from the budget what a step costs.
    fn spend(budget: &mut Budget, step: Step) {
        let cost = match step {
            Step::Redeliver { .. } => &mut budget.redeliveries,
            Step::Flush | Step::RedisLeaves | Step::RaiseTimesOut { .. } => &mut budget.redis_faults,
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
            redis: Redis { away: false, cached: polls, ranking },
            workers: [Worker::default(); WORKERS_MAX],
            abandoned: None,
            adrift: None,
            load: None,
            rebuild: None,
            certification: Certification { is_due: self.scenario.certifies, ..Certification::default() },
            budget: self.scenario.budget(),
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        self.bound_steps(state, steps);
        self.chance_steps(state, steps);
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = *before;
        Self::spend(&mut state.budget, step);
        self.take(&mut state, step);
        if !self.scenario.has_changes() {
            // What never changes need not be remembered: to find it again is the same.
            for worker in &mut state.workers {
                worker.memory = [Definition::default(); POLLS];
            }
        }
        if state.budget.failures == 0 {
            // Nor what only a crash would tell from the rest.
            state.on_disk = state.ledger;
        }
        // Workers are alike, so which is which does not make another state.
        state.workers[..self.scenario.workers].sort_unstable();
        assert!(state.work_left() < before.work_left(), "{step:?} leaves as much to do: {before:?}");
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
