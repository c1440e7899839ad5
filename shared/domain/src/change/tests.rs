use serde_json::{Value, json};

use super::*;
use crate::poll::tests::{at, poll};

/// A time before the opening of the tests' poll, and one within its window.
const EARLY: i64 = 900;
const OPEN: i64 = 1_500;

pub(super) fn patch(changes: Value) -> Patch {
    serde_json::from_value(changes).unwrap()
}

fn voted() -> Facts {
    Facts { has_votes: true, ..Facts::default() }
}

fn patched_at(poll: &Poll, now: i64, changes: Value) -> Result<Poll, Invalid> {
    poll.patched(patch(changes), &Facts::default(), at(now))
}

fn named(names: &[(i16, &str)]) -> Value {
    let list: Vec<_> = names.iter().map(|(number, name)| json!({"number": number, "name": name})).collect();
    json!({ "contestants": list })
}

#[test]
fn a_patch_changes_what_it_names_and_null_clears() {
    let after = patched_at(&poll(), OPEN, json!({"title": "Who goes?", "closesAt": null})).unwrap();
    assert_eq!(after, Poll { title: "Who goes?".to_owned(), closes_at: None, ..poll() });
    assert_eq!(patched_at(&poll(), OPEN, json!({})).unwrap(), poll());
    for field in ["title", "results", "pace", "contestants", "draft"] {
        assert!(serde_json::from_value::<Patch>(json!({field: null})).is_err(), "{field}");
    }
}

#[test]
fn the_pace_may_change_while_the_poll_is_open() {
    let after = patched_at(&poll(), OPEN, json!({"pace": 10})).unwrap();
    assert_eq!(after, Poll { pace: Pace::Every10, ..poll() });
    assert_eq!(patched_at(&after, OPEN, json!({"pace": "auto"})).unwrap(), poll());
    let certified = Poll { frozen_at: Some(at(3_000)), ..poll() };
    assert_eq!(patched_at(&certified, 3_000, json!({"pace": 3})), Err(Invalid::Certified));
}

#[test]
fn an_opened_poll_keeps_its_opening_and_never_closes_before_now() {
    let opened = |changes| patched_at(&poll(), OPEN, changes);
    let moved = Err(Invalid::Opened(AfterOpening::MoveOpening));
    assert_eq!(opened(json!({"opensAt": at(1_001)})), moved);
    assert_eq!(opened(json!({"opensAt": null})), moved);
    assert!(opened(json!({"opensAt": at(1_000)})).is_ok(), "said again");
    assert_eq!(opened(json!({"closesAt": at(OPEN - 1)})), Err(Invalid::ClosesInThePast));
    assert_eq!(opened(json!({"closesAt": at(OPEN)})).unwrap().closes_at, Some(at(OPEN)));
    assert_eq!(Invalid::ClosesInThePast.code(), "invalidWindow");
    let closed = patched_at(&poll(), 3_000, json!({"closesAt": at(2_000), "title": "Who went?"})).unwrap();
    assert_eq!(
        (closed.closes_at, closed.gaps),
        (Some(at(2_000)), vec![]),
        "the value it has may be repeated"
    );
    let scheduled = patched_at(&poll(), EARLY, json!({"opensAt": at(500), "closesAt": at(800)})).unwrap();
    assert_eq!(scheduled.opens_at, Some(at(500)), "before the opening the window is free");
    assert_eq!(patched_at(&poll(), EARLY, json!({"closesAt": at(1_000)})), Err(Invalid::ClosesBeforeOpening));
}

#[test]
fn a_poll_opened_and_closed_at_once_can_still_be_changed() {
    let empty = Poll { closes_at: Some(at(1_000)), ..poll() };
    assert_eq!(patched_at(&empty, OPEN, json!({"title": "Oops"})).unwrap().title, "Oops");
}

