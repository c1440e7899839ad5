//! Polls in the ledger.

use domain::PollWithTally;
use domain::{Action, AfterOpening, Invalid, Order, Patch, Poll, PollId, Results};
use ledger::{Conflict, Error};
use runtime::Clock;
use serde_json::{Value, json};

use crate::support::{CAST_AT, Fixture, LIMIT, at};

impl Fixture {
    async fn patch(&self, id: PollId, changes: Value) -> Result<PollWithTally, Error> {
        let patch: Patch = serde_json::from_value(changes).unwrap();
        let changed = self.change(id, |poll, facts, now| poll.patched(patch.clone(), facts, now)).await;
        changed.map(Option::unwrap)
    }

    /// Creates a poll without an opening, to be opened by hand.
    async fn scheduled(&self) -> Poll {
        self.poll(json!({"opensAt": null, "closesAt": null})).await
    }

    async fn actions(&self, id: PollId) -> Vec<(String, String, i32)> {
        let entries = self.ledger.journal(id, None).await.unwrap().into_iter();
        entries.map(|entry| (entry.action, entry.who, entry.version)).collect()
    }
}

fn delete() -> Order {
    Order::new("crew", Action::Delete)
}

fn named(names: [&str; 3]) -> Value {
    let contestant = |(index, name)| json!({"number": index + 1, "name": name});
    json!({"contestants": names.iter().enumerate().map(contestant).collect::<Vec<_>>()})
}

#[tokio::test]
async fn a_poll_comes_back_as_it_was_made() {
    let fixture = Fixture::new().await;
    let contestants =
        json!([{"name": "Zoë", "number": 9, "imageUrl": "https://example.com/z.png"}, {"name": "Ana"}]);
    let made =
        fixture.poll(json!({"results": "afterClose", "votesPerVoter": 3, "contestants": contestants})).await;
    assert_eq!(fixture.reload(made.id).await, made);
    assert_eq!((made.results, made.votes_per_voter, made.version), (Results::AfterClose, Some(3), 1));
    let loaded = fixture.ledger.polls(&[made.id]).await.unwrap().pop().unwrap();
    assert_eq!(loaded.tally.len(), 2);
}

#[tokio::test]
async fn a_poll_comes_back_as_it_was_changed() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let changed = fixture.change(poll.id, |poll, _, now| {
        let reopened = poll.opened(now)?.withdrawn(2, now)?.closed(now)?.archived(now)?;
        Poll { frozen_at: Some(now), ..reopened }.corrected("Ana had 4.", now)
    });
    let changed = changed.await.unwrap().unwrap().poll;
    assert_eq!(changed, Poll { frozen_at: None, ..fixture.reload(poll.id).await });
    assert_eq!((changed.gaps.len(), changed.errata.len()), (1, 1));
    assert!(changed.archived_at.is_some() && changed.contestants[1].withdrawn_at.is_some());
}

#[tokio::test]
async fn a_poll_is_a_draft_unless_it_is_said_otherwise_or_open_already() {
    let fixture = Fixture::new().await;
    let tomorrow = at(Clock::system().now().millis() + 86_400_000);
    for (changes, is_draft) in [
        (json!({"opensAt": tomorrow, "closesAt": null}), true),
        (json!({"opensAt": null, "closesAt": null}), true),
        (json!({"opensAt": tomorrow, "closesAt": null, "draft": false}), false),
        (json!({"draft": true}), false),
    ] {
        assert_eq!(fixture.poll(changes.clone()).await.draft, is_draft, "{changes}");
    }
}

#[tokio::test]
async fn contestants_come_and_go_with_their_counters_until_the_poll_opens() {
    let fixture = Fixture::new().await;
    let poll = fixture.scheduled().await;
    let list = |contestants: Value| json!({ "contestants": contestants });
    let changed = fixture
        .patch(poll.id, list(json!([{"number": 1, "name": "Ana"}, {"number": 8, "name": "Hugo"}])))
        .await
        .unwrap();
    assert_eq!(changed.tally.keys().map(|number| number.0).collect::<Vec<_>>(), [1, 8]);
    let opened = fixture.change(poll.id, |poll, _, _| poll.opened(at(CAST_AT - 1))).await.unwrap().unwrap();
    let message = fixture.message(1, &json!({"poll": poll.id.0, "contestant": 8}));
    fixture.count(&fixture.batch(&opened.poll, &[message])).await;
    let removed = fixture.patch(poll.id, list(json!([{"number": 1, "name": "Ana"}]))).await.unwrap_err();
    let expected = Invalid::Opened(AfterOpening::Remove(8));
    assert!(matches!(&removed, Error::Invalid(invalid) if *invalid == expected), "{removed}");
    assert_eq!(fixture.reload(poll.id).await, opened.poll);
}

