//! Late votes are stored with all their fields, and a later certificate includes them.

use domain::{Action, Basis, ContestantNumber, LaterCertificate, Order, Poll, PollId, Tally};
use ledger::{Batch, Issued};
use serde_json::{Value, json};
use sqlx::Row;

use crate::support::{CAST_AT, Fixture, LIMIT, at};

const ID: &str = "0194f0c0-0000-4000-8000-000000000000";

/// Creates a certified poll with three votes, one for each contestant, and returns its current definition.
async fn certified(fixture: &Fixture, changes: Value) -> Poll {
    let poll = fixture.poll(changes).await;
    let ballot = poll.votes_per_voter.map(|_| 1);
    let vote = |id: u128| {
        fixture.message(id, &json!({"poll": poll.id.0, "contestant": id % 3 + 1, "ballot": ballot}))
    };
    let mut first: Vec<_> = (1..4).map(vote).collect();
    for (message, sub) in first.iter_mut().zip(["dave", "erin", "frank"]) {
        message.voter = Some(fixture.hasher.voter(sub));
    }
    assert_eq!(fixture.count(&fixture.batch(&poll, &first)).await.counted, 3);
    fixture.ledger.certify(poll.id, Basis::Forced).await.unwrap();
    while !fixture.ledger.advance_supplement(poll.id, 100, LIMIT).await.unwrap() {}
    fixture.reload(poll.id).await
}

/// Builds a batch of late votes for the first contestant, one for each message.
fn late_batch(fixture: &Fixture, poll: &Poll, messages: impl IntoIterator<Item = u128>) -> Batch {
    let vote = |id| fixture.message(id, &json!({"poll": poll.id.0, "contestant": 1}));
    fixture.batch(poll, &messages.into_iter().map(vote).collect::<Vec<_>>())
}

async fn late_votes(fixture: &Fixture, poll: PollId) -> Option<u64> {
    fixture.ledger.audit(poll, LIMIT).await.unwrap().late.map(|late| late.votes)
}

async fn issue(fixture: &Fixture, poll: PollId) -> Option<Issued> {
    let order = Order::new("crew", Action::SecondCertificate);
    fixture.ledger.issue_later_certificate(poll, &order).await.unwrap()
}

/// Finishes all issued certificates, `rows` votes at a time. Returns the number of pieces.
async fn advance_later(fixture: &Fixture, poll: PollId, rows: u32) -> u32 {
    let mut pieces = 0;
    while !fixture.ledger.advance_later_certificate(poll, rows, LIMIT).await.unwrap() {
        pieces += 1;
    }
    pieces
}

async fn later_certificates(fixture: &Fixture, poll: PollId) -> Vec<LaterCertificate> {
    fixture.ledger.later_certificates(poll).await.unwrap()
}

#[tokio::test]
async fn a_late_vote_is_kept_whole_beside_its_rejection() {
    let fixture = Fixture::new().await;
    let poll = certified(&fixture, json!({"votesPerVoter": 3})).await;
    let body = json!({"poll": poll.id.0, "contestant": 2, "ballot": 3, "id": ID});
    let message = fixture.message(9, &body);
    let counted = fixture.count(&fixture.batch(&poll, std::slice::from_ref(&message))).await;
    assert_eq!((counted.counted, counted.rejected["late"]), (0, 1));
    let mut connection = fixture.scratch.connect().await.unwrap();
    let sql = "SELECT late_votes.*, arrived_at >= cast_at AS is_after FROM late_votes WHERE poll = $1";
    let row = sqlx::query(sql).bind(poll.id.0).fetch_one(&mut connection).await.unwrap();
    let open = Poll { frozen_at: None, ..poll.clone() };
    let vote = domain::judge(&message, Some(&open), &fixture.hasher).next().unwrap().unwrap();
    assert_eq!(row.get::<uuid::Uuid, _>("key"), vote.key.0);
    assert_eq!(row.get::<uuid::Uuid, _>("message_id"), message.id);
    assert_eq!(row.get::<i64, _>("voter"), vote.voter.ledger_column());
    assert_eq!(row.get::<time::OffsetDateTime, _>("cast_at"), time::OffsetDateTime::from(at(CAST_AT)));
    assert_eq!((row.get::<i16, _>("contestant"), row.get::<i16, _>("ballot")), (2, 3));
    assert_eq!(row.get::<i64, _>("message_tag"), vote.message_tag.unwrap().0);
    assert_eq!(row.get::<i64, _>("id_tag"), vote.id_tag.unwrap().0);
    assert!(row.get::<bool, _>("is_after"));
}