#[test]
fn an_opened_poll_keeps_its_contestants() {
    let without_caio = named(&[(1, "Ana"), (2, "Bia")]);
    let removed = patched_at(&poll(), OPEN, without_caio.clone());
    assert_eq!(removed, Err(Invalid::Opened(AfterOpening::Remove(7))));
    assert!(patched_at(&poll(), EARLY, without_caio.clone()).is_ok());
    let early_votes = poll().patched(patch(without_caio), &voted(), at(EARLY));
    assert_eq!(early_votes, Err(Invalid::RemovedWithVotes(7)), "however they came there");
    let added = named(&[(1, "Ana"), (2, "Bia"), (7, "Caio"), (8, "Davi")]);
    assert_eq!(patched_at(&poll(), OPEN, added).unwrap().contestants.len(), 4);
}

#[test]
fn names_do_not_change_hands_once_votes_may_be_there() {
    let renamed = named(&[(1, "Anna"), (2, "Bia"), (7, "Caio")]);
    let swapped = named(&[(1, "Bia"), (2, "Ana"), (7, "Caio")]);
    assert!(patched_at(&poll(), EARLY, swapped.clone()).is_ok());
    assert!(patched_at(&poll(), OPEN, renamed.clone()).is_ok());
    for (now, facts) in [(OPEN, Facts::default()), (EARLY, voted())] {
        let after = poll().patched(patch(swapped.clone()), &facts, at(now));
        assert_eq!(after, Err(Invalid::NameTaken(1)), "{now}");
    }
    let later = poll().patched(patch(renamed), &voted(), at(OPEN)).unwrap();
    let facts = Facts { names: NameHistory::default().with(&poll().contestants), ..voted() };
    let to_bia = named(&[(1, "Anna"), (2, "ana "), (7, "Caio")]);
    assert_eq!(later.patched(patch(to_bia), &facts, at(OPEN)), Err(Invalid::NameTaken(2)));
    let back = named(&[(1, "Ana"), (2, "Bia"), (7, "Caio")]);
    assert!(later.patched(patch(back), &facts, at(OPEN)).is_ok(), "its own number takes it back");
}

#[test]
fn what_is_certified_never_changes() {
    let frozen = Poll { frozen_at: Some(at(3_000)), ..poll() };
    let renamed = named(&[(1, "Anna"), (2, "Bia"), (7, "Caio")]);
    let mut pictured = named(&[(1, "Ana"), (2, "Bia"), (7, "Caio")]);
    pictured["contestants"][0]["imageUrl"] = json!("https://example.com/a.png");
    let added = named(&[(1, "Ana"), (2, "Bia"), (7, "Caio"), (8, "Davi")]);
    for change in [
        json!({"title": "Who stayed?"}),
        json!({"results": "hidden"}),
        json!({"closesAt": null}),
        json!({"opensAt": at(1)}),
        json!({"votesPerVoter": 3}),
        json!({"draft": true}),
        renamed,
        pictured,
        added,
    ] {
        assert_eq!(patched_at(&frozen, 4_000, change.clone()), Err(Invalid::Certified), "{change}");
    }
    let same = json!({"title": "Who stays?", "opensAt": at(1_000), "closesAt": at(2_000), "draft": false,
        "votesPerVoter": null, "results": "live", "contestants": poll().contestants});
    assert_eq!(patched_at(&frozen, 4_000, same), Ok(frozen.clone()), "what changes nothing is allowed");
    assert_eq!(frozen.opened(at(4_000)), Err(Invalid::Certified));
    assert_eq!(frozen.closed(at(4_000)), Ok(frozen.clone()));
    assert_eq!(frozen.withdrawn(7, at(4_000)), Err(Invalid::Certified));
    assert_eq!(frozen.check_deletable(&Facts::default(), at(4_000)), Err(Invalid::Certified));
    let never_opened = Poll { opens_at: None, ..frozen };
    assert_eq!(never_opened.check_deletable(&Facts::default(), at(4_000)), Err(Invalid::Certified));
}

