use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::{Connection, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Error, Ledger,
    audit::extend_timeout,
    polls::timestamp,
    supplement::{COLUMNS, count, key},
};
use domain::{PollId, Timestamp};

/// The number of consecutive failures after which an export is abandoned.
const FAILURES_MAX: i32 = 10;

const ROW: &str = "exports.*, certified_at, \
    (SELECT coalesce(sum(count::bigint), 0)::bigint FROM jsonb_each_text( \
        CASE WHEN supplemented_at IS NULL THEN tally ELSE recount END) AS line (number, count)) AS total \
    FROM exports LEFT JOIN certificates USING (poll)";

/// The export of a certified poll's votes into a file, with its progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The poll.
    pub poll: PollId,
    /// The time of the request, or of the restart. It is part of the file's name.
    pub started_at: Timestamp,
    /// The bucket's id of the multipart upload. `None` if it has not begun.
    pub upload: Option<String>,
    /// The `ETag`s of the uploaded parts, in order.
    pub etags: Vec<String>,
    /// The key of the last uploaded vote.
    pub exported_to: Option<Uuid>,
    /// The uploaded votes: the sum of their counts.
    pub votes: u64,
    /// The compressed size of the uploaded parts.
    pub bytes: u64,
    /// The reason why the export was abandoned.
    pub failure: Option<String>,
    /// The time when the file was complete.
    pub finished_at: Option<Timestamp>,
    /// The number of votes in the certificate, or of its recount.
    pub total: Option<u64>,
}

/// The outcome of requesting an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The export is in progress or finished.
    Export(Export),
    /// The poll is not certified, so its votes may still change.
    NotCertified,
}

/// A piece of a poll's votes. The default is an empty one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Piece {
    /// The key of its last vote. `None` if it is empty.
    pub last: Option<Uuid>,
    /// Its votes: the sum of the counts.
    pub votes: u64,
    /// The number of its lines.
    pub casts: u64,
}

impl Export {
    /// Returns the object key of its file in the bucket.
    pub fn object_key(&self) -> String {
        format!("exports/{}/poll-{}.csv.gz", self.started_at.millis(), self.poll.0)
    }
}

impl Ledger {
    /// Requests the export of a certified poll. Idempotent: an export in progress continues, a finished one stays
    /// finished for `kept`, and an abandoned one resumes. Returns `None` if the poll does not exist.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn ask_for_export(&self, poll: PollId, kept: Duration) -> Result<Option<Asked>, Error> {
        let sql =
            "/* ask_for_export */ SELECT frozen_at IS NOT NULL AS is_certified FROM polls WHERE id = $1";
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

    /// Returns a poll's export with its progress. `None` if none was requested.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn export(&self, poll: PollId) -> Result<Option<Export>, Error> {
        let sql = format!("/* export */ SELECT {ROW} WHERE poll = $1");
        let row = self.fetch_all(sqlx::query(sqlx::AssertSqlSafe(sql)).bind(poll.0)).await?.pop();
        Ok(row.as_ref().map(export).transpose()?)
    }

    /// Returns the unfinished exports, oldest request first.
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

    /// Passes at most `rows` votes of a poll after a key to `take`, each as the CSV line that the digest hashes.
    /// Constant memory. `limit` bounds the whole call.
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
            extend_timeout(&mut transaction, limit).await?;
            let mut piece = Piece::default();
            let mut lines = transaction.copy_out_raw(&sql).await?;
            // Each message of the protocol is one line.
            while let Some(line) = lines.try_next().await? {
                let Piece { votes, casts, .. } = piece;
                piece = Piece { last: Some(key(&line)?), votes: votes + count(&line)?, casts: casts + 1 };
                take(&line);
            }
            drop(lines);
            transaction.commit().await?;
            self.keep(connection);
            Ok(piece)
        })
        .await
    }

    /// Records the upload id of an export. Returns `false` if the export already has one or was restarted.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn export_begun(&self, export: &Export, upload: &str) -> Result<bool, Error> {
        let sql = "/* export_begun */ UPDATE exports SET upload = $3 \
                   WHERE poll = $1 AND started_at = $2 AND upload IS NULL RETURNING poll";
        let begun = sqlx::query(sql).bind(export.poll.0).bind(OffsetDateTime::from(export.started_at));
        Ok(!self.fetch_all(begun.bind(upload)).await?.is_empty())
    }

    /// Records one more part. Returns `false` if another instance has already recorded it, with the same votes.
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

    /// Records that the file is complete. Idempotent.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn export_finished(&self, export: &Export) -> Result<(), Error> {
        let sql = "/* export_finished */ UPDATE exports \
                   SET finished_at = coalesce(finished_at, date_trunc('milliseconds', clock_timestamp())) \
                   WHERE poll = $1 AND upload = $2";
        self.fetch_all(sqlx::query(sql).bind(export.poll.0).bind(&export.upload)).await.map(drop)
    }

    /// Counts a failure. The tenth consecutive one abandons the export with this reason until the next request.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn export_failed(&self, export: &Export, reason: &str) -> Result<(), Error> {
        let sql = "/* export_failed */ UPDATE exports SET failures = failures + 1, \
                   failure = CASE WHEN failures + 1 >= $3 THEN $4 END WHERE poll = $1 AND started_at = $2";
        let failed = sqlx::query(sql).bind(export.poll.0).bind(OffsetDateTime::from(export.started_at));
        self.fetch_all(failed.bind(FAILURES_MAX).bind(reason)).await.map(drop)
    }

    /// Restarts an export whose upload no longer exists in the bucket.
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
    let figure = |column| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    let is_certified = row.try_get::<Option<OffsetDateTime>, _>("certified_at")?.is_some();
    let finished_at: Option<OffsetDateTime> = row.try_get("finished_at")?;
    Ok(Export {
        poll: PollId(row.try_get("poll")?),
        started_at: timestamp(row.try_get("started_at")?)?,
        upload: row.try_get("upload")?,
        etags: row.try_get("etags")?,
        exported_to: row.try_get("exported_to")?,
        votes: figure("votes")?,
        bytes: figure("bytes")?,
        failure: row.try_get("failure")?,
        finished_at: finished_at.map(timestamp).transpose()?,
        total: if is_certified { Some(figure("total")?) } else { None },
    })
}
