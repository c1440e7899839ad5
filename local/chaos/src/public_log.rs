//! Checks the public log: reads its files through the edge, as pages do, and compares them with the ledger and the
//! driver's book.
use std::time::Duration;

use anyhow::{Result, ensure};
use domain::LedgerAddress;
use sha2::{Digest as _, Sha256};
use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgRow};
use tokio::time::{Instant, sleep};

use crate::{book::log_key, client::Client};

/// Time for the last cut, on a slow machine.
const CUT_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// An entry: tag and check.
const ENTRY_BYTES: usize = 32;
const HASH_BYTES: usize = 32;

/// The log's figures and differences.
#[derive(Debug, Default)]
pub struct PublicLogs {
    /// Number of cuts.
    pub cuts: u64,
    /// Number of files.
    pub files: u64,
    /// Number of counted votes in them.
    pub entries: u64,
    /// Number of other outcomes in them.
    pub others: u64,
    /// Differences, as texts for people.
    pub differences: Vec<String>,
}

/// The edge, and the ledger whose logs are read.
#[derive(Debug)]
pub struct LogReader {
    /// A viewer's connection.
    pub viewer: Client,
    /// The ledger's address as the functions see it.
    pub ledger: LedgerAddress,
}

impl LogReader {
    /// Waits for the last cuts of these polls and reads all their files. `expected` has the [`log_key`] of each vote that may
    /// count.
    ///
    /// # Errors
    /// The ledger cannot be read, or a poll's last votes are not cut within a minute.
    pub async fn check(
        &mut self,
        database_url: &str,
        polls: &[i32],
        mut expected: Vec<u64>,
    ) -> Result<PublicLogs> {
        let mut ledger = PgConnection::connect(database_url).await?;
        wait_for_cuts(&mut ledger, polls).await?;
        expected.sort_unstable();
        let mut logs = PublicLogs::default();
        for &poll in polls {
            self.check_poll(&mut ledger, poll, &expected, &mut logs).await?;
        }
        Ok(logs)
    }

    async fn check_poll(
        &mut self,
        ledger: &mut PgConnection,
        poll: i32,
        expected: &[u64],
        logs: &mut PublicLogs,
    ) -> Result<()> {
        let sql = "SELECT number, bits, other_bits, hashes, other_hashes, casts::bigint AS casts, votes FROM cuts \
                   WHERE poll = $1 ORDER BY number";
        let cuts = sqlx::query(sql).bind(poll).fetch_all(&mut *ledger).await?;
        let (mut found, mut casts, mut votes) = (Vec::new(), 0, 0);
        for (cut, expected_number) in cuts.iter().zip(1..) {
            let number: i32 = cut.try_get("number")?;
            if number != expected_number {
                logs.differences.push(format!("poll {poll}: cut {number} follows {}", expected_number - 1));
            }
            casts += cut.try_get::<i64, _>("casts")?;
            votes += cut.try_get::<i64, _>("votes")?;
            for body in self.files(cut, poll, "bits", "hashes", "votes", logs).await? {
                found.extend(body.as_chunks::<ENTRY_BYTES>().0.iter().map(log_key));
            }
            for body in self.files(cut, poll, "other_bits", "other_hashes", "others", logs).await? {
                logs.others += body.iter().filter(|byte| **byte == b'\n').count() as u64;
            }
        }
        logs.cuts += cuts.len() as u64;
        logs.entries += found.len() as u64;
        let unknown = found.iter().filter(|key| expected.binary_search(key).is_err()).count();
        let all = found.len() as i64;
        found.sort_unstable();
        found.dedup();
        let sql =
            "SELECT count(*) AS casts, coalesce(sum(count), 0)::bigint AS votes FROM votes WHERE poll = $1";
        let rows = sqlx::query(sql).bind(poll).fetch_one(ledger).await?;
        let (rows, taps) = (rows.try_get::<i64, _>("casts")?, rows.try_get::<i64, _>("votes")?);
        if (all, casts, votes) != (rows, rows, taps) || found.len() as i64 != rows || unknown > 0 {
            logs.differences.push(format!(
                "the log of poll {poll} has {all} entries, {} different, {unknown} of no vote that was sent; its cuts say \
                 {casts} votes with {votes} taps, the ledger {rows} with {taps}",
                found.len()
            ));
        }
        Ok(())
    }

    /// Reads the files of one kind in a cut.
    async fn files(
        &mut self,
        cut: &PgRow,
        poll: i32,
        bits: &str,
        hashes: &str,
        extension: &str,
        logs: &mut PublicLogs,
    ) -> Result<Vec<Vec<u8>>> {
        let Some(bits) = cut.try_get::<Option<i16>, _>(bits)? else { return Ok(Vec::new()) };
        let (number, hashes): (i32, Vec<u8>) = (cut.try_get("number")?, cut.try_get(hashes)?);
        let mut bodies = Vec::new();
        for (index, hash) in hashes.as_chunks::<HASH_BYTES>().0.iter().enumerate() {
            let path = format!("/log/{}/{poll}/{number}/{index}.{extension}", self.ledger);
            let (status, body) = self.viewer.send("GET", &path, "", String::new()).await?;
            if !status.is_success() || Sha256::digest(&body)[..] != hash[..] {
                logs.differences
                    .push(format!("{path}: {status}, {} bytes, not those of the cut", body.len()));
            }
            bodies.push(body.to_vec());
        }
        if bodies.len() != 1 << bits {
            logs.differences
                .push(format!("cut {number} of poll {poll} has {} files, not 2^{bits}", bodies.len()));
        }
        logs.files += bodies.len() as u64;
        Ok(bodies)
    }
}

async fn wait_for_cuts(ledger: &mut PgConnection, polls: &[i32]) -> Result<()> {
    let sql = "SELECT poll FROM log_batches WHERE poll = ANY ($1) AND number > coalesce( \
                   (SELECT max(last) FROM cuts WHERE cuts.poll = log_batches.poll), 0) \
               UNION SELECT poll FROM cuts WHERE poll = ANY ($1) AND written_at IS NULL";
    let give_up = Instant::now() + CUT_TIMEOUT;
    loop {
        let waiting: Vec<i32> = sqlx::query_scalar(sql).bind(polls).fetch_all(&mut *ledger).await?;
        if waiting.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < give_up, "the logs of polls {waiting:?} are not cut within {CUT_TIMEOUT:?}");
        sleep(POLL_INTERVAL).await;
    }
}