#[tokio::test]
async fn a_late_vote_is_kept_once_and_nothing_else_is_kept() {
    let fixture = Fixture::new().await;
    let poll = certified(&fixture, json!({})).await;
    assert_eq!(late_votes(&fixture, poll.id).await, None);
    let with_id = |message| fixture.message(message, &json!({"poll": poll.id.0, "contestant": 3, "id": ID}));
    let mut after_close = fixture.message(20, &json!({"poll": poll.id.0, "contestant": 1}));
    after_close.sent_at = at(CAST_AT + 1_000);
    let unknown = fixture.message(21, &json!({"poll": poll.id.0, "contestant": 9}));
    let batch = fixture.batch(&poll, &[unknown, with_id(10), after_close, with_id(11), with_id(12)]);
    for _ in 0..2 {
        fixture.count(&batch).await;
    }
    assert_eq!(late_votes(&fixture, poll.id).await, Some(1), "three messages are one vote");
    fixture.count(&late_batch(&fixture, &poll, [30, 31])).await;
    let audit = fixture.ledger.audit(poll.id, LIMIT).await.unwrap();
    assert_eq!((audit.late.unwrap().votes, audit.rejected["late"]), (3, 5));
    let due = fixture.ledger.publishable(LIMIT).await.unwrap();
    assert_eq!(due[0].late, audit.late, "what the public file tells is as many");
    assert_eq!(audit.ledger.values().sum::<u64>(), 3, "and none of them counts");
}

#[tokio::test]
async fn a_later_certificate_has_all_votes_in_any_pieces_and_the_first_stays() {
    let fixture = Fixture::new().await;
    let mut digests = Vec::new();
    for (index, rows) in [1, 2, 1_000].into_iter().enumerate() {
        let poll = certified(&fixture, json!({})).await;
        let first = fixture.ledger.certificate(poll.id).await.unwrap();
        let start = 100 * (index as u128 + 1);
        fixture.count(&late_batch(&fixture, &poll, start..start + 2)).await;
        assert_eq!(issue(&fixture, poll.id).await, Some(Issued::Certificate { number: 2, is_new: true }));
        assert_eq!(advance_later(&fixture, poll.id, rows).await, 5_u32.div_ceil(rows) + 1);
        let certificates = later_certificates(&fixture, poll.id).await;
        let [second] = certificates.as_slice() else { panic!("{certificates:?}") };
        assert_eq!(second.late_tally, Tally::from([(ContestantNumber(1), 2)]));
        assert_eq!(Some(second.late), fixture.ledger.audit(poll.id, LIMIT).await.unwrap().late);
        let mut connection = fixture.scratch.connect().await.unwrap();
        let lines = "concat_ws(',', key, (extract(epoch FROM cast_at) * 1000)::bigint, voter, contestant, \
                     coalesce(ballot::text, ''), count) || E'\\n'";
        let sql = format!(
            "SELECT sha256(convert_to(string_agg({lines}, '' ORDER BY key), 'UTF8')), \
                 sha256(convert_to(string_agg({lines}, '' ORDER BY key) FILTER (WHERE is_late), 'UTF8')) \
             FROM (SELECT key, cast_at, voter, contestant, ballot, count, false AS is_late FROM votes WHERE poll = $1 \
                 UNION ALL SELECT key, cast_at, voter, contestant, ballot, count, true FROM late_votes WHERE poll = $1) AS vote"
        );
        let expected: (Vec<u8>, Vec<u8>) = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(poll.id.0)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!((second.digest.clone(), second.late_digest.clone()), expected, "in pieces of {rows}");
        assert_eq!(fixture.ledger.certificate(poll.id).await.unwrap(), first, "the first one stays");
        digests.push(second.digest.clone());
    }
    assert_ne!(digests[0], digests[1], "other votes");
}

