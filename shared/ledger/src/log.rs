//! The public log: what batches have decided, and the cuts that publish it.

use std::collections::HashMap;

use sqlx::{Row, postgres::PgRow, types::Uuid};
use time::OffsetDateTime;

use super::{Error, Ledger, polls::timestamp};
use domain::{LOGGED_BYTES, PollId, PublicCut, Timestamp};

/// Votes of a cut, unless one batch has more: 3 s at 40,000 votes a second.
const CUT_VOTES_MAX: i64 = 120_000;

/// Cuts that a poll's file names: half a minute, for a page that asks every 3 s and was away for a moment.
const LATEST_CUTS: i64 = 10;

/// Where the log of a poll has something to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPosition {
    /// The poll.
    pub poll: PollId,
    /// The number of the cut to be written.
    pub cut: i32,
    /// The batches before the cut end with this number.
    pub after: i64,
    /// The last batch of the cut, if the cut is in the ledger.
    pub last: Option<i64>,
}

/// What a batch has decided about votes of one poll.
#[derive(Debug)]
pub struct LogBatch {
    /// The number, ascending with the commits.
    pub number: i64,
    /// Counted votes in the form of [`domain::LoggedVote`].
    pub entries: Vec<u8>,
    /// Rejected votes: tag and reason.
    pub others: Vec<([u8; 16], String)>,
    /// When the first of these votes was cast.
    pub cast_from: Timestamp,
    /// When the last of these votes was cast.
    pub cast_to: Timestamp,
}

/// A cut of a poll's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The poll.
    pub poll: PollId,
    /// The first batch.
    pub first: i64,
    /// The last batch.
    pub last: i64,
    /// Counted votes.
    pub casts: usize,
    /// The taps that they stand for.
    pub votes: i64,
    /// SHA-256 of each file of counted votes.
    pub hashes: Vec<u8>,
    /// SHA-256 of each file of other outcomes.
    pub other_hashes: Vec<u8>,
    /// What the poll's file says of it.
    pub public: PublicCut,
}

