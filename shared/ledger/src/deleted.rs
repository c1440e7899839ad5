use std::time::Duration;

use sqlx::Row;

use super::{Error, Ledger};
use domain::PollId;

/// The time after a poll's deletion after which no writer can still write its file. A writer may have read the poll
/// before the deletion, and functions/results runs for up to 180 s.
const WRITERS_DONE_AFTER: Duration = Duration::from_secs(240);

impl Ledger {
    /// Returns deleted polls whose public file must be deleted: once immediately, and once more when no writer can
    /// be left.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn deleted_files(&self) -> Result<Vec<PollId>, Error> {
        let sql = "/* deleted_files */ SELECT poll FROM deleted_files \
                   WHERE removed_at IS NULL OR deleted_at < clock_timestamp() - $1 * interval '1 second' \
                   ORDER BY poll LIMIT 100";
        let rows = self.fetch_all(sqlx::query(sql).bind(WRITERS_DONE_AFTER.as_secs_f64())).await?;
        Ok(rows.iter().map(|row| row.try_get("poll").map(PollId)).collect::<Result<_, _>>()?)
    }

    /// Records that a deleted poll's file has been deleted. Idempotent.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn file_deleted(&self, poll: PollId) -> Result<(), Error> {
        let sql = "/* file_deleted */ WITH forgotten AS ( \
                       DELETE FROM deleted_files \
                       WHERE poll = $1 AND deleted_at < clock_timestamp() - $2 * interval '1 second' RETURNING poll) \
                   UPDATE deleted_files SET removed_at = clock_timestamp() \
                   WHERE poll = $1 AND poll NOT IN (SELECT poll FROM forgotten)";
        let query = sqlx::query(sql).bind(poll.0).bind(WRITERS_DONE_AFTER.as_secs_f64());
        self.fetch_all(query).await.map(drop)
    }
}
