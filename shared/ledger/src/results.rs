use std::{collections::BTreeMap, time::Duration};

use sqlx::{AssertSqlSafe, Row, postgres::PgRow, types::Json};

use super::{
    Error, Ledger,
    later::late_votes,
    polls::{WITH_TALLY, poll, readable, tally, timestamp},
};
use domain::{Basis, Certificate, ContestantNumber, LateVotes, PollId, PollWithTally, Supplement, Tally};

/// The maximum number of polls published per tick: ten times the number of the busiest evening, and as many files as
/// a tick can write.
const PUBLISHED_MAX: usize = 1_000;

/// A poll whose public file must be written.
#[derive(Debug, Clone)]
pub struct Publishable {
    /// The poll and its counters.
    pub loaded: PollWithTally,
    /// The certified result, if any.
    pub certificate: Option<Certificate>,
    /// The votes that arrived after the certificate, if any.
    pub late: Option<LateVotes>,
    /// The number of changes of the certified poll's file so far.
    pub edition: i32,
    /// Whether the file of this edition must be written. Otherwise only the poll's log has news.
    pub is_new_edition: bool,
}

impl Ledger {
    /// Returns the polls whose public file must be written: open polls, polls that open within `soon`, closed polls
    /// without a certificate, and certified polls that changed since their file was written, also by a supplement, a
    /// late vote or a later certificate. So must one whose log has something to publish, from ten minutes before the
    /// opening until a day after the close. Its cost does not depend on the other polls. Open polls come first, then
    /// the order is the distance to the close. At most 1,000; an incomplete result is logged, and so is a poll that
    /// cannot be read, which is left out. The returned tallies are on disk.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn publishable(&self, soon: Duration) -> Result<Vec<Publishable>, Error> {
        let sql = format!(
            "/* publishable */ WITH due AS ( \
                 SELECT id FROM polls WHERE frozen_at IS NULL AND opens_at <= now() + $1 * interval '1 millisecond' \
                 UNION ALL SELECT id FROM polls WHERE frozen_at IS NOT NULL AND published < edition \
                 UNION ALL SELECT id FROM polls WHERE frozen_at IS NULL AND has_uncut(id) \
                     AND opens_at > now() + $1 * interval '1 millisecond' AND opens_at < now() + interval '10 minutes' \
                 UNION ALL SELECT id FROM polls WHERE frozen_at IS NOT NULL AND published = edition \
                     AND closes_at > now() - interval '1 day' AND has_uncut(id)) \
             SELECT polls.*, tally.*, certified_at, basis, certificates.tally AS certified_tally, rejected, \
                 supplemented_at, digest, voters, recount, \
                 late.votes AS late_count, late.first_at AS late_first_at, late.last_at AS late_last_at \
             FROM due JOIN polls USING (id) LEFT JOIN certificates ON certificates.poll = id \
             LEFT JOIN late_arrivals AS late ON late.poll = id {WITH_TALLY} \
             ORDER BY (opens_at <= now() AND coalesce(closes_at > now(), true)) DESC, \
                 abs(extract(epoch FROM closes_at - now())) NULLS LAST, id DESC LIMIT $2"
        );
        let soon_ms = i64::try_from(soon.as_millis()).unwrap_or(i64::MAX);
        let query = sqlx::query(AssertSqlSafe(sql)).bind(soon_ms).bind(PUBLISHED_MAX as i64 + 1);
        let mut rows = self.fetch_all(query).await?;
        if rows.len() > PUBLISHED_MAX {
            tracing::error!(limit = PUBLISHED_MAX, "publishing.not_all");
            rows.truncate(PUBLISHED_MAX);
        }
        Ok(readable(&rows, publishable))
    }

    /// Returns the certified result, if any.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn certificate(&self, poll: PollId) -> Result<Option<Certificate>, Error> {
        let sql = "/* certificate */ SELECT certified_at, basis, tally AS certified_tally, rejected, \
                       supplemented_at, digest, voters, recount \
                   FROM certificates WHERE poll = $1";
        let row = self.fetch_all(sqlx::query(sql).bind(poll.0)).await?.pop();
        Ok(row.as_ref().map(certificate).transpose()?.flatten())
    }

    /// Records that this edition of a certified poll's file was written. It has the names itself, so their own file is
    /// unused. Idempotent.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn published(&self, poll: PollId, edition: i32) -> Result<(), Error> {
        let sql = "/* published */ WITH unused AS ( \
                       UPDATE names_files SET unused_since = clock_timestamp() WHERE poll = $1 AND unused_since IS NULL) \
                   UPDATE polls SET published = $2 WHERE id = $1 AND published < $2";
        self.fetch_all(sqlx::query(sql).bind(poll.0).bind(edition)).await.map(drop)
    }
}

fn publishable(row: &PgRow) -> Result<Publishable, sqlx::Error> {
    Ok(Publishable {
        loaded: PollWithTally { poll: poll(row)?, tally: tally(row)? },
        certificate: certificate(row)?,
        late: late_votes(row)?,
        edition: row.try_get("edition")?,
        is_new_edition: row.try_get::<i32, _>("published")? < row.try_get("edition")?,
    })
}

/// Decodes a certificate. Returns `None` if the result is not certified yet.
fn certificate(row: &PgRow) -> Result<Option<Certificate>, sqlx::Error> {
    let Some(certified_at) = row.try_get::<Option<_>, _>("certified_at")? else {
        return Ok(None);
    };
    let basis: String = row.try_get("basis")?;
    Ok(Some(Certificate {
        certified_at: timestamp(certified_at)?,
        basis: Basis::of(&basis)
            .ok_or_else(|| sqlx::Error::Decode(format!("unknown basis {basis:?}").into()))?,
        tally: votes(row, "certified_tally")?,
        rejected: row.try_get::<Json<_>, _>("rejected")?.0,
        supplement: supplement(row)?,
    }))
}

fn supplement(row: &PgRow) -> Result<Option<Supplement>, sqlx::Error> {
    let Some(at) = row.try_get::<Option<_>, _>("supplemented_at")? else { return Ok(None) };
    Ok(Some(Supplement {
        at: timestamp(at)?,
        digest: row.try_get("digest")?,
        voters: row.try_get::<i64, _>("voters")?.unsigned_abs(),
        recount: votes(row, "recount")?,
    }))
}

fn votes(row: &PgRow, column: &str) -> Result<Tally, sqlx::Error> {
    let votes: Json<BTreeMap<i16, u64>> = row.try_get(column)?;
    Ok(votes.0.into_iter().map(|(number, votes)| (ContestantNumber(number), votes)).collect())
}
