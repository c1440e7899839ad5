use std::time::Duration;

use sqlx::Row;

use super::{Error, Ledger};
use domain::PollId;

/// How long a file may be written after its poll has been deleted, by a writer that read the poll before: longer than
/// functions/results runs, 180 s.
const WRITERS_DONE: Duration = Duration::from_secs(240);

impl Ledger {
    /// Deleted polls whose public file is to be deleted: at once, and again when nobody can be writing it any more.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn deleted_files(&self) -> Result<Vec<PollId>, Error> {
        let sql = "/* deleted_files */ SELECT poll FROM deleted_files \
                   WHERE removed_at IS NULL OR deleted_at < clock_timestamp() - $1 * interval '1 second' \
                   ORDER BY poll LIMIT 100";
        let rows = self.fetch_all(sqlx::query(sql).bind(WRITERS_DONE.as_secs_f64())).await?;
        Ok(rows.iter().map(|row| row.try_get("poll").map(PollId)).collect::<Result<_, _>>()?)
    }

    /// Remembers that a deleted poll's file is gone. Idempotent.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn file_deleted(&self, poll: PollId) -> Result<(), Error> {
        let sql = "/* file_deleted */ WITH forgotten AS ( \
                       DELETE FROM deleted_files \
                       WHERE poll = $1 AND deleted_at < clock_timestamp() - $2 * interval '1 second' RETURNING poll) \
                   UPDATE deleted_files SET removed_at = clock_timestamp() \
                   WHERE poll = $1 AND poll NOT IN (SELECT poll FROM forgotten)";
        let query = sqlx::query(sql).bind(poll.0).bind(WRITERS_DONE.as_secs_f64());
        self.fetch_all(query).await.map(drop)
    }
}
