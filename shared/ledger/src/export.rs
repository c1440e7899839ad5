use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::{Connection, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Error, Ledger, audit::allow, certify::COLUMNS, polls::timestamp};
use domain::{PollId, Timestamp};

/// Shifts in a row that fail before an export is given up.
const FAILURES_MAX: i32 = 10;

/// Characters of a key at the beginning of a line.
const KEY_LENGTH: usize = 36;

const ROW: &str = "exports.*, certified_at, \
    (SELECT coalesce(sum(count::bigint), 0)::bigint FROM jsonb_each_text(certificates.tally) AS line (number, count)) AS total \
    FROM exports LEFT JOIN certificates USING (poll)";

/// A certified poll's votes on their way into a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Whose votes.
    pub poll: PollId,
    /// When it was asked for; begun anew, this changes. Names the file.
    pub started_at: Timestamp,
    /// The bucket's id of it.
    pub upload: Option<String>,
    /// Of the parts so far, in order.
    pub etags: Vec<String>,
    /// The last vote in them.
    pub exported_to: Option<Uuid>,
    /// Votes in them.
    pub votes: u64,
    /// Their size, compressed.
    pub bytes: u64,
    /// Why it has been given up.
    pub failure: Option<String>,
    /// When the file was complete.
    pub finished_at: Option<Timestamp>,
    /// Votes that the certificate says there are.
    pub total: Option<u64>,
}

/// What came of asking for an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It is under way, or done.
    Export(Export),
    /// The poll's votes may still change.
    NotCertified,
}

/// Some of a poll's votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The last one's key; `None`: there are none.
    pub last: Option<Uuid>,
    /// How many.
    pub votes: u64,
}

impl Export {
    /// Where its file is in the bucket.
    pub fn object_key(&self) -> String {
        format!("exports/{}/poll-{}.csv.gz", self.started_at.millis(), self.poll.0)
    }
}