#[tokio::test]
async fn each_later_certificate_has_the_late_votes_until_then() {
    let fixture = Fixture::new().await;
    assert_eq!(issue(&fixture, PollId(1_000_000)).await, None);
    let open = fixture.poll(json!({})).await;
    assert_eq!(issue(&fixture, open.id).await, Some(Issued::NotCertified));
    let poll = certified(&fixture, json!({})).await;
    assert_eq!(issue(&fixture, poll.id).await, Some(Issued::NoLateVotes));
    fixture.count(&late_batch(&fixture, &poll, [100])).await;
    assert_eq!(issue(&fixture, poll.id).await, Some(Issued::Certificate { number: 2, is_new: true }));
    assert_eq!(later_certificates(&fixture, poll.id).await, [], "it is not made yet");
    fixture.count(&late_batch(&fixture, &poll, [101, 102])).await;
    advance_later(&fixture, poll.id, 100).await;
    assert_eq!(
        later_certificates(&fixture, poll.id).await[0].late.votes,
        1,
        "what came after it was issued is not in it"
    );
    assert_eq!(issue(&fixture, poll.id).await, Some(Issued::Certificate { number: 3, is_new: true }));
    assert_eq!(issue(&fixture, poll.id).await, Some(Issued::Certificate { number: 3, is_new: false }));
    advance_later(&fixture, poll.id, 100).await;
    let certificates = later_certificates(&fixture, poll.id).await;
    let votes: Vec<_> = certificates.iter().map(|later| (later.number, later.late.votes)).collect();
    assert_eq!(votes, [(2, 1), (3, 3)]);
}

#[tokio::test]
async fn what_has_been_published_is_not_due_again() {
    let fixture = Fixture::new().await;
    let poll = certified(&fixture, json!({})).await;
    let due = async || {
        let due = fixture.ledger.publishable(LIMIT).await.unwrap();
        due.iter().find(|one| one.loaded.poll.id == poll.id).map(|one| one.edition)
    };
    let is_due = async || {
        let Some(edition) = due().await else { return false };
        fixture.ledger.published(poll.id, edition - 1).await.unwrap();
        assert_eq!(due().await, Some(edition), "an earlier edition has been published");
        fixture.ledger.published(poll.id, edition).await.unwrap();
        assert_eq!(due().await, None);
        true
    };
    assert!(is_due().await, "its certificate");
    fixture.count(&late_batch(&fixture, &poll, [100])).await;
    assert!(is_due().await, "a late vote");
    fixture.count(&late_batch(&fixture, &poll, [100])).await;
    issue(&fixture, poll.id).await;
    assert!(!is_due().await, "the same vote again, and a certificate to be made");
    assert_eq!(fixture.ledger.unsupplemented().await.unwrap(), [poll.id]);
    advance_later(&fixture, poll.id, 100).await;
    assert!(is_due().await, "a certificate to be published");
    assert_eq!(fixture.ledger.unsupplemented().await.unwrap(), []);
}

#[tokio::test]
async fn late_votes_of_several_taps_are_certified_by_their_counts() {
    let fixture = Fixture::new().await;
    let poll = certified(&fixture, json!({"tapsMax": 10})).await;
    let votes = json!([{"contestant": 1, "count": 10}, {"contestant": 2, "count": 11}, {"contestant": 3, "count": 4}]);
    let message = fixture.message(9, &json!({"poll": poll.id.0, "id": ID, "votes": votes}));
    for _ in 0..2 {
        fixture.count(&fixture.batch(&poll, std::slice::from_ref(&message))).await;
    }
    let audit = fixture.ledger.audit(poll.id, LIMIT).await.unwrap();
    assert_eq!(audit.late.unwrap().votes, 14);
    assert_eq!((audit.rejected["late"], audit.rejected["countOutOfRange"]), (2, 1));
    issue(&fixture, poll.id).await;
    advance_later(&fixture, poll.id, 100).await;
    let certificates = later_certificates(&fixture, poll.id).await;
    let tally = [(1, 10), (3, 4)].map(|(number, votes)| (ContestantNumber(number), votes));
    assert_eq!((certificates[0].late.votes, &certificates[0].late_tally), (14, &Tally::from(tally)));
}
