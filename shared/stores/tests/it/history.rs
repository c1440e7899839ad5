//! No cost grows with history. The cost of a statement is the number of pages that the server reads: unlike its time,
//! it is the same on every machine.

use domain::{Basis, Inquiry, Message, Poll, Rejection};
use ledger::{Batch, Ledger};
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::support::{CAST_AT, Fixture, LIMIT, at, rejected, until, uuid};

/// Votes and rejections of earlier polls.
const HISTORY: i32 = 200_000;
/// Certified earlier polls.
const CERTIFIED: i32 = 500;
/// More batches than a connection needs before it keeps a plan for good.
const BATCHES: u128 = 8;
const BATCH: u128 = 30;

/// The pages that each of a poll's statements reads.
type Costs = Vec<(&'static str, i64)>;

#[tokio::test]
async fn the_statements_of_a_poll_cost_the_same_whatever_else_is_in_the_ledger() {
    let (empty, full) = tokio::join!(costs(false), costs(true));
    for ((name, without), (_, with)) in empty.into_iter().zip(full) {
        assert!(with <= without * 3 / 2 + 60, "{name}: {without} pages without history, {with} with it");
    }
}

/// Measures a poll's statements in a ledger with or without history, whose statistics say that it is empty.
async fn costs(with_history: bool) -> Costs {
    let mut fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    // Only measured statements may have a connection.
    fixture.ledger = fixture.second_ledger();
    let mut owner = fixture.scratch.connect().await.unwrap();
    for table in [
        "show_votes",
        "rejections",
        "rejection_counts",
        "certificates",
        "polls",
        "tallies",
        "log_batches",
        "cuts",
    ] {
        let sql = format!("ALTER TABLE {table} SET (autovacuum_enabled = off); ANALYZE {table}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut owner).await.unwrap();
    }
    // This connection keeps the plans that it made for empty tables.
    let warm = fixture.second_ledger();
    count(&fixture, &warm, &poll, 0).await;
    if with_history {
        add_history(&fixture, &mut owner, &poll).await;
    }
    owner.close().await.unwrap();
    let new = || fixture.second_ledger();
    let voter = fixture.hasher.voter("alice");
    let inquiry = Inquiry::new(&poll, voter, uuid(1), at(CAST_AT), &fixture.hasher);
    let by_ballot = Poll { votes_per_voter: Some(1), ..poll.clone() };
    let ballots = fixture.hasher.ballot_keys(&by_ballot, voter, 1);
    vec![
        ("count", pages(&fixture, warm, async |ledger| count(&fixture, ledger, &poll, BATCHES).await).await),
        (
            "receipt",
            pages(&fixture, new(), async |ledger| drop(ledger.receipts(&inquiry).await.unwrap())).await,
        ),
        (
            "ballots",
            pages(&fixture, new(), async |ledger| {
                drop(ledger.counted_ballots(poll.id, &ballots, voter).await.unwrap());
            })
            .await,
        ),
        ("live", pages(&fixture, new(), async |ledger| drop(ledger.progress(poll.id).await.unwrap())).await),
        (
            "audit",
            pages(&fixture, new(), async |ledger| drop(ledger.audit(poll.id, LIMIT).await.unwrap())).await,
        ),
        (
            "publishing",
            pages(&fixture, new(), async |ledger| {
                assert_eq!(ledger.publishable(LIMIT).await.unwrap().len(), 1);
                assert_eq!(ledger.uncertified(LIMIT).await.unwrap().len(), 1);
                assert_eq!(ledger.unsupplemented().await.unwrap(), []);
                assert_eq!(ledger.unfinished_polls().await.unwrap().len(), 1);
                assert!(!ledger.forget_rejections(1_000).await.unwrap());
            })
            .await,
        ),
        (
            "log",
            pages(&fixture, new(), async |ledger| {
                let position = ledger.log_positions(&[poll.id]).await.unwrap().pop().unwrap();
                assert!(!ledger.log_batches(position).await.unwrap().is_empty());
                ledger.latest_cuts(&[poll.id]).await.unwrap();
            })
            .await,
        ),
        (
            "certify",
            pages(&fixture, new(), async |ledger| {
                ledger.certify(poll.id, Basis::Forced).await.unwrap();
            })
            .await,
        ),
        (
            "supplement",
            pages(
                &fixture,
                new(),
                async |ledger| {
                    while !ledger.advance_supplement(poll.id, 100, LIMIT).await.unwrap() {}
                },
            )
            .await,
        ),
        (
            "export",
            pages(&fixture, new(), async |ledger| {
                let piece = ledger.export_piece(poll.id, None, 1_000, LIMIT, |_| ()).await.unwrap();
                assert!(piece.votes > 0);
            })
            .await,
        ),
    ]
}

/// Runs a statement over a connection of its own and returns the number of pages that the server has read for it.
async fn pages(fixture: &Fixture, ledger: Ledger, statement: impl AsyncFnOnce(&Ledger)) -> i64 {
    let mut owner = fixture.scratch.connect().await.unwrap();
    let before = pages_read(&mut owner).await;
    statement(&ledger).await;
    // The server knows what a connection has read once it has ended.
    drop(ledger);
    let ended = "SELECT count(*) = 0 FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    until(&mut owner, ended).await;
    pages_read(&mut owner).await - before
}

async fn pages_read(owner: &mut PgConnection) -> i64 {
    let sql = "SELECT sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit + idx_blks_read, 0))::bigint \
               FROM pg_statio_user_tables";
    sqlx::query_scalar(sql).fetch_one(owner).await.unwrap()
}

/// Counts batches of new votes, one of votes that were counted before, and one of rejections.
async fn count(fixture: &Fixture, ledger: &Ledger, poll: &Poll, first: u128) {
    for batch in first..first + BATCHES {
        let votes = fixture.votes(poll, batch * BATCH..(batch + 1) * BATCH);
        ledger.count(&votes).await.unwrap();
    }
    let mut again = fixture.votes(poll, first * BATCH..(first + 1) * BATCH);
    again.expect_repeats(true);
    ledger.count(&again).await.unwrap();
    let mut refused = Batch::default();
    refused.judged_by(poll.id, poll.version);
    for message in 0..BATCH {
        let message = fixture.message(u128::MAX - first * BATCH - message, &json!({"poll": poll.id.0}));
        let message = Message { voter: Some(fixture.hasher.voter("mallory")), ..message };
        rejected(&mut refused, &message, Rejection::BeforeOpening);
    }
    ledger.count(&refused).await.unwrap();
}

/// Adds certified polls with votes and rejections, and rejections of the open poll: by other voters, and as many rows as one
/// voter may have.
async fn add_history(fixture: &Fixture, owner: &mut PgConnection, Poll { id, .. }: &Poll) {
    let sql = format!(
        "INSERT INTO polls (title, opens_at, closes_at, results, contestants, frozen_at, edition, published) \
             SELECT 'Earlier', now() - interval '2 days', now() - interval '1 day', 'live', '[]', now(), 1, 1 \
             FROM generate_series(1, {CERTIFIED}); \
         INSERT INTO certificates (poll, basis, certified_at, tally, rejected, supplemented_at) \
             SELECT id, 'evidence', now(), '{{}}', '{{}}', now() FROM polls WHERE id <> {id}; \
         INSERT INTO tallies (poll, contestant, votes) SELECT id, 1, 400 FROM polls WHERE id <> {id}; \
         INSERT INTO votes (key, poll, voter, cast_at, contestant) \
             SELECT gen_random_uuid(), {id} + 1 + n % {CERTIFIED}, n, now(), 1 FROM generate_series(1, {HISTORY}) AS n; \
         INSERT INTO log_batches (poll, number, batch, cast_from, cast_to) \
             SELECT {id} + 1 + n % {CERTIFIED}, n, n, now(), now() FROM generate_series(1, {HISTORY} / 10) AS n; \
         INSERT INTO cuts (poll, number, first, last, cast_from, cast_to, casts, votes, hashes, other_hashes, written_at) \
             SELECT {id} + 1 + n % {CERTIFIED}, n, n, n, now(), now(), 1, 1, '', '', now() \
             FROM generate_series(1, {HISTORY} / 10) AS n; \
         INSERT INTO rejection_counts (poll, reason, count) SELECT id, 'afterClosing', 200 FROM polls WHERE id <> {id}; \
         INSERT INTO rejections (message_id, cast_at, voter, poll, reason) \
             SELECT gen_random_uuid(), now(), n, {id} + n % 2 * (1 + n % {CERTIFIED}), 'afterClosing' \
             FROM generate_series(1, {HISTORY}) AS n; \
         INSERT INTO rejections (message_id, cast_at, voter, poll, place, reason) \
             SELECT gen_random_uuid(), now(), {mallory}, {id}, n, 'afterClosing' FROM generate_series(1, 1000) AS n",
        id = id.0,
        mallory = fixture.hasher.voter("mallory").ledger_column()
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(owner).await.unwrap();
}
