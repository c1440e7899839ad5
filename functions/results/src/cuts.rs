//! Cuts the public logs: writes files of what was decided since the last cut, so that a voter's page finds its votes.
//!
//! A cut is in the ledger before its first file is written, and a poll's file names it after its last one. So whatever
//! dies in between, the next publisher writes the same files again.

use std::collections::HashMap;

use aws::Serving;
use domain::{CutFiles, CutKind, LogAddress, LoggedVote, PollId, PublicCut, PublicLog};
use futures_util::{StreamExt, stream};
use ledger::{Cut, LogBatch, LogPosition, Publishable};
use runtime::telemetry::error_chain;
use tokio::time::Instant;

use crate::Handler;

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

impl Handler {
    /// Cuts the logs of these polls, one cut each. Returns what each poll's file says of its log. Failures are logged,
    /// and the next tick goes on where this one stopped; so it does after `until`.
    pub(crate) async fn cut_logs(&self, polls: &[Publishable], until: Instant) -> HashMap<PollId, PublicLog> {
        let ids: Vec<_> = polls.iter().map(|one| one.loaded.poll.id).collect();
        let published = async {
            self.publish_cuts(&ids, until).await?;
            self.stores.ledger.latest_cuts(&ids).await
        };
        let cuts = published.await.unwrap_or_else(|error| {
            tracing::error!(error = error_chain(&error), "log.not_cut");
            HashMap::new()
        });
        cuts.into_iter().map(|(poll, cuts)| (poll, PublicLog::new(self.log_address(poll), cuts))).collect()
    }

    async fn publish_cuts(&self, polls: &[PollId], until: Instant) -> Result<(), ledger::Error> {
        let mut contents = Vec::new();
        for position in self.stores.ledger.log_positions(polls).await? {
            contents.extend(self.cut(position).await?);
        }
        let mut written = Vec::new();
        for content in contents {
            if self.write_cut(&content, until).await {
                written.push((content.cut.poll, content.cut.public.cut));
            }
        }
        if written.is_empty() { Ok(()) } else { self.stores.ledger.cuts_written(&written).await }
    }

    /// Returns the cut at a position, and adds it to the ledger if it is new. `None` if another publisher was faster.
    async fn cut(&self, position: LogPosition) -> Result<Option<Content>, ledger::Error> {
        let batches = self.stores.ledger.log_batches(position).await?;
        let Some(content) = Content::new(position, &batches) else { return Ok(None) };
        let is_ours = position.last.is_some() || self.stores.ledger.add_cut(&content.cut).await?;
        Ok(is_ours.then_some(content))
    }

    /// Writes the files of a cut. Returns whether all exist; a failure is logged.
    async fn write_cut(&self, content: &Content, until: Instant) -> bool {
        let address = self.log_address(content.cut.poll);
        let files = [(CutKind::Votes, &content.votes), (CutKind::Others, &content.others)];
        let writing = files.into_iter().flat_map(|(kind, files)| {
            let contents = files.iter().flat_map(|files| files.contents.iter().enumerate());
            contents.map(move |(index, body)| {
                let key = address.object_key(content.cut.public.cut, kind, index);
                async move { Instant::now() < until && self.write_log_file(&key, kind, body).await }
            })
        });
        let written = stream::iter(writing).buffer_unordered(CONCURRENT_WRITES);
        written.all(|is_written| async move { is_written }).await
    }

    async fn write_log_file(&self, key: &str, kind: CutKind, body: &[u8]) -> bool {
        let content_type = match kind {
            CutKind::Votes => "application/octet-stream",
            CutKind::Others => "text/plain; charset=utf-8",
        };
        let cache_control = &self.immutable_cache_control;
        let serving = Serving { content_type, content_encoding: None, cache_control };
        let written = self.aws.put_object(&self.bucket, key, serving, body.to_vec().into()).await;
        if let Err(error) = &written {
            tracing::error!(error = error_chain(error), key, "file.not_written");
        }
        written.is_ok()
    }

    fn log_address(&self, poll: PollId) -> LogAddress {
        LogAddress { ledger: self.stores.ledger.address(), poll }
    }
}

impl Content {
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
