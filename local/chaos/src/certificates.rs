//! Checks the certificates of a run: each has every vote cast in time, and each is issued in time.
use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::Result;
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::time::{Instant, sleep};

/// Time for the last sign of a failed batch to expire and for the probes, on a slow machine.
const CERTIFY_TIMEOUT: Duration = Duration::from_secs(120);

const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Expected basis of a certificate.
const BASIS: &str = "evidence";

/// The certificate of one poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Number of the poll.
    pub poll: i32,
    /// Close of the poll, in ms since 1970.
    pub closes_ms: i64,
    /// Moment of certification, in ms since 1970; `None` without a certificate.
    pub certified_ms: Option<i64>,
    /// Basis of the certificate: `evidence` or `forced`.
    pub basis: String,
    /// Votes in the certificate.
    pub votes: i64,
    /// The poll's votes in the ledger: the sum of their counts.
    pub ledger: i64,
}

/// The certificates of all closed polls and their delays.
#[derive(Debug, Default)]
pub struct Certificates {
    /// Number of closed polls.
    pub closed: usize,
    /// Seconds from close to certificate, ascending, of polls that closed during the run without a failed batch
    /// nearby.
    pub undisturbed: Vec<f64>,
    /// The same, of polls with a failed batch nearby.
    pub disturbed: Vec<f64>,
    /// Votes cast in time and missing from their certificate, by poll.
    pub early: BTreeMap<i64, u64>,
    /// Votes cast in time and missing from their certificate because the queue withheld these single messages.
    pub withheld: u64,
    /// Other errors, as texts for people.
    pub wrong: Vec<String>,
}