#[test]
fn a_limit_is_neither_set_nor_removed_nor_lowered_once_votes_may_be_there() {
    let limit = |value: Value| json!({ "votesPerVoter": value });
    let refused = Err(Invalid::Opened(AfterOpening::Limit));
    assert_eq!(poll().patched(patch(limit(json!(3))), &voted(), at(OPEN)), Err(Invalid::LimitWithVotes));
    assert_eq!(patched_at(&poll(), OPEN, limit(json!(3))), refused, "votes without a ballot may wait");
    assert_eq!(patched_at(&poll(), EARLY, limit(json!(3))).unwrap().votes_per_voter, Some(3));
    let limited = Poll { votes_per_voter: Some(3), ..poll() };
    assert_eq!(limited.patched(patch(limit(Value::Null)), &voted(), at(OPEN)), Err(Invalid::LimitWithVotes));
    assert_eq!(limited.patched(patch(limit(json!(2))), &voted(), at(OPEN)), refused, "ballot 3 may wait");
    assert_eq!(limited.patched(patch(limit(json!(5))), &voted(), at(OPEN)).unwrap().votes_per_voter, Some(5));
}

#[test]
fn a_draft_ends_for_good() {
    let draft = Poll { draft: true, ..poll() };
    assert!(patched_at(&draft, EARLY, json!({"title": "Who goes?"})).unwrap().draft);
    let public = patched_at(&draft, EARLY, json!({"draft": false})).unwrap();
    assert!(!public.draft);
    assert_eq!(patched_at(&public, EARLY, json!({"draft": true})), Err(Invalid::Published));
    assert_eq!(patched_at(&draft, OPEN, json!({"draft": true})), Err(Invalid::Published), "it has opened");
    assert_eq!(patched_at(&draft, OPEN, json!({"draft": false})), Ok(draft.clone()), "it is none already");
    assert!(!patched_at(&draft, OPEN, json!({"title": "Who goes?"})).unwrap().draft, "and stays none");
    assert!(!draft.opened(at(EARLY)).unwrap().draft);
    assert!(!patched_at(&draft, EARLY, json!({"opensAt": at(EARLY)})).unwrap().draft);
}

#[test]
fn opening_and_closing_by_hand() {
    let scheduled = Poll { opens_at: None, closes_at: None, ..poll() };
    assert_eq!(scheduled.closed(at(1_500)), Err(Invalid::NotOpen));
    let open = scheduled.opened(at(1_500)).unwrap();
    assert_eq!((open.status(at(1_500)), open.opens_at), (Status::Open, Some(at(1_500))));
    assert_eq!(open.opened(at(1_600)), Ok(open.clone()), "opening again changes nothing");
    let closed = open.closed(at(1_700)).unwrap();
    assert_eq!((closed.status(at(1_699)), closed.status(at(1_700))), (Status::Open, Status::Closed));
    assert_eq!(closed.closed(at(1_800)).unwrap(), closed, "closing again changes nothing");
    let reopened = closed.opened(at(1_900)).unwrap();
    assert_eq!((reopened.opens_at, reopened.closes_at), (Some(at(1_500)), None));
    assert_eq!(poll().opened(at(800)).unwrap().opens_at, Some(at(800)), "ahead of schedule");
    assert_eq!(poll().opened(at(800)).unwrap().closes_at, Some(at(2_000)), "which keeps its close");
}

