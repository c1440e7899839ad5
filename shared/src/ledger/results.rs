use std::{collections::BTreeMap, time::Duration};

use sqlx::{AssertSqlSafe, Row, postgres::PgRow, types::Json};
use time::OffsetDateTime;

use super::{
    Error, Ledger, PollWithTally,
    later::late_votes,
    polls::{WITH_TALLY, poll, tally, timestamp},
};
use crate::domain::{Basis, Certificate, Closing, ContestantNumber, LateVotes, PollId, Tally, Timestamp};

/// Polls that are published at a time, the newest: more than any evening has.
const PUBLISHED_MAX: i64 = 100;

/// Looks further apart than this say nothing of the time between them.
const LOOKS_APART_MS_MAX: i64 = 30_000;

/// A poll with a public file that is not final yet.
#[derive(Debug, Clone)]
pub struct Publishable {
    /// The poll and its counters.
    pub loaded: PollWithTally,
    /// Its certified result.
    pub certificate: Option<Certificate>,
    /// Of a certified poll: votes that came after its certificate.
    pub late: Option<LateVotes>,
    /// Whether the file is to be written; else only a later certificate is to be made.
    pub is_file_due: bool,
}

impl Ledger {
    /// The polls whose public file is to be written: those open, closed but not certified, or changed since their
    /// certified file was written, also by a late vote or a later certificate; and those that open within `soon`.
    /// Newest first, at most 100; their tallies are on disk.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
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
             ORDER BY id DESC LIMIT $2"
        );
        let soon_ms = i64::try_from(soon.as_millis()).unwrap_or(i64::MAX);
        let rows = self.fetch_all(sqlx::query(AssertSqlSafe(sql)).bind(soon_ms).bind(PUBLISHED_MAX)).await?;
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

    /// The certified result, where there is one.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn certificate(&self, poll: PollId) -> Result<Option<Certificate>, Error> {
        let sql = "/* certificate */ SELECT certified_at, basis, digest, tally AS certified_tally, rejected, voters \
                   FROM certificates WHERE poll = $1";
        let row = self.fetch_all(sqlx::query(sql).bind(poll.0)).await?.pop();
        Ok(row.as_ref().map(certificate).transpose()?.flatten())
    }

    /// Remembers that the certified result has been published with this version of the poll.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn published(&self, poll: PollId, version: i32) -> Result<(), Error> {
        let sql = "/* published */ UPDATE certificates SET published = $2 WHERE poll = $1 AND published < $2";
        self.fetch_all(sqlx::query(sql).bind(poll.0).bind(version)).await.map(drop)
    }

    /// Notes a look at a closed poll: its votes, and what the queue says it holds (`None`: it did not tell). Answers
    /// what has been seen since the bell.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn look(
        &self,
        poll: PollId,
        bell: Timestamp,
        votes: u64,
        queued: Option<u64>,
    ) -> Result<Closing, Error> {
        let sql = "/* look */ INSERT INTO closings AS seen \
                       (poll, bell, votes, queued, quiet_since, empty_since, looked_at) \
                   SELECT $1, $2, $3, $4, now, CASE WHEN $4 = 0 THEN now END, now FROM clock_timestamp() AS now \
                   ON CONFLICT (poll) DO UPDATE SET \
                       bell = excluded.bell, votes = excluded.votes, queued = excluded.queued, \
                       looked_at = excluded.looked_at, \
                       quiet_since = CASE WHEN seen.bell = excluded.bell AND seen.votes = excluded.votes \
                           AND excluded.looked_at < seen.looked_at + $5 * interval '1 millisecond' \
                           THEN seen.quiet_since ELSE excluded.quiet_since END, \
                       empty_since = CASE WHEN seen.bell = excluded.bell AND excluded.empty_since IS NOT NULL \
                           AND excluded.looked_at < seen.looked_at + $5 * interval '1 millisecond' \
                           THEN coalesce(seen.empty_since, excluded.empty_since) ELSE excluded.empty_since END \
                   RETURNING looked_at AS now, quiet_since, empty_since, queued, looked_at";
        let query = sqlx::query(sql)
            .bind(poll.0)
            .bind(OffsetDateTime::from(bell))
            .bind(votes.cast_signed())
            .bind(queued.map(u64::cast_signed))
            .bind(LOOKS_APART_MS_MAX);
        let row = self.fetch_all(query).await?.pop().ok_or(sqlx::Error::RowNotFound)?;
        Ok(closing(&row)?)
    }

    /// What has been seen of a closed poll since this bell.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn closing(&self, poll: PollId, bell: Timestamp) -> Result<Closing, Error> {
        let sql = "/* closing */ SELECT clock_timestamp() AS now, quiet_since, empty_since, queued, looked_at \
                   FROM closings WHERE poll = $1 AND bell = $2";
        let row = self.fetch_all(sqlx::query(sql).bind(poll.0).bind(OffsetDateTime::from(bell))).await?.pop();
        let unseen = Closing { quiet: Duration::ZERO, empty: None, queued: None, looked: None };
        Ok(row.as_ref().map(closing).transpose()?.unwrap_or(unseen))
    }
}

fn closing(row: &PgRow) -> Result<Closing, sqlx::Error> {
    let now: OffsetDateTime = row.try_get("now")?;
    let ago = |moment: OffsetDateTime| (now - moment).try_into().unwrap_or(Duration::ZERO);
    Ok(Closing {
        quiet: ago(row.try_get("quiet_since")?),
        empty: row.try_get::<Option<_>, _>("empty_since")?.map(ago),
        queued: row.try_get::<Option<i64>, _>("queued")?.map(i64::unsigned_abs),
        looked: Some(ago(row.try_get("looked_at")?)),
    })
}

/// `None` where the result is not certified yet.
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