impl Ledger {
    /// Asks for a certified poll's export. Idempotent: what is under way goes on, what is done stays done for `kept`,
    /// what was given up goes on where it was. `None`: no such poll.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn ask_for_export(&self, poll: PollId, kept: Duration) -> Result<Option<Asked>, Error> {
        let sql = "/* ask_for_export */ SELECT certified_at IS NOT NULL AS is_certified \
                   FROM polls LEFT JOIN certificates ON poll = id WHERE id = $1";
        let Some(row) = self.fetch_all(sqlx::query(sql).bind(poll.0)).await?.pop() else { return Ok(None) };
        if !row.try_get::<bool, _>("is_certified")? {
            return Ok(Some(Asked::NotCertified));
        }
        let sql = "/* ask_for_export */ DELETE FROM exports \
                   WHERE poll = $1 AND finished_at < clock_timestamp() - $2 * interval '1 second'";
        let kept = i64::try_from(kept.as_secs()).unwrap_or(i64::MAX);
        self.fetch_all(sqlx::query(sql).bind(poll.0).bind(kept)).await?;
        let sql = "/* ask_for_export */ INSERT INTO exports (poll) VALUES ($1) \
                   ON CONFLICT (poll) DO UPDATE SET failures = 0, failure = NULL";
        self.fetch_all(sqlx::query(sql).bind(poll.0)).await?;
        Ok(self.export(poll).await?.map(Asked::Export))
    }

    /// How far a poll's export is; `None`: nobody has asked for one.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn export(&self, poll: PollId) -> Result<Option<Export>, Error> {
        let sql = format!("/* export */ SELECT {ROW} WHERE poll = $1");
        let row = self.fetch_all(sqlx::query(sqlx::AssertSqlSafe(sql)).bind(poll.0)).await?.pop();
        Ok(row.as_ref().map(export).transpose()?)
    }

    /// The exports to go on with, those asked for first first.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn unfinished_exports(&self) -> Result<Vec<Export>, Error> {
        let sql = format!(
            "/* unfinished_exports */ SELECT {ROW} WHERE finished_at IS NULL AND failure IS NULL ORDER BY started_at"
        );
        let rows = self.fetch_all(sqlx::query(sqlx::AssertSqlSafe(sql))).await?;
        Ok(rows.iter().map(export).collect::<Result<_, _>>()?)
    }

    /// Hands `take` the next votes of a poll after a key, at most so many, a line of CSV each: as the digest has them.
    /// Constant memory. `limit` bounds the whole.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn export_piece(
        &self,
        poll: PollId,
        after: Option<Uuid>,
        rows: u64,
        limit: Duration,
        mut take: impl FnMut(&[u8]),
    ) -> Result<Piece, Error> {
        // COPY takes no parameters; numbers and UUIDs need no quoting.
        let sql = format!(
            "COPY (/* export */ SELECT {COLUMNS} FROM votes WHERE poll = {} AND key > '{}' ORDER BY key LIMIT {rows}) \
             TO STDOUT (FORMAT csv)",
            poll.0,
            after.unwrap_or(Uuid::nil())
        );
        self.within(limit, async {
            let mut connection = self.connection().await?;
            let mut transaction = connection.begin().await?;
            allow(&mut transaction, limit).await?;
            let mut piece = Piece { last: None, votes: 0 };
            let mut key = [0; KEY_LENGTH];
            let mut lines = transaction.copy_out_raw(&sql).await?;
            // A message of the protocol is a line.
            while let Some(line) = lines.try_next().await? {
                key.copy_from_slice(line.get(..KEY_LENGTH).ok_or_else(|| no_key(&line))?);
                piece.votes += 1;
                take(&line);
            }
            drop(lines);
            if piece.votes > 0 {
                piece.last = Some(Uuid::try_parse_ascii(&key).map_err(|_| no_key(&key))?);
            }
            transaction.commit().await?;
            self.keep(connection);
            Ok(piece)
        })
        .await
    }

    /// Remembers the bucket's id of an export. `false`: it has one already, or was begun anew.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn export_begun(&self, export: &Export, upload: &str) -> Result<bool, Error> {
        let sql = "/* export_begun */ UPDATE exports SET upload = $3 \
                   WHERE poll = $1 AND started_at = $2 AND upload IS NULL RETURNING poll";
        let begun = sqlx::query(sql).bind(export.poll.0).bind(OffsetDateTime::from(export.started_at));
        Ok(!self.fetch_all(begun.bind(upload)).await?.is_empty())
    }

    /// Remembers one more part. `false`: somebody else has remembered it, with the same votes.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn export_moved(
        &self,
        export: &Export,
        etag: &str,
        bytes: usize,
        piece: Piece,
    ) -> Result<bool, Error> {
        let sql = "/* export_moved */ UPDATE exports SET etags = etags || $4, exported_to = coalesce($5, exported_to), \
                   votes = votes + $6, bytes = bytes + $7, failures = 0 \
                   WHERE poll = $1 AND upload = $2 AND cardinality(etags) = $3 RETURNING poll";
        let moved = sqlx::query(sql)
            .bind(export.poll.0)
            .bind(&export.upload)
            .bind(i32::try_from(export.etags.len()).unwrap_or(i32::MAX))
            .bind(etag)
            .bind(piece.last)
            .bind(i64::try_from(piece.votes).unwrap_or(i64::MAX))
            .bind(i64::try_from(bytes).unwrap_or(i64::MAX));
        Ok(!self.fetch_all(moved).await?.is_empty())
    }

    /// Remembers that the file is complete. Idempotent.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn export_finished(&self, export: &Export) -> Result<(), Error> {
        let sql = "/* export_finished */ UPDATE exports \
                   SET finished_at = coalesce(finished_at, date_trunc('milliseconds', clock_timestamp())) \
                   WHERE poll = $1 AND upload = $2";
        self.fetch_all(sqlx::query(sql).bind(export.poll.0).bind(&export.upload)).await.map(drop)
    }

    /// Counts a failure; the tenth in a row gives the export up, for this reason, until it is asked for again.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn export_failed(&self, export: &Export, reason: &str) -> Result<(), Error> {
        let sql = "/* export_failed */ UPDATE exports SET failures = failures + 1, \
                   failure = CASE WHEN failures + 1 >= $3 THEN $4 END WHERE poll = $1 AND started_at = $2";
        let failed = sqlx::query(sql).bind(export.poll.0).bind(OffsetDateTime::from(export.started_at));
        self.fetch_all(failed.bind(FAILURES_MAX).bind(reason)).await.map(drop)
    }

    /// Begins an export anew, whose upload the bucket does not know any more.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn export_lost(&self, export: &Export) -> Result<(), Error> {
        let sql = "/* export_lost */ UPDATE exports SET started_at = date_trunc('milliseconds', clock_timestamp()), \
                   upload = NULL, etags = '{}', exported_to = NULL, votes = 0, bytes = 0, failures = failures + 1, \
                   failure = CASE WHEN failures + 1 >= $3 THEN 'the bucket loses the upload' END \
                   WHERE poll = $1 AND upload = $2";
        let lost = sqlx::query(sql).bind(export.poll.0).bind(&export.upload).bind(FAILURES_MAX);
        self.fetch_all(lost).await.map(drop)
    }
}

fn export(row: &PgRow) -> Result<Export, sqlx::Error> {
    let count = |column| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    let is_certified = row.try_get::<Option<OffsetDateTime>, _>("certified_at")?.is_some();
    let finished_at: Option<OffsetDateTime> = row.try_get("finished_at")?;
    Ok(Export {
        poll: PollId(row.try_get("poll")?),
        started_at: timestamp(row.try_get("started_at")?)?,
        upload: row.try_get("upload")?,
        etags: row.try_get("etags")?,
        exported_to: row.try_get("exported_to")?,
        votes: count("votes")?,
        bytes: count("bytes")?,
        failure: row.try_get("failure")?,
        finished_at: finished_at.map(timestamp).transpose()?,
        total: if is_certified { Some(count("total")?) } else { None },
    })
}

fn no_key(line: &[u8]) -> sqlx::Error {
    sqlx::Error::Decode(format!("a vote without a key: {}", String::from_utf8_lossy(line)).into())
}