#[test]
fn reopening_keeps_the_gap_and_lists_the_poll_again() {
    let gap = vec![Gap { from: at(2_000), to: at(2_500) }];
    let archived = poll().archived(at(2_100)).unwrap();
    for reopened in [
        archived.opened(at(2_500)),
        patched_at(&archived, 2_500, json!({"closesAt": null})),
        patched_at(&archived, 2_500, json!({"closesAt": at(9_000)})),
    ] {
        let reopened = reopened.unwrap();
        assert_eq!((&reopened.gaps, reopened.archived_at), (&gap, None));
        assert_eq!(reopened.status(at(2_500)), Status::Open);
    }
    let by_hand = poll().opened(at(2_500)).unwrap();
    let at_once = by_hand.closed(at(2_500)).unwrap().opened(at(2_600)).unwrap();
    assert_eq!(at_once.gaps, [Gap { from: at(2_000), to: at(2_600) }], "no gap touches another");
    let again = by_hand.closed(at(3_000)).unwrap().opened(at(3_001)).unwrap();
    assert_eq!(again.gaps, [gap[0], Gap { from: at(3_000), to: at(3_001) }]);
    let never_opened = Poll { opens_at: None, ..poll() };
    assert_eq!(never_opened.opened(at(2_500)).unwrap().gaps, [], "nothing of it was open before");
    let full = Poll { gaps: vec![gap[0]; GAPS_MAX], closes_at: Some(at(3_000)), ..poll() };
    assert_eq!(full.opened(at(3_500)), Err(Invalid::ReopenedTooOften));
}

#[test]
fn a_contestant_is_withdrawn_once_and_stays_so() {
    let withdrawn = poll().withdrawn(7, at(OPEN)).unwrap();
    assert_eq!(withdrawn.contestants[2].withdrawn_at, Some(at(OPEN)));
    assert_eq!(withdrawn.withdrawn(7, at(OPEN + 1)), Ok(withdrawn.clone()), "again changes nothing");
    for number in [0, 3, -7, 65_536 + 7, i64::MAX] {
        assert_eq!(poll().withdrawn(number, at(OPEN)), Err(Invalid::UnknownContestant(number)));
    }
    let renamed = named(&[(1, "Ana"), (2, "Bia"), (7, "Kaio")]);
    assert_eq!(
        patched_at(&withdrawn, OPEN, renamed).unwrap().contestants[2].withdrawn_at,
        Some(at(OPEN)),
        "no list of contestants changes it"
    );
    let frozen = Poll { frozen_at: Some(at(3_000)), ..withdrawn };
    assert_eq!(frozen.withdrawn(7, at(4_000)), Ok(frozen.clone()), "what changes nothing is allowed");
}

#[test]
fn only_what_is_closed_is_archived() {
    assert_eq!(poll().archived(at(OPEN)), Err(Invalid::NotClosed));
    assert_eq!(poll().archived(at(EARLY)), Err(Invalid::NotClosed));
    let archived = poll().archived(at(2_000)).unwrap();
    assert_eq!(archived.archived_at, Some(at(2_000)));
    assert_eq!(archived.archived(at(2_100)), Ok(archived.clone()));
    assert!(Poll { frozen_at: Some(at(2_500)), ..poll() }.archived(at(2_600)).is_ok());
}

#[test]
fn errata_stand_beside_a_certified_result() {
    assert_eq!(poll().corrected("Ana had 4.", at(3_000)), Err(Invalid::NotCertified));
    let mut frozen = Poll { frozen_at: Some(at(3_000)), ..poll() };
    for text in ["", " ", "\u{200b}", "a\u{0}", &"x".repeat(1_001)] {
        assert_eq!(frozen.corrected(text, at(4_000)), Err(Invalid::Erratum), "{text:?}");
    }
    for number in 1..=20 {
        frozen = frozen.corrected("Ana had 4.", at(4_000 + number)).unwrap();
    }
    assert_eq!(frozen.errata[19].at, at(4_020));
    assert_eq!(frozen.corrected("Ana had 4.", at(5_000)), Err(Invalid::TooManyErrata));
}

#[test]
fn only_a_poll_that_never_opened_is_deleted() {
    let deletable = |poll: &Poll, facts: &Facts, now| poll.check_deletable(facts, at(now));
    assert_eq!(deletable(&poll(), &Facts::default(), EARLY), Ok(()));
    assert_eq!(deletable(&poll(), &voted(), EARLY), Err(Invalid::DeletedWithVotes));
    for now in [1_000, 9_000] {
        let refused = Err(Invalid::Opened(AfterOpening::Delete));
        assert_eq!(deletable(&poll(), &Facts::default(), now), refused, "{now}");
    }
}
