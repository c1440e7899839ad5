//! Exports through the handler, against a real ledger and a fake bucket.
#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod bucket;

use std::{io::Read, time::Duration};

use bucket::Bucket;
use domain::{Basis, PollId, Recount};
use export::Handler;
use flate2::read::MultiGzDecoder;
use ledger::{Asked, Export, Ledger};
use local_stores::scratch::Scratch;
use runtime::Clock;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;

const LIMIT: Duration = Duration::from_secs(20);
const KEPT: Duration = Duration::from_secs(3_600);

struct Fixture {
    handler: Handler,
    ledger: Ledger,
    bucket: Bucket,
    connection: PgConnection,
}

impl Fixture {
    /// A handler whose shift has no length, so that each start writes one part.
    async fn new() -> Self {
        let scratch = Scratch::new().await.unwrap();
        let bucket = Bucket::start().await;
        let endpoint = bucket.endpoint.clone();
        let lookup = |name: &str| match name {
            "AWS_ENDPOINT_URL" => Some(endpoint.clone()),
            "CALL_TIMEOUT_MS" => Some("5000".to_owned()),
            "PART_BYTES" => Some("1000".to_owned()),
            "SHIFT_SECONDS" => Some("0".to_owned()),
            _ => scratch.environment(name),
        };
        let handler = Handler::new(&lookup, &Clock::system()).unwrap();
        let ledger = Ledger::new(&scratch.database_url, LIMIT).unwrap();
        Self { handler, ledger, bucket, connection: scratch.connect().await.unwrap() }
    }

    /// A closed poll with `votes` votes of half as many voters, interleaved with another poll's votes.
    async fn poll(&mut self, votes: i32) -> PollId {
        let sql = "INSERT INTO polls (title, opens_at, closes_at, results, contestants) \
                   VALUES ('Who stays?', now() - interval '1 hour', now() - interval '1 minute', 'live', '[]') RETURNING id";
        let id: i32 = sqlx::query_scalar(sql).fetch_one(&mut self.connection).await.unwrap();
        let sql = "INSERT INTO votes (key, voter, cast_at, poll, contestant, ballot) \
                   SELECT gen_random_uuid(), n / 2, now() - n * interval '1 millisecond', \
                   CASE n % 3 WHEN 0 THEN $1 + 1000 ELSE $1 END, n % 5 + 1, CASE n % 2 WHEN 0 THEN 7 END \
                   FROM generate_series(1, $2) AS n";
        sqlx::query(sql).bind(id).bind(votes / 2 * 3).execute(&mut self.connection).await.unwrap();
        let sql = "INSERT INTO tallies SELECT poll, contestant, count(*), count(*) FROM votes WHERE poll = $1 GROUP BY poll, contestant";
        sqlx::query(sql).bind(id).execute(&mut self.connection).await.unwrap();
        PollId(id)
    }

    /// Lets the votes without a ballot stand for as many taps as their contestant's number.
    async fn tap(&mut self, poll: PollId) {
        for sql in [
            "UPDATE votes SET count = contestant WHERE poll = $1 AND ballot IS NULL",
            "UPDATE tallies SET votes = (SELECT sum(count) FROM votes WHERE votes.poll = tallies.poll \
                 AND votes.contestant = tallies.contestant) WHERE poll = $1",
        ] {
            sqlx::query(sql).bind(poll.0).execute(&mut self.connection).await.unwrap();
        }
    }

    async fn certify(&self, poll: PollId) {
        self.ledger.certify(poll, Basis::Forced).await.unwrap();
        while !self.ledger.advance_supplement(poll, 100_000, LIMIT).await.unwrap() {}
    }

    async fn certified(&mut self, votes: i32) -> PollId {
        let poll = self.poll(votes).await;
        self.certify(poll).await;
        poll
    }

    async fn ask(&self, poll: PollId) -> Export {
        match self.ledger.ask_for_export(poll, KEPT).await.unwrap().unwrap() {
            Asked::Export(export) => export,
            Asked::NotCertified => panic!("not certified"),
        }
    }

    async fn found(&self, poll: PollId) -> Export {
        self.ledger.export(poll).await.unwrap().unwrap()
    }

    /// Runs shifts until the export is done. Returns their number.
    async fn until_done(&self, poll: PollId) -> usize {
        for shifts in 1..100 {
            self.handler.handle().await.unwrap();
            if self.found(poll).await.finished_at.is_some() {
                return shifts;
            }
        }
        panic!("the export never ends");
    }

