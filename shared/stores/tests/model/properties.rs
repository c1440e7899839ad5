//! The promises, as properties that stateright checks in every state.
//!
//! A liveness promise (*eventually*) is checked as an invariant of the states in which a path may end. That is sound:
//! - [`State::work_left`] decreases with every step, as [`Protocol`] asserts. So there are no cycles in which a
//!   promise could be deferred for ever, and every path ends.
//! - A path may end in any state without a fair step, even if optional steps remain: they need not happen. So no
//!   promise depends on luck, such as a load that a reader might make.
//! - Each of these states is checked. `Property::eventually` would be unsound: where two paths join, stateright
//!   remembers of only one of them whether the promise was kept.
//!
//! So after any faults within the budget, in any order, every vote is counted and ranked once the faults stop and
//! fair steps happen (weak fairness).
//!
//! [`State::work_left`]: crate::state::State::work_left

use stateright::Property;

use crate::{
    protocol::Protocol,
    set::Set,
    state::{POLLS, State},
    witness::Event,
};

/// The ledger has at most one row for each key.
pub const COUNTED_ONCE: &str = "a vote counts at most once";
/// Tally and ledger agree, apart from an initial drift.
pub const TALLY_IS_LEDGER: &str = "the tally agrees with the ledger";
/// A message has one outcome.
pub const ONE_OUTCOME: &str = "no message is both counted and rejected";
/// A deleted message is counted, a duplicate or rejected.
pub const NOTHING_DROPPED: &str = "every acknowledged message is in the ledger";
/// A change of a poll takes effect with its commit.
pub const BY_CURRENT_DEFINITION: &str = "no batch is committed by an old definition";
/// The ranking never shows an uncounted vote.
pub const NEVER_AHEAD: &str = "the ranking is never ahead of the tally";
/// If Redis never fails, the ranking is complete without a load.
pub const WHOLE_BY_ITSELF: &str = "the ranking is complete after the last acknowledgement";
/// A certificate is complete, apart from the exceptions in ARCHITECTURE.
pub const CERTIFIED_WHOLE: &str = "no vote cast in time is missing from a certificate, unless the queue withheld this \
                                   message or its batch could not be announced";
/// Eventually ledger = tally = ranking, and the queue is empty.
pub const SETTLES: &str = "eventually every vote is counted and ranked";

/// Returns every promise.
pub fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always(COUNTED_ONCE, counted_once),
        Property::always(TALLY_IS_LEDGER, tally_is_ledger),
        Property::always(ONE_OUTCOME, one_outcome),
        Property::always(NOTHING_DROPPED, nothing_dropped),
        Property::always(BY_CURRENT_DEFINITION, |_, state: &State| !state.ledger.outdated),
        Property::always(NEVER_AHEAD, never_ahead),
        Property::always(WHOLE_BY_ITSELF, whole_by_itself),
        Property::always(CERTIFIED_WHOLE, certified_whole),
        Property::always(SETTLES, settles),
    ]
}

fn counted_once(protocol: &Protocol, state: &State) -> bool {
    let rows = |message| protocol.verdicts.same_key(message).iter().map(|same| state.ledger.rows[same]);
    protocol.verdicts.all().iter().all(|message| rows(message).sum::<u8>() <= 1)
}

fn tally_is_ledger(protocol: &Protocol, state: &State) -> bool {
    let ledger = |poll| -> u8 {
        let messages = protocol.verdicts.of_poll(protocol.verdicts.all(), poll);
        let taps = |message| state.ledger.rows[message] * protocol.verdicts.taps(Set::only(message));
        messages.iter().map(taps).sum()
    };
    let drift = |poll| if poll == 0 { state.ledger.drift } else { 0 };
    (0..POLLS).all(|poll| state.ledger.tally[poll] == ledger(poll) + drift(poll))
}

fn one_outcome(_: &Protocol, state: &State) -> bool {
    state.ledger.rejected.iter().all(|message| state.ledger.rows[message] == 0)
}

fn nothing_dropped(protocol: &Protocol, state: &State) -> bool {
    let has_outcome = |message| protocol.is_counted(state, message) || state.ledger.rejected.has(message);
    state.queue.deleted.iter().all(has_outcome)
}

fn never_ahead(_: &Protocol, state: &State) -> bool {
    (0..POLLS).all(|poll| state.ranked(poll) <= state.ledger.tally[poll])
}

fn whole_by_itself(protocol: &Protocol, state: &State) -> bool {
    let budget = &protocol.scenario.budget;
    let is_unharmed =
        state.budget.redis_faults == budget.redis_faults && state.budget.rebuilds == budget.rebuilds;
    !(is_unharmed && state.is_quiet()) || state.is_ranking_whole()
}

fn certified_whole(protocol: &Protocol, state: &State) -> bool {
    let may_lack = |vote| state.certification.excused.has(vote) || protocol.is_counted(state, vote);
    !state.is_certified() || protocol.verdicts.all().iter().all(may_lack)
}

fn settles(protocol: &Protocol, state: &State) -> bool {
    if !protocol.is_over(state) {
        return true;
    }
    let settled = state.is_quiet()
        && state.queue.deleted == protocol.verdicts.all()
        && nothing_dropped(protocol, state)
        && tally_is_ledger(protocol, state)
        && state.is_ranking_whole()
        && state.is_certified() == protocol.scenario.certifies;
    protocol.witness.note_if(settled, Event::Settled);
    settled
}
