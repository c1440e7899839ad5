//! Deletes the files of deleted polls, and files that no other file names any more.

use domain::{NamesFile, PollId};
use runtime::telemetry::error_chain;

use crate::Handler;

impl Handler {
    /// Deletes the files of deleted polls, from the bucket and from the edge. Returns whether there were any.
    /// Failures are logged and retried at the next tick. Idempotent.
    ///
    /// # Errors
    /// The ledger does not answer.
    pub(crate) async fn delete_files(&self) -> Result<bool, ledger::Error> {
        let deleted = self.stores.ledger.deleted_files().await?;
        for &poll in &deleted {
            self.delete_files_of(poll).await?;
        }
        Ok(!deleted.is_empty())
    }

    async fn delete_files_of(&self, poll: PollId) -> Result<(), ledger::Error> {
        let names = self.stores.ledger.all_names_of(poll).await?;
        let names_keys = names.iter().map(|(poll, hash)| NamesFile::key(*poll, hash));
        let keys: Vec<_> = [format!("results/{}.json", poll.0)].into_iter().chain(names_keys).collect();
        for key in &keys {
            if !self.delete_file(poll, key).await {
                return Ok(());
            }
        }
        if self.request_invalidation(&keys).await {
            for (poll, hash) in &names {
                self.stores.ledger.names_deleted(*poll, hash).await?;
            }
            self.stores.ledger.file_deleted(poll).await?;
        }
        Ok(())
    }

    /// Deletes names' files that nothing has named for a day, from the bucket. A failure is logged; the next shift tries
    /// again.
    pub(crate) async fn delete_unused_names(&self) {
        if let Err(error) = self.try_delete_unused_names().await {
            tracing::warn!(error = error_chain(&error), "names.not_deleted");
        }
    }

    async fn try_delete_unused_names(&self) -> Result<(), ledger::Error> {
        for (poll, hash) in self.stores.ledger.unused_names().await? {
            if self.delete_file(poll, &NamesFile::key(poll, &hash)).await {
                self.stores.ledger.names_deleted(poll, &hash).await?;
            }
        }
        Ok(())
    }

    /// Deletes a file from the bucket. Returns whether it succeeded; a failure is logged.
    async fn delete_file(&self, poll: PollId, key: &str) -> bool {
        let deleted = self.aws.delete_object(&self.bucket, key).await;
        if let Err(error) = &deleted {
            tracing::error!(error = error_chain(error), poll = poll.0, key, "file.not_deleted");
        }
        deleted.is_ok()
    }
}
