//! The promises, as properties that stateright checks in every state.
//!
//! What is *eventually* so is checked where a path may end, as something that is always so there. That is sound:
//! - [`State::work_left`] goes down with every step, as [`Protocol`] asserts of each. So there is no cycle in which
//!   a promise could be put off for ever, and every path ends.
//! - A path may end in any state in which nothing is left that is bound to happen, even where faults still could:
//!   they need not. So the promise is not kept by luck, such as by a load that somebody might make.
//! - Each of these states is looked at. `Property::eventually` would not do: where two paths join, stateright
//!   remembers of only one whether the promise was kept on it.
//!
//! So whatever goes wrong, within the budget and in whichever order: once it stops, and what is bound to happen does
//! (weak fairness), all is counted and shown.
//!
//! [`State::work_left`]: crate::state::State::work_left

use stateright::Property;

use crate::{
    protocol::Protocol,
    state::{POLLS, State},
    witness::Event,
};

/// The ledger has one row for each key, at most.
pub const COUNTED_ONCE: &str = "a vote counts at most once";
/// Tally and ledger say the same; apart from a drift that was there before.
pub const TALLY_IS_LEDGER: &str = "the tally is the ledger's";
/// A message has one outcome.
pub const ONE_OUTCOME: &str = "no message is both counted and rejected";
/// A message that is gone from the queue is counted, a duplicate, or rejected.
pub const NOTHING_DROPPED: &str = "what was acknowledged is in the ledger";
/// A change of a poll holds from its commit on.
pub const BY_CURRENT_DEFINITION: &str = "no batch is committed by an old definition";
/// Nobody ever sees a vote too many.
pub const NEVER_AHEAD: &str = "the ranking is never ahead of the tally";
/// With a Redis that never fails, the ranking needs nobody's load.
pub const WHOLE_BY_ITSELF: &str = "the last acknowledgement leaves the ranking whole";
/// What is certified is whole, but for what ARCHITECTURE says may be missing.
pub const CERTIFIED_WHOLE: &str = "no vote cast in time is missing from a certificate, unless the queue withheld it by \
                                   itself or its batch could not be announced";
/// Ledger = tally = ranking, and the queue is empty.
pub const SETTLES: &str = "in the end all is counted and shown";

/// Every promise.
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
        messages.iter().map(|message| state.ledger.rows[message]).sum()
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
    let spared = state.budget.redis_faults == budget.redis_faults && state.budget.rebuilds == budget.rebuilds;
    !(spared && state.is_quiet()) || state.is_ranking_whole()
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