/// Three steps once turned "Ana 6, Bia 3" into "Bia 6, Ana 3".
#[tokio::test]
async fn no_number_of_steps_exchanges_two_names() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    fixture.count(&fixture.votes(&poll, 0..3)).await;
    fixture.patch(poll.id, named(["Somebody", "Bia", "Caio"])).await.unwrap();
    fixture.patch(poll.id, named(["Somebody", "Bia B.", "Caio"])).await.unwrap();
    for (names, number) in [
        (["Somebody", "Ana", "Caio"], 2),
        (["bia", "Bia B.", "Caio"], 1),
        (["Somebody", "Bia B.", " ANA"], 3),
    ] {
        let refused = fixture.patch(poll.id, named(names)).await.unwrap_err();
        let expected = Invalid::NameTaken(number);
        assert!(matches!(&refused, Error::Invalid(invalid) if *invalid == expected), "{names:?}: {refused}");
    }
    fixture.patch(poll.id, named(["Ana", "Bia", "Caio"])).await.unwrap();
}

#[tokio::test]
async fn a_change_that_changes_nothing_keeps_the_version_and_is_not_journalled() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let same = fixture.change(poll.id, |poll, _, _| Ok(poll.clone())).await.unwrap().unwrap();
    assert_eq!(same.poll, poll);
    assert_eq!(fixture.actions(poll.id).await.len(), 1);
    let absent = fixture.change(PollId(1_000_000), |poll, _, _| Ok(poll.clone())).await.unwrap();
    assert!(absent.is_none());
}

#[tokio::test]
async fn a_change_that_is_meant_for_another_version_changes_nothing() {
    let fixture = Fixture::new().await;
    let poll = fixture.scheduled().await;
    fixture.patch(poll.id, json!({"title": "Who goes?"})).await.unwrap();
    let after = fixture.reload(poll.id).await;
    let order = |action, version| Order { expected: Some(vec![version]), ..Order::new("late", action) };
    let (stale, current) = (order(Action::Open, 1), order(Action::Open, 2));
    let changed = fixture.ledger.change_poll(poll.id, &stale, |poll, _, now| poll.opened(now));
    let conflicts = [
        changed.await.unwrap_err(),
        fixture.ledger.delete_poll(poll.id, &order(Action::Delete, 1)).await.unwrap_err(),
    ];
    for conflict in conflicts {
        let Error::Conflict(Conflict { version: 2, changed: Some((who, _)) }) = conflict else {
            panic!("{conflict:?}")
        };
        assert_eq!(who, "crew");
    }
    assert_eq!(fixture.reload(poll.id).await, after);
    let open = fixture.ledger.change_poll(poll.id, &current, |poll, _, now| poll.opened(now));
    assert!(open.await.unwrap().is_some());
}