    /// The file, uncompressed.
    async fn file(&self, poll: PollId) -> Vec<u8> {
        let mut text = Vec::new();
        let object = self.bucket.object(&self.found(poll).await.object_key()).unwrap();
        MultiGzDecoder::new(object.as_slice()).read_to_end(&mut text).unwrap();
        text
    }

    async fn assert_whole(&self, poll: PollId, votes: usize) {
        let file = self.file(poll).await;
        assert_eq!(file.iter().filter(|&&byte| byte == b'\n').count(), votes);
        let certificate = self.ledger.certificate(poll).await.unwrap().unwrap();
        let digest: String = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, certificate.supplement.unwrap().digest_hex());
    }
}

/// More than two pieces.
const MANY: i32 = 220_000;

#[tokio::test]
async fn a_file_is_written_over_several_shifts_and_has_the_certificates_digest() {
    let mut fixture = Fixture::new().await;
    let poll = fixture.certified(MANY).await;
    let asked = fixture.ask(poll).await;
    assert_eq!((asked.votes, asked.total), (0, Some(220_000)));
    fixture.handler.handle().await.unwrap();
    assert_eq!(fixture.found(poll).await.votes, 100_000);
    assert_eq!(fixture.ask(poll).await, fixture.found(poll).await, "asking again changes nothing");
    assert_eq!(fixture.until_done(poll).await, 2);
    fixture.assert_whole(poll, 220_000).await;
    let done = fixture.found(poll).await;
    assert_eq!((done.votes, done.etags.len()), (220_000, 3));
    fixture.handler.handle().await.unwrap();
    assert_eq!(fixture.ask(poll).await, done, "nor does it after the end");
    assert_eq!(fixture.bucket.begun(), 1);
}

#[tokio::test]
async fn a_poll_without_votes_is_a_file_without_lines() {
    let mut fixture = Fixture::new().await;
    let poll = fixture.certified(0).await;
    fixture.ask(poll).await;
    fixture.until_done(poll).await;
    fixture.assert_whole(poll, 0).await;
}

#[tokio::test]
async fn only_what_cannot_change_any_more_is_exported() {
    let mut fixture = Fixture::new().await;
    let poll = fixture.poll(10).await;
    let asked = fixture.ledger.ask_for_export(poll, KEPT).await.unwrap();
    assert_eq!(asked, Some(Asked::NotCertified));
    fixture.ledger.certify(poll, Basis::Forced).await.unwrap();
    let asked = fixture.ledger.ask_for_export(poll, KEPT).await.unwrap();
    assert!(matches!(asked, Some(Asked::Export(_))), "it needs no supplement");
    assert_eq!(fixture.ledger.ask_for_export(PollId(99), KEPT).await.unwrap(), None);
}

#[tokio::test]
async fn whatever_call_fails_the_next_shift_goes_on() {
    let mut fixture = Fixture::new().await;
    let poll = fixture.certified(MANY).await;
    fixture.ask(poll).await;
    let mut failed = 0;
    for round in 0.. {
        // A shift has one or two calls: the first fails, or the second, or none.
        fixture.bucket.fail(round % 3, round % 2 == 0);
        failed += usize::from(fixture.handler.handle().await.is_err());
        if fixture.found(poll).await.finished_at.is_some() {
            break;
        }
    }
    assert_eq!(failed, 3, "beginning, and a part twice");
    fixture.assert_whole(poll, 220_000).await;
}

#[tokio::test]
async fn a_file_that_nobody_was_told_of_is_found() {
    let mut fixture = Fixture::new().await;
    let poll = fixture.certified(MANY).await;
    fixture.ask(poll).await;
    fixture.handler.handle().await.unwrap();
    fixture.handler.handle().await.unwrap();
    // The last part succeeds; the completion takes effect, but its answer is lost.
    fixture.bucket.fail(1, true);
    fixture.handler.handle().await.unwrap_err();
    fixture.bucket.fail(usize::MAX, false);
    fixture.handler.handle().await.unwrap();
    assert!(fixture.found(poll).await.finished_at.is_some());
    assert_eq!(fixture.bucket.begun(), 1);
    fixture.assert_whole(poll, 220_000).await;
}

#[tokio::test]
async fn what_the_bucket_has_lost_is_begun_anew() {
    let mut fixture = Fixture::new().await;
    let poll = fixture.certified(MANY).await;
    let first = fixture.ask(poll).await;
    fixture.handler.handle().await.unwrap();
    fixture.bucket.lose_uploads();
    fixture.handler.handle().await.unwrap();
    let anew = fixture.found(poll).await;
    assert_eq!((anew.votes, anew.upload), (0, None));
    assert!(anew.started_at > first.started_at);
    fixture.until_done(poll).await;
    fixture.assert_whole(poll, 220_000).await;
}