impl Ledger {
    /// Returns where the logs of these polls have something to publish: a cut whose files may not all exist, or
    /// batches after the last cut. A poll without news is missing.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn log_positions(&self, polls: &[PollId]) -> Result<Vec<LogPosition>, Error> {
        let sql = "/* log_positions */ SELECT asked.poll, cut.number, cut.first, cut.last, \
                       cut.written_at IS NOT NULL AS is_written \
                   FROM unnest($1::integer[]) AS asked (poll) LEFT JOIN LATERAL ( \
                       SELECT * FROM cuts WHERE cuts.poll = asked.poll ORDER BY number DESC LIMIT 1 \
                   ) AS cut ON true WHERE has_uncut(asked.poll)";
        let rows = self.fetch_all(sqlx::query(sql).bind(numbers(polls))).await?;
        Ok(rows.iter().map(position).collect::<Result<_, _>>()?)
    }

    /// Returns the batches of the position's cut, or for a new cut as many as fit, in order. They are on disk.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn log_batches(&self, position: LogPosition) -> Result<Vec<LogBatch>, Error> {
        // The server knows the length of entries without reading them.
        let sql = "/* log_batches */ SELECT batch.* FROM ( \
                       SELECT number, sum(bytes) OVER (ORDER BY number) - bytes AS before FROM ( \
                           SELECT number, octet_length(entries) + pg_column_size(other_tags) AS bytes \
                           FROM log_batches WHERE poll = $1 AND number > $2 AND number <= $3 \
                       ) AS batch \
                   ) AS fitting JOIN log_batches AS batch ON batch.poll = $1 AND batch.number = fitting.number \
                   CROSS JOIN mark_log() WHERE before < $4 ORDER BY batch.number";
        let query = sqlx::query(sql)
            .bind(position.poll.0)
            .bind(position.after)
            .bind(position.last.unwrap_or(i64::MAX))
            // A cut that is in the ledger is read whole.
            .bind(if position.last.is_some() { i64::MAX } else { CUT_VOTES_MAX * LOGGED_BYTES as i64 });
        let rows = self.fetch_all(query).await?;
        Ok(rows.iter().map(batch).collect::<Result<_, _>>()?)
    }

    /// Adds a cut, which is on disk before the answer. Returns false if another publisher has added one of this number:
    /// then this one's files must not be written.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn add_cut(&self, cut: &Cut) -> Result<bool, Error> {
        let sql = "/* add_cut */ WITH added AS ( \
                       INSERT INTO cuts (poll, number, first, last, cast_from, cast_to, casts, votes, \
                                         bits, hashes, other_bits, other_hashes) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
                       ON CONFLICT DO NOTHING RETURNING first, last \
                   ) SELECT first, last FROM added UNION ALL \
                     SELECT first, last FROM cuts WHERE poll = $1 AND number = $2";
        let query = sqlx::query(sql)
            .bind(cut.poll.0)
            .bind(cut.public.cut)
            .bind(cut.first)
            .bind(cut.last)
            .bind(OffsetDateTime::from(cut.public.from))
            .bind(OffsetDateTime::from(cut.public.to))
            .bind(i32::try_from(cut.casts).unwrap_or(i32::MAX))
            .bind(cut.votes)
            .bind(cut.public.bits.map(i16::from))
            .bind(&cut.hashes)
            .bind(cut.public.other_bits.map(i16::from))
            .bind(&cut.other_hashes);
        let rows = self.fetch_all(query).await?;
        // A statement that was repeated after a broken connection finds its own cut.
        let Some(row) = rows.first() else { return Ok(false) };
        Ok((row.try_get::<i64, _>("first")?, row.try_get::<i64, _>("last")?) == (cut.first, cut.last))
    }

    /// Records that all files of these cuts exist. Idempotent.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn cuts_written(&self, cuts: &[(PollId, i32)]) -> Result<(), Error> {
        let sql = "/* cuts_written */ UPDATE cuts SET written_at = clock_timestamp() \
                   FROM unnest($1::integer[], $2::integer[]) AS written (poll, number) \
                   WHERE cuts.poll = written.poll AND cuts.number = written.number AND written_at IS NULL";
        let (polls, cuts): (Vec<_>, Vec<_>) = cuts.iter().map(|&(poll, cut)| (poll.0, cut)).unzip();
        self.fetch_all(sqlx::query(sql).bind(polls).bind(cuts)).await.map(drop)
    }

    /// Returns the latest cuts of each poll, newest first, at most 10, all of whose files exist.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn latest_cuts(&self, polls: &[PollId]) -> Result<HashMap<PollId, Vec<PublicCut>>, Error> {
        let sql = "/* latest_cuts */ SELECT asked.poll, number, bits, other_bits, cast_from, cast_to \
                   FROM unnest($1::integer[]) AS asked (poll) CROSS JOIN LATERAL ( \
                       SELECT number, bits, other_bits, cast_from, cast_to FROM cuts \
                       WHERE cuts.poll = asked.poll AND written_at IS NOT NULL ORDER BY number DESC LIMIT $2 \
                   ) AS latest ORDER BY asked.poll, number DESC";
        let rows = self.fetch_all(sqlx::query(sql).bind(numbers(polls)).bind(LATEST_CUTS)).await?;
        let mut latest = HashMap::<_, Vec<_>>::new();
        for row in &rows {
            latest.entry(PollId(row.try_get("poll")?)).or_default().push(public_cut(row)?);
        }
        Ok(latest)
    }
}

fn numbers(polls: &[PollId]) -> Vec<i32> {
    polls.iter().map(|poll| poll.0).collect()
}

fn position(row: &PgRow) -> Result<LogPosition, sqlx::Error> {
    let poll = PollId(row.try_get("poll")?);
    let Some(cut) = row.try_get::<Option<i32>, _>("number")? else {
        return Ok(LogPosition { poll, cut: 1, after: 0, last: None });
    };
    let (first, last) = (row.try_get::<i64, _>("first")?, row.try_get("last")?);
    Ok(if row.try_get("is_written")? {
        LogPosition { poll, cut: cut + 1, after: last, last: None }
    } else {
        LogPosition { poll, cut, after: first - 1, last: Some(last) }
    })
}

fn batch(row: &PgRow) -> Result<LogBatch, sqlx::Error> {
    let tags: Vec<Uuid> = row.try_get("other_tags")?;
    let reasons: Vec<String> = row.try_get("other_reasons")?;
    Ok(LogBatch {
        number: row.try_get("number")?,
        entries: row.try_get("entries")?,
        others: tags.into_iter().map(Uuid::into_bytes).zip(reasons).collect(),
        cast_from: timestamp(row.try_get("cast_from")?)?,
        cast_to: timestamp(row.try_get("cast_to")?)?,
    })
}

fn public_cut(row: &PgRow) -> Result<PublicCut, sqlx::Error> {
    let bits = |column| Ok::<_, sqlx::Error>(row.try_get::<Option<i16>, _>(column)?.map(|bits| bits as u8));
    Ok(PublicCut {
        cut: row.try_get("number")?,
        bits: bits("bits")?,
        other_bits: bits("other_bits")?,
        from: timestamp(row.try_get("cast_from")?)?,
        to: timestamp(row.try_get("cast_to")?)?,
    })
}
