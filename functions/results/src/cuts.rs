//! Cuts the public logs: writes files of what was decided since the last cut, so that a voter's page finds its votes.
//!
//! A cut is in the ledger before its first file is written, and a poll's file names it after its last one. So whatever
//! dies in between, the next publisher writes the same files again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws::Serving;
use domain::{CutFiles, CutKind, LogAddress, LoggedVote, PollId, PublicCut, PublicLog};
use futures_util::{StreamExt, stream};
use ledger::{Cut, LogBatch, LogPosition, Publishable};
use runtime::telemetry::error_chain;
use tokio::time::{Instant, timeout_at};

use crate::Handler;

/// The time of a tick for the logs. Then the polls' files are written, whatever is left: one poll's log, or a bucket that
/// hangs, holds no standing up.
const TIME: Duration = Duration::from_secs(4);

/// Concurrent writes: 2,000 files, at some 50 ms each, are written within a tick.
const CONCURRENT_WRITES: usize = 64;

/// Outcomes that are no count in a cut. A voter finds those beyond it in `GET /votes/mine`.
const OTHERS_MAX: usize = 10_000;

/// A cut and its files.
struct Content {
    cut: Cut,
    votes: Option<CutFiles>,
    others: Option<CutFiles>,
}

/// The written files of unfinished cuts, so that the next tick goes on where this one stopped.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<HashSet<String>>);

impl Progress {
    fn add(&self, key: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }

    fn has(&self, key: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    fn forget(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

impl Handler {
    /// Cuts the logs of these polls, one cut each. Returns the log that each poll's file names; `None` if the ledger did
    /// not return them. Failures are logged, and the next tick goes on where this one stopped.
    pub(crate) async fn cut_logs(&self, polls: &[Publishable]) -> Option<HashMap<PollId, PublicLog>> {
        let ids: Vec<_> = polls.iter().map(|one| one.loaded.poll.id).collect();
        if let Err(error) = self.publish_cuts(&ids, Instant::now() + TIME).await {
            tracing::error!(error = error_chain(&error), "log.not_cut");
        }
        let cuts = self.stores.ledger.latest_cuts(&ids).await;
        let cuts =
            cuts.inspect_err(|error| tracing::error!(error = error_chain(error), "log.unknown")).ok()?;
        Some(
            cuts.into_iter()
                .map(|(poll, cuts)| (poll, PublicLog::new(self.log_address(poll), cuts)))
                .collect(),
        )
    }

    async fn publish_cuts(&self, polls: &[PollId], until: Instant) -> Result<(), ledger::Error> {
        let mut contents = Vec::new();
        for position in self.stores.ledger.log_positions(polls).await? {
            match self.cut(position).await {
                Ok(content) => contents.extend(content),
                Err(error) => {
                    tracing::error!(error = error_chain(&error), poll = position.poll.0, "log.not_cut");
                }
            }
        }
        // A large cut holds up no small one.
        contents.sort_by_key(Content::files);
        let _in_time = timeout_at(until, self.write_files(&contents)).await;
        let is_written = |content: &&Content| self.keys(content).all(|(key, ..)| self.log_progress.has(&key));
        let written: Vec<_> = contents.iter().filter(is_written).collect();
        if written.is_empty() {
            return Ok(());
        }
        let cuts: Vec<_> = written.iter().map(|content| (content.cut.poll, content.cut.public.cut)).collect();
        self.stores.ledger.cuts_written(&cuts).await?;
        written
            .into_iter()
            .flat_map(|content| self.keys(content))
            .for_each(|(key, ..)| self.log_progress.forget(&key));
        Ok(())
    }

    /// Returns the cut at a position, and adds it to the ledger if it is new. `None` if another publisher was faster.
    async fn cut(&self, position: LogPosition) -> Result<Option<Content>, ledger::Error> {
        let batches = self.stores.ledger.log_batches(position).await?;
        let Some(content) = Content::new(position, &batches) else { return Ok(None) };
        let is_ours = position.last.is_some() || self.stores.ledger.add_cut(&content.cut).await?;
        Ok(is_ours.then_some(content))
    }

    /// Writes the files that this instance has not written yet.
    async fn write_files(&self, contents: &[Content]) {
        let files = contents.iter().flat_map(|content| self.keys(content));
        let missing = files.filter(|(key, ..)| !self.log_progress.has(key));
        let writing = missing.map(|(key, kind, body)| self.write_log_file(key, kind, body));
        stream::iter(writing).buffer_unordered(CONCURRENT_WRITES).collect::<()>().await;
    }

    /// Returns the files of a cut with their keys.
    fn keys<'a>(&self, content: &'a Content) -> impl Iterator<Item = (String, CutKind, &'a [u8])> + use<'a> {
        let address = self.log_address(content.cut.poll);
        let kinds = [(CutKind::Votes, &content.votes), (CutKind::Others, &content.others)];
        kinds.into_iter().flat_map(move |(kind, files)| {
            let contents = files.iter().flat_map(|files| files.contents.iter().enumerate());
            contents.map(move |(index, body)| {
                (address.object_key(content.cut.public.cut, kind, index), kind, body.as_slice())
            })
        })
    }

    async fn write_log_file(&self, key: String, kind: CutKind, body: &[u8]) {
        let content_type = match kind {
            CutKind::Votes => "application/octet-stream",
            CutKind::Others => "text/plain; charset=utf-8",
        };
        let cache_control = &self.immutable_cache_control;
        let serving = Serving { content_type, content_encoding: None, cache_control };
        match self.aws.put_object(&self.bucket, &key, serving, body.to_vec().into()).await {
            Ok(()) => self.log_progress.add(key),
            Err(error) => tracing::error!(error = error_chain(&error), key, "file.not_written"),
        }
    }

    fn log_address(&self, poll: PollId) -> LogAddress {
        LogAddress { ledger: self.stores.ledger.address(), poll }
    }
}

impl Content {
    fn files(&self) -> usize {
        [&self.votes, &self.others].into_iter().flatten().map(|files| files.contents.len()).sum()
    }

    /// Makes the files of these batches. `None` without batches.
    fn new(position: LogPosition, batches: &[LogBatch]) -> Option<Self> {
        let (first, last) = (batches.first()?.number, batches.last()?.number);
        let logged = || batches.iter().flat_map(|batch| LoggedVote::all(&batch.entries));
        let others = batches.iter().flat_map(|batch| batch.others.iter().cloned()).take(OTHERS_MAX);
        let (votes, others) = (CutFiles::votes(logged()), CutFiles::others(others.collect()));
        let bits = |files: &Option<CutFiles>| files.as_ref().map(|files| files.bits);
        let hashes = |files: &Option<CutFiles>| files.as_ref().map(CutFiles::hashes).unwrap_or_default();
        let cut = Cut {
            poll: position.poll,
            first,
            last,
            casts: logged().count(),
            votes: logged().map(|vote| i64::from(vote.count())).sum(),
            hashes: hashes(&votes),
            other_hashes: hashes(&others),
            public: PublicCut {
                cut: position.cut,
                bits: bits(&votes),
                other_bits: bits(&others),
                from: batches.iter().map(|batch| batch.cast_from).min()?,
                to: batches.iter().map(|batch| batch.cast_to).max()?,
            },
        };
        Some(Self { cut, votes, others })
    }
}
