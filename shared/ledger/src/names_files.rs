//! The public files of polls' names: which exist, and which no other file names any more.
//!
//! A row is there before its file, and goes after it. So every file in the bucket has a row, whatever dies in between,
//! and is deleted in the end.

use std::{collections::HashMap, time::Duration};

use sqlx::{Row, postgres::PgRow};

use super::{Error, Ledger};
use domain::PollId;

/// A replaced file is kept for pages, and for the edge's stale copies of the file that names it (`stale-if-error`).
const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Files deleted in a tick.
const DELETED_MAX: i64 = 100;

impl Ledger {
    /// Returns the hash of the current names' file of each of these polls that has one.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn names_files(&self, polls: &[PollId]) -> Result<HashMap<PollId, String>, Error> {
        let sql = "/* names_files */ SELECT poll, hash FROM names_files \
                   WHERE poll = ANY ($1) AND unused_since IS NULL";
        let ids: Vec<i32> = polls.iter().map(|poll| poll.0).collect();
        let rows = self.fetch_all(sqlx::query(sql).bind(&ids)).await?;
        Ok(rows.iter().map(file).collect::<Result<_, _>>()?)
    }

    /// Records that these files are about to be written. Until [`Self::names_written`] they count as unused.
    /// Idempotent.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn begin_names(&self, files: &[(PollId, &str)]) -> Result<(), Error> {
        let sql = "/* begin_names */ INSERT INTO names_files (poll, hash) SELECT * FROM unnest($1::int[], $2::text[]) \
                   ON CONFLICT (poll, hash) DO UPDATE SET unused_since = excluded.unused_since";
        let (polls, hashes) = columns(files);
        self.fetch_all(sqlx::query(sql).bind(&polls).bind(&hashes)).await.map(drop)
    }

    /// Records that these files are written: they are their polls' current ones, and all others of these polls are
    /// unused. Idempotent.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn names_written(&self, files: &[(PollId, &str)]) -> Result<(), Error> {
        let sql = "/* names_written */ UPDATE names_files AS file SET unused_since = \
                       CASE WHEN file.hash = current.hash THEN NULL ELSE coalesce(unused_since, clock_timestamp()) END \
                   FROM unnest($1::int[], $2::text[]) AS current (poll, hash) WHERE file.poll = current.poll";
        let (polls, hashes) = columns(files);
        self.fetch_all(sqlx::query(sql).bind(&polls).bind(&hashes)).await.map(drop)
    }

    /// Returns files that nothing has named for a day, at most 100.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn unused_names(&self) -> Result<Vec<(PollId, String)>, Error> {
        let sql = "/* unused_names */ SELECT poll, hash FROM names_files \
                   WHERE unused_since < clock_timestamp() - $1 * interval '1 second' ORDER BY unused_since LIMIT $2";
        let query = sqlx::query(sql).bind(KEPT_FOR.as_secs_f64()).bind(DELETED_MAX);
        let rows = self.fetch_all(query).await?;
        Ok(rows.iter().map(file).collect::<Result<_, _>>()?)
    }

    /// Returns all files of a poll, for its deletion.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn all_names_of(&self, poll: PollId) -> Result<Vec<(PollId, String)>, Error> {
        let sql = "/* all_names_of */ SELECT poll, hash FROM names_files WHERE poll = $1";
        let rows = self.fetch_all(sqlx::query(sql).bind(poll.0)).await?;
        Ok(rows.iter().map(file).collect::<Result<_, _>>()?)
    }

    /// Records that a file was deleted. Idempotent.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn names_deleted(&self, poll: PollId, hash: &str) -> Result<(), Error> {
        let sql = "/* names_deleted */ DELETE FROM names_files WHERE poll = $1 AND hash = $2";
        self.fetch_all(sqlx::query(sql).bind(poll.0).bind(hash)).await.map(drop)
    }
}

fn file(row: &PgRow) -> Result<(PollId, String), sqlx::Error> {
    Ok((PollId(row.try_get("poll")?), row.try_get("hash")?))
}

fn columns<'a>(files: &[(PollId, &'a str)]) -> (Vec<i32>, Vec<&'a str>) {
    files.iter().map(|&(poll, hash)| (poll.0, hash)).unzip()
}