#[tokio::test]
async fn after_ten_failures_it_is_given_up_until_it_is_asked_for_again() {
    let mut fixture = Fixture::new().await;
    let poll = fixture.certified(10).await;
    fixture.ask(poll).await;
    for _ in 0..10 {
        assert_eq!(fixture.found(poll).await.failure, None);
        fixture.bucket.fail(0, false);
        fixture.handler.handle().await.unwrap_err();
    }
    assert_eq!(fixture.found(poll).await.failure.as_deref(), Some("file not written"));
    fixture.bucket.fail(usize::MAX, false);
    fixture.handler.handle().await.unwrap();
    assert_eq!(fixture.found(poll).await.finished_at, None, "nobody requests it");
    assert_eq!(fixture.ask(poll).await.failure, None);
    fixture.until_done(poll).await;
    fixture.assert_whole(poll, 10).await;
}

#[tokio::test]
async fn a_ledger_that_is_not_what_was_certified_makes_no_file() {
    let mut fixture = Fixture::new().await;
    let poll = fixture.certified(10).await;
    let sql = "DELETE FROM votes WHERE key = (SELECT key FROM votes WHERE poll = $1 LIMIT 1)";
    sqlx::query(sql).bind(poll.0).execute(&mut fixture.connection).await.unwrap();
    fixture.ask(poll).await;
    let error = fixture.handler.handle().await.unwrap_err().to_string();
    assert_eq!(error, "the ledger has 9 votes of the poll, its certificate says 10");
    assert_eq!(fixture.found(poll).await.finished_at, None);
}

#[tokio::test]
async fn the_documented_command_counts_the_file_again() {
    let mut fixture = Fixture::new().await;
    let poll = fixture.poll(3_000).await;
    fixture.tap(poll).await;
    fixture.certify(poll).await;
    fixture.ask(poll).await;
    fixture.until_done(poll).await;
    let done = fixture.found(poll).await;
    assert_eq!((done.votes, done.total), (6_000, Some(6_000)), "of 3,000 lines");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("poll.csv.gz");
    let object = fixture.bucket.object(&fixture.found(poll).await.object_key()).unwrap();
    let certificate = fixture.ledger.certificate(poll).await.unwrap().unwrap();
    assert_eq!(certificate.recount(), Some(Recount::Equal));
    let contestants: Vec<String> = certificate
        .tally
        .iter()
        .map(|(number, votes)| {
            format!(r#"{{"number":{},"votes":{votes}}}"#, serde_json::to_string(number).unwrap())
        })
        .collect();
    let supplement = certificate.supplement.unwrap();
    let answer = format!(
        r#"{{"certificate":{{"digest":"{}","voters":{},"contestants":[{}]}}}}"#,
        supplement.digest_hex(),
        supplement.voters,
        contestants.join(",")
    );
    std::fs::write(folder.path().join("answer.json"), answer).unwrap();
    let recount = async || {
        let output = tokio::process::Command::new("python3")
            .arg("../../scripts/recount.py")
            .arg(&path)
            .args(["--voters", "--result"])
            .arg(folder.path().join("answer.json"))
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), text + &String::from_utf8_lossy(&output.stderr))
    };
    std::fs::write(&path, &object).unwrap();
    let (agrees, text) = recount().await;
    assert!(agrees && text.contains("votes: 6000\n"), "{text}");
    let mut text = Vec::new();
    MultiGzDecoder::new(object.as_slice()).read_to_end(&mut text).unwrap();
    // One vote for another contestant, one of more taps, and one vote twice.
    let line = text.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    let mut forged = text.clone();
    let comma = forged[..line].iter().enumerate().filter(|&(_, &byte)| byte == b',').nth(2).unwrap().0;
    forged[comma + 1] = if forged[comma + 1] == b'1' { b'2' } else { b'1' };
    let mut tapped = text.clone();
    tapped[line - 2] = b'9';
    for (tampered, message) in [
        (forged, "says otherwise about votes, digest"),
        (tapped, "says otherwise about votes, digest"),
        ([&text[..line], &text].concat(), "a vote is there twice"),
    ] {
        let mut file = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut file, &tampered).unwrap();
        std::fs::write(&path, file.finish().unwrap()).unwrap();
        let (agrees, text) = recount().await;
        assert!(!agrees && text.contains(message), "{text}");
    }
}
