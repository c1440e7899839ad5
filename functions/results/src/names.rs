//! Writes the files of polls' names, each before the first file that names it.

use std::collections::{BTreeMap, HashMap};

use domain::{NamesFile, Poll, PollId};
use futures_util::{StreamExt, stream};

use crate::{Handler, publish::CONCURRENT_WRITES};

impl Handler {
    /// Writes the names' files of these polls that do not exist yet. Returns the path of each poll's file. A poll is
    /// missing if it is a draft, if it is certified, since its own file has the names, or if its write failed, which
    /// is logged and retried at the next tick.
    ///
    /// # Errors
    /// The ledger does not answer.
    pub(crate) async fn write_names(
        &self,
        polls: impl Iterator<Item = &Poll>,
    ) -> Result<HashMap<PollId, String>, ledger::Error> {
        let now = self.clock.now();
        let public = polls.filter(|poll| poll.frozen_at.is_none() && !poll.is_draft(now));
        let files: BTreeMap<_, _> = public.map(|poll| (poll.id, NamesFile::new(poll))).collect();
        let ids: Vec<_> = files.keys().copied().collect();
        let known = self.stores.ledger.names_files(&ids).await?;
        let (mut current, missing): (Vec<_>, Vec<_>) =
            files.values().partition(|file| known.get(&file.poll) == Some(&file.hash));
        if !missing.is_empty() {
            self.stores.ledger.begin_names(&keys(&missing)).await?;
            let writing = missing.into_iter().map(|file| self.write_names_file(file));
            let written: Vec<_> = stream::iter(writing)
                .buffer_unordered(CONCURRENT_WRITES)
                .filter_map(std::future::ready)
                .collect()
                .await;
            self.stores.ledger.names_written(&keys(&written)).await?;
            current.extend(written);
        }
        Ok(current.into_iter().map(|file| (file.poll, format!("/{}", file.object_key()))).collect())
    }

    async fn write_names_file<'a>(&self, file: &'a NamesFile) -> Option<&'a NamesFile> {
        let written = self.put(&file.object_key(), &self.immutable_cache_control, &file.body).await;
        written.then_some(file)
    }
}

fn keys<'a>(files: &[&'a NamesFile]) -> Vec<(PollId, &'a str)> {
    files.iter().map(|file| (file.poll, file.hash.as_str())).collect()
}
