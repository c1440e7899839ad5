//! The files of deleted polls go, too.

use crate::Handler;

impl Handler {
    /// Deletes the files of deleted polls, at the edge as well, and says whether there were any. What fails is logged, and
    /// tried again by the next tick. Idempotent.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub(crate) async fn delete_files(&self) -> Result<bool, ledger::Error> {
        let deleted = self.stores.ledger.deleted_files().await?;
        for &poll in &deleted {
            let key = format!("results/{}.json", poll.0);
            if let Err(error) = self.aws.delete_object(&self.bucket, &key).await {
                tracing::error!(error = &error as &dyn std::error::Error, poll = poll.0, "file.not_deleted");
                continue;
            }
            if self.is_forgotten_by_the_edge(&key).await {
                self.stores.ledger.file_deleted(poll).await?;
            }
        }
        Ok(!deleted.is_empty())
    }
}
