use std::{collections::BTreeMap, time::Duration};

use sqlx::{AssertSqlSafe, Row, postgres::PgRow, types::Json};

use super::{
    Error, Ledger,
    later::late_votes,
    polls::{WITH_TALLY, poll, tally, timestamp},
};
use domain::{Basis, Certificate, ContestantNumber, LateVotes, PollId, PollWithTally, Tally};

/// The maximum number of polls published per tick: ten times the number of the busiest evening, and as many files as
/// a tick can write.
const PUBLISHED_MAX: usize = 1_000;

/// A poll with work left for its public file or its later certificates.
#[derive(Debug, Clone)]
pub struct Publishable {
    /// The poll and its counters.
    pub loaded: PollWithTally,
    /// The certified result, if any.
    pub certificate: Option<Certificate>,
    /// The votes that arrived after the certificate, if any.
    pub late: Option<LateVotes>,
    /// Whether the file must be written. Otherwise only a later certificate is to be finished.
    pub is_file_due: bool,
}

impl Ledger {
    /// Returns the polls whose public file must be written: open polls, polls that open within `soon`, closed polls
    /// without a certificate, and certified polls that changed since their file was written, also by a late vote or
    /// a later certificate. Open polls come first, then the order is the distance to the close. At most 1,000; an
    /// incomplete result is logged. The returned tallies are on disk.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn publishable(&self, soon: Duration) -> Result<Vec<Publishable>, Error> {
        let sql = format!(
            "/* publishable */ SELECT polls.*, tally.*, certified_at, basis, digest, certificates.tally AS certified_tally, rejected, voters, \
                 late.votes AS late_count, late.first_at AS late_first_at, late.last_at AS late_last_at, is_file_due \
             FROM polls LEFT JOIN certificates ON certificates.poll = id LEFT JOIN late_arrivals AS late ON late.poll = id \
             CROSS JOIN LATERAL (SELECT certified_at IS NULL OR certificates.published < version \
                 OR coalesce(late.published < late.votes, false) \
                 OR EXISTS (SELECT FROM later_certificates AS later WHERE later.poll = id AND NOT is_published \
                     AND later.certified_at IS NOT NULL) AS is_file_due) AS due {WITH_TALLY} \
             WHERE opens_at <= clock_timestamp() + $1 * interval '1 millisecond' \
                 AND (is_file_due OR EXISTS ( \
                     SELECT FROM later_certificates AS later WHERE later.poll = id AND NOT is_published)) \
             ORDER BY (opens_at <= clock_timestamp() AND coalesce(closes_at > clock_timestamp(), true)) DESC, \
                 abs(extract(epoch FROM closes_at - clock_timestamp())) NULLS LAST, id DESC LIMIT $2"
        );
        let soon_ms = i64::try_from(soon.as_millis()).unwrap_or(i64::MAX);
        let query = sqlx::query(AssertSqlSafe(sql)).bind(soon_ms).bind(PUBLISHED_MAX as i64 + 1);
        let mut rows = self.fetch_all(query).await?;
        if rows.len() > PUBLISHED_MAX {
            tracing::error!(limit = PUBLISHED_MAX, "publishing.not_all");
            rows.truncate(PUBLISHED_MAX);
        }
        let publishable = |row: &PgRow| {
            Ok(Publishable {
                loaded: PollWithTally { poll: poll(row)?, tally: tally(row)? },
                certificate: certificate(row)?,
                late: late_votes(row)?,
                is_file_due: row.try_get("is_file_due")?,
            })
        };
        Ok(rows.iter().map(publishable).collect::<Result<_, sqlx::Error>>()?)
    }

    /// Returns the certified result, if any.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn certificate(&self, poll: PollId) -> Result<Option<Certificate>, Error> {
        let sql = "/* certificate */ SELECT certified_at, basis, digest, tally AS certified_tally, rejected, voters \
                   FROM certificates WHERE poll = $1";
        let row = self.fetch_all(sqlx::query(sql).bind(poll.0)).await?.pop();
        Ok(row.as_ref().map(certificate).transpose()?.flatten())
    }

    /// Records that the certified result was published with this version of the poll. Idempotent.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn published(&self, poll: PollId, version: i32) -> Result<(), Error> {
        let sql = "/* published */ UPDATE certificates SET published = $2 WHERE poll = $1 AND published < $2";
        self.fetch_all(sqlx::query(sql).bind(poll.0).bind(version)).await.map(drop)
    }
}

/// Decodes a certificate. Returns `None` if the result is not certified yet.
fn certificate(row: &PgRow) -> Result<Option<Certificate>, sqlx::Error> {
    let Some(certified_at) = row.try_get::<Option<_>, _>("certified_at")? else {
        return Ok(None);
    };
    let basis: String = row.try_get("basis")?;
    let tally: Json<BTreeMap<i16, u64>> = row.try_get("certified_tally")?;
    Ok(Some(Certificate {
        certified_at: timestamp(certified_at)?,
        basis: Basis::of(&basis)
            .ok_or_else(|| sqlx::Error::Decode(format!("unknown basis {basis:?}").into()))?,
        digest: row.try_get("digest")?,
        tally: tally
            .0
            .into_iter()
            .map(|(number, votes)| (ContestantNumber(number), votes))
            .collect::<Tally>(),
        rejected: row.try_get::<Json<_>, _>("rejected")?.0,
        voters: row.try_get::<i64, _>("voters")?.unsigned_abs(),
    }))
}