/// Waits until each of these polls is certified, at most [`CERTIFY_TIMEOUT`], and returns all of them, certified or
/// not.
///
/// # Errors
/// The ledger cannot be read.
pub async fn wait_for(database_url: &str, polls: &[i32]) -> Result<Vec<Certificate>> {
    let mut connection = PgConnection::connect(database_url).await?;
    let give_up = Instant::now() + CERTIFY_TIMEOUT;
    loop {
        let found = read(&mut connection, polls).await?;
        if found.iter().all(|one| one.certified_ms.is_some()) || Instant::now() > give_up {
            return Ok(found);
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Reads the certificates with SQL of its own, independent of the code under test.
async fn read(connection: &mut PgConnection, polls: &[i32]) -> Result<Vec<Certificate>> {
    let sql = "SELECT id, (extract(epoch FROM closes_at) * 1000)::bigint AS closes_ms, \
               (extract(epoch FROM certified_at) * 1000)::bigint AS certified_ms, coalesce(basis, '') AS basis, \
               (SELECT coalesce(sum(value::bigint), 0)::bigint FROM jsonb_each_text(tally)) AS votes, \
               (SELECT coalesce(sum(count), 0)::bigint FROM votes WHERE votes.poll = id) AS ledger \
               FROM polls LEFT JOIN certificates ON certificates.poll = id WHERE id = ANY($1) ORDER BY closes_at";
    let rows = sqlx::query(sql).bind(polls).fetch_all(connection).await?;
    let certificate = |row: &sqlx::postgres::PgRow| {
        Ok(Certificate {
            poll: row.try_get("id")?,
            closes_ms: row.try_get("closes_ms")?,
            certified_ms: row.try_get("certified_ms")?,
            basis: row.try_get("basis")?,
            votes: row.try_get("votes")?,
            ledger: row.try_get("ledger")?,
        })
    };
    rows.iter().map(certificate).collect()
}

impl Certificates {
    /// Checks the certificates. `started_ms` is the start of the run, `failures_ms` the moments of failed batches,
    /// ascending, and `sign` the time for which a failed batch delays certification.
    pub fn of(found: &[Certificate], started_ms: i64, failures_ms: &[i64], sign: Duration) -> Self {
        let mut certificates = Self { closed: found.len(), ..Self::default() };
        for Certificate { poll, closes_ms, certified_ms, basis, votes, ledger } in found {
            let Some(certified_ms) = *certified_ms else {
                certificates.wrong.push(format!("poll {poll} has closed and is not certified"));
                continue;
            };
            if basis != BASIS {
                certificates.wrong.push(format!("poll {poll} is certified by {basis}, not by {BASIS}"));
            }
            if votes != ledger {
                certificates
                    .wrong
                    .push(format!("poll {poll} is certified with {votes} votes and has {ledger}"));
            }
            if *closes_ms < started_ms {
                continue;
            }
            let near = closes_ms - sign.as_millis() as i64..=certified_ms;
            let is_disturbed = failures_ms.iter().any(|failure| near.contains(failure));
            let seconds = (certified_ms - closes_ms) as f64 / 1_000.0;
            if is_disturbed { &mut certificates.disturbed } else { &mut certificates.undisturbed }
                .push(seconds);
        }
        certificates.disturbed.sort_unstable_by(f64::total_cmp);
        certificates.undisturbed.sort_unstable_by(f64::total_cmp);
        certificates
    }

    /// Returns the errors, as texts for people.
    pub fn differences(&self) -> Vec<String> {
        let early = self.early.iter().map(|(poll, votes)| {
            format!("poll {poll} was certified early: {votes} votes were cast in time and came later")
        });
        early.chain(self.wrong.iter().cloned()).collect()
    }
}

impl fmt::Display for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>12}  polls closed, {} certified early", self.closed, self.early.len())?;
        writeln!(f, "{:>12}  votes late because the queue withheld single messages", self.withheld)?;
        for (group, seconds) in
            [("without a failed batch", &self.undisturbed), ("with a failed batch", &self.disturbed)]
        {
            write!(f, "{:>12}  of them {group}", seconds.len())?;
            if let (Some(p50), Some(p99)) = (percentile(seconds, 50), percentile(seconds, 99)) {
                write!(f, ": from the close to the certificate p50 {p50:.1} s, p99 {p99:.1} s")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Returns a percentile by nearest rank; `None` of an empty slice.
fn percentile(ascending: &[f64], percent: usize) -> Option<f64> {
    let rank = (ascending.len() * percent).div_ceil(100);
    ascending.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGN: Duration = Duration::from_secs(9);

    fn certificate(poll: i32, closes_ms: i64, certified_ms: i64) -> Certificate {
        let (certified_ms, basis) = (Some(certified_ms), BASIS.to_owned());
        Certificate { poll, closes_ms, certified_ms, basis, votes: 7, ledger: 7 }
    }

    #[test]
    fn delays_are_split_by_whether_a_batch_failed_nearby() {
        let found = [
            certificate(1, 50_000, 58_000),
            certificate(2, 100_000, 112_000),
            certificate(3, 200_000, 230_000),
        ];
        for (failure_ms, undisturbed, disturbed) in [
            (40_999, vec![8.0, 12.0, 30.0], vec![]),
            (41_000, vec![12.0, 30.0], vec![8.0]),
            (112_000, vec![8.0, 30.0], vec![12.0]),
            (112_001, vec![8.0, 12.0, 30.0], vec![]),
        ] {
            let certificates = Certificates::of(&found, 0, &[failure_ms], SIGN);
            assert_eq!((certificates.undisturbed, certificates.disturbed), (undisturbed, disturbed));
        }
    }

    #[test]
    fn each_error_is_reported() {
        let none = Certificate { certified_ms: None, basis: String::new(), ..certificate(1, 0, 0) };
        let forced = Certificate { basis: "forced".to_owned(), ..certificate(2, 0, 1) };
        let short = Certificate { votes: 6, ..certificate(3, 0, 1) };
        let mut certificates = Certificates::of(&[none, forced, short, certificate(4, 0, 1)], 0, &[], SIGN);
        certificates.early.insert(4, 2);
        assert_eq!(
            certificates.differences(),
            [
                "poll 4 was certified early: 2 votes were cast in time and came later",
                "poll 1 has closed and is not certified",
                "poll 2 is certified by forced, not by evidence",
                "poll 3 is certified with 6 votes and has 7",
            ]
        );
    }

    #[test]
    fn polls_that_closed_before_the_run_are_left_out_of_its_delays() {
        let certificates = Certificates::of(&[certificate(1, 0, 5_000)], 1_000, &[], SIGN);
        assert_eq!((certificates.closed, certificates.undisturbed.len()), (1, 0));
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99)), (Some(50.0), Some(99.0)));
        assert_eq!(
            (percentile(&[3.0], 50), percentile(&[3.0], 99), percentile(&[], 99)),
            (Some(3.0), Some(3.0), None)
        );
    }
}
