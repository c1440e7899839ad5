//! Deletes the files of deleted polls.

use crate::Handler;
use runtime::telemetry::error_chain;

impl Handler {
    /// Deletes the files of deleted polls, from the bucket and from the edge. Returns whether there were any.
    /// Failures are logged and retried at the next tick. Idempotent.
    ///
    /// # Errors
    /// The ledger does not answer.
    pub(crate) async fn delete_files(&self) -> Result<bool, ledger::Error> {
        let deleted = self.stores.ledger.deleted_files().await?;
        for &poll in &deleted {
            let key = format!("results/{}.json", poll.0);
            if let Err(error) = self.aws.delete_object(&self.bucket, &key).await {
                tracing::error!(error = error_chain(&error), poll = poll.0, "file.not_deleted");
                continue;
            }
            if self.request_invalidation(&key).await {
                self.stores.ledger.file_deleted(poll).await?;
            }
        }
        Ok(!deleted.is_empty())
    }
}