#[tokio::test]
async fn the_journal_tells_who_did_what_and_outlives_the_poll() {
    let fixture = Fixture::new().await;
    let poll = fixture.scheduled().await;
    fixture.patch(poll.id, json!({"title": "Who goes?"})).await.unwrap();
    fixture.patch(poll.id, json!({"draft": false, "results": "hidden"})).await.unwrap();
    assert!(fixture.ledger.delete_poll(poll.id, &Order::new("boss", Action::Delete)).await.unwrap());
    let told = |action: &str, who: &str, version| (action.to_owned(), who.to_owned(), version);
    let all = [
        told("delete", "boss", 3),
        told("publish", "crew", 3),
        told("patch", "crew", 2),
        told("create", "crew", 1),
    ];
    assert_eq!(fixture.actions(poll.id).await, all);
    let entries = fixture.ledger.journal(poll.id, None).await.unwrap();
    let expected = json!({"draft": {"from": true, "to": false}, "results": {"from": "live", "to": "hidden"}});
    assert_eq!(entries[1].changes, expected);
    let older = fixture.ledger.journal(poll.id, Some(entries[1].id)).await.unwrap();
    assert_eq!(older, entries[2..]);
    assert!(fixture.ledger.journal(PollId(poll.id.0 + 1), None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_page_of_the_journal_is_bounded_in_entries_and_bytes() {
    let fixture = Fixture::new().await;
    let poll = fixture.scheduled().await;
    let mut connection = fixture.scratch.connect().await.unwrap();
    let sql = "INSERT INTO journal (poll, who, action, version, changes) \
               SELECT $1, 'crew', 'patch', n, jsonb_build_object('title', repeat('x', $2)) FROM generate_series(1, 150) AS n";
    sqlx::query(sql).bind(poll.id.0).bind(10).execute(&mut connection).await.unwrap();
    let page = fixture.ledger.journal(poll.id, None).await.unwrap();
    assert_eq!((page.len(), page[0].version, page[99].version), (100, 150, 51));
    sqlx::query(sql).bind(poll.id.0).bind(900_000).execute(&mut connection).await.unwrap();
    assert_eq!(fixture.ledger.journal(poll.id, None).await.unwrap().len(), 2);
    sqlx::query(sql).bind(poll.id.0).bind(3_000_000).execute(&mut connection).await.unwrap();
    assert_eq!(fixture.ledger.journal(poll.id, None).await.unwrap().len(), 1, "never none");
}

#[tokio::test]
async fn only_a_poll_that_never_opened_is_deleted_and_its_file_goes_with_it() {
    let fixture = Fixture::new().await;
    let (never, opened) = (fixture.scheduled().await, fixture.poll(json!({})).await);
    assert!(fixture.ledger.delete_poll(never.id, &delete()).await.unwrap());
    assert!(!fixture.ledger.delete_poll(never.id, &delete()).await.unwrap());
    let error = fixture.ledger.delete_poll(opened.id, &delete()).await.unwrap_err();
    let expected = Invalid::Opened(AfterOpening::Delete);
    assert!(matches!(&error, Error::Invalid(invalid) if *invalid == expected), "{error}");
    assert_eq!(fixture.ledger.deleted_files().await.unwrap(), [never.id]);
    fixture.ledger.file_deleted(never.id).await.unwrap();
    assert!(fixture.ledger.deleted_files().await.unwrap().is_empty());
    // A writer that read the poll before its deletion may have written the file again.
    let mut connection = fixture.scratch.connect().await.unwrap();
    let sql = "UPDATE deleted_files SET deleted_at = deleted_at - interval '5 minutes'";
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    assert_eq!(fixture.ledger.deleted_files().await.unwrap(), [never.id]);
    fixture.ledger.file_deleted(never.id).await.unwrap();
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM deleted_files").fetch_one(&mut connection).await.unwrap();
    assert_eq!(left, 0);
}

/// An open poll with 100 newer ones was once in no list and could not be closed.
#[tokio::test]
async fn no_number_of_newer_polls_hides_what_is_open() {
    let fixture = Fixture::new().await;
    let from_now = |hours: i64| at(Clock::system().now().millis() + hours * 3_600_000);
    let open = fixture.poll(json!({"closesAt": null})).await;
    let soon = fixture.poll(json!({"opensAt": from_now(3), "closesAt": null, "draft": false})).await;
    let sooner = fixture.poll(json!({"opensAt": from_now(2), "closesAt": null, "draft": false})).await;
    let soon_draft = fixture.poll(json!({"opensAt": from_now(1), "closesAt": null})).await;
    let later = fixture.poll(json!({"opensAt": from_now(48), "closesAt": null, "draft": false})).await;
    let mut closed = Vec::new();
    for n in 0..3 {
        closed.push(fixture.poll(json!({"opensAt": at(0), "closesAt": at(1_000 - n)})).await.id);
    }
    let by_hand = fixture.poll(json!({"opensAt": null, "closesAt": null, "draft": false})).await;
    let ids = |polls: Vec<Poll>| polls.into_iter().map(|poll| poll.id).collect::<Vec<_>>();
    let listed = ids(fixture.ledger.current_polls().await.unwrap());
    let expected = [open.id, sooner.id, soon.id, closed[0], closed[1], closed[2], later.id, by_hand.id];
    assert_eq!(listed, expected);
    let unfinished = ids(fixture.ledger.unfinished_polls().await.unwrap());
    assert_eq!(unfinished, [open.id, soon_draft.id, sooner.id, soon.id, closed[0], closed[1], closed[2]]);
    for _ in 0..100 {
        let poll = fixture.poll(json!({"opensAt": null, "closesAt": null, "draft": false})).await;
        let sql = "UPDATE polls SET opens_at = now() - interval '2 days', closes_at = now() - interval '1 day' WHERE id = $1";
        sqlx::query(sql)
            .bind(poll.id.0)
            .execute(&mut fixture.scratch.connect().await.unwrap())
            .await
            .unwrap();
    }
    for list in
        [fixture.ledger.current_polls().await.unwrap(), fixture.ledger.unfinished_polls().await.unwrap()]
    {
        assert_eq!((list.len(), list[0].id), (100, open.id));
    }
    let first_page = fixture.ledger.polls_before(PollId(i32::MAX)).await.unwrap();
    assert_eq!(first_page.len(), 100);
    assert_eq!(fixture.ledger.polls_before(first_page[99].id).await.unwrap().len(), 9);
}

#[tokio::test]
async fn what_is_certified_is_finished() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let unfinished = async || fixture.ledger.unfinished_polls().await.unwrap().len();
    assert_eq!(unfinished().await, 1, "closed");
    fixture.ledger.certify(poll.id, domain::Basis::Forced).await.unwrap();
    assert_eq!(unfinished().await, 0, "its certificate needs no supplement");
    assert_eq!(fixture.ledger.current_polls().await.unwrap().len(), 1, "viewers still see it");
}

#[tokio::test]
async fn a_digest_whose_state_cannot_be_read_begins_anew() {
    let fixture = Fixture::new().await;
    let certify = async |state: Option<&[u8]>| {
        let poll = fixture.poll(json!({})).await;
        let first = 10 * poll.id.0 as u128;
        fixture.count(&fixture.votes(&poll, first..first + 5)).await;
        fixture.ledger.certify(poll.id, domain::Basis::Forced).await.unwrap();
        assert!(!fixture.ledger.advance_supplement(poll.id, 2, LIMIT).await.unwrap());
        if let Some(state) = state {
            let sql = "UPDATE certificates SET hash_state = $2 WHERE poll = $1";
            let mut owner = fixture.scratch.connect().await.unwrap();
            sqlx::query(sql).bind(poll.id.0).bind(state).execute(&mut owner).await.unwrap();
        }
        let mut pieces = 1;
        while !fixture.ledger.advance_supplement(poll.id, 2, LIMIT).await.unwrap() {
            pieces += 1;
        }
        let sql = "SELECT sha256(convert_to(string_agg(concat_ws(',', key, (extract(epoch FROM cast_at) * 1000)::bigint, \
                       voter, contestant, coalesce(ballot::text, ''), count) || E'\\n', '' ORDER BY key), 'UTF8')) = \
                       (SELECT digest FROM certificates WHERE poll = $1) FROM votes WHERE poll = $1";
        let mut owner = fixture.scratch.connect().await.unwrap();
        let is_right: bool = sqlx::query_scalar(sql).bind(poll.id.0).fetch_one(&mut owner).await.unwrap();
        assert!(is_right, "{state:?}");
        pieces
    };
    assert_eq!(certify(None).await, 2);
    for state in [&[][..], &[7], &[7; 200]] {
        assert_eq!(certify(Some(state)).await, 3, "one piece is made again");
    }
}

#[tokio::test]
async fn a_vote_for_a_withdrawn_contestant_counts_if_it_was_cast_before() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let withdrawn =
        fixture.change(poll.id, |poll, _, _| poll.withdrawn(2, at(CAST_AT))).await.unwrap().unwrap().poll;
    let vote = |id| fixture.message(id, &json!({"poll": poll.id.0, "contestant": 2}));
    let before = domain::Message { sent_at: at(CAST_AT - 1), ..vote(1) };
    let outcome = fixture.count(&fixture.batch(&withdrawn, &[before, vote(2)])).await;
    assert_eq!((outcome.counted, outcome.rejected), (1, [("withdrawn".to_owned(), 1)].into()));
}

#[tokio::test]
async fn a_vote_cast_while_the_poll_was_closed_does_not_count_when_it_is_open_again() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({"closesAt": at(CAST_AT)})).await;
    let reopened =
        fixture.change(poll.id, |poll, _, _| poll.opened(at(CAST_AT + 10))).await.unwrap().unwrap().poll;
    let vote = |id: u128, after: i64| domain::Message {
        sent_at: at(CAST_AT + after),
        ..fixture.message(id, &json!({"poll": poll.id.0, "contestant": 2}))
    };
    let messages = [vote(1, -1), vote(2, 0), vote(3, 9), vote(4, 10)];
    let outcome = fixture.count(&fixture.batch(&reopened, &messages)).await;
    assert_eq!((outcome.counted, outcome.rejected), (2, [("afterClosing".to_owned(), 2)].into()));
}
