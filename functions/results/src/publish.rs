//! Writes the result files, `results/{id}.json`.

use std::{collections::HashMap, future::ready, io::Write};

use aws::Serving;
use domain::{
    Certificate, LaterCertificate, LaterDocument, PollId, PublicLog, Publication, Recount, Timestamp,
};
use flate2::{Compression, write::GzEncoder};
use futures_util::{StreamExt, stream};
use ledger::Publishable;
use ranking::VOTERS_ERROR;
use runtime::telemetry::{Condition, error_chain};
use serde::Serialize;
use tokio::time::Instant;

use crate::Handler;

/// The context of a tick's files.
pub(crate) struct Edition<'a> {
    /// The paths of the names' files.
    pub(crate) names: &'a HashMap<PollId, String>,
    /// The logs that the files name. `None` if the ledger did not return them.
    pub(crate) logs: Option<&'a HashMap<PollId, PublicLog>>,
    /// The version of the public list.
    pub(crate) list_version: i64,
    /// The time before the polls were read.
    pub(crate) as_of: Timestamp,
    /// No file is begun later.
    pub(crate) until: Instant,
}

/// Concurrent writes: a thousand files, at some 50 ms each, are written within a tick.
pub(crate) const CONCURRENT_WRITES: usize = 32;

impl Handler {
    /// Writes the file of each poll that is no draft. Returns the polls whose certified file is published. Failures
    /// are logged and retried at the next tick; so are files not begun in time. `later` holds the result of
    /// [`Handler::later_certificates`] for each poll. All writes end before it returns, so an older file never replaces
    /// a newer one.
    pub(crate) async fn publish<'a>(
        &self,
        polls: &'a [Publishable],
        later: Vec<Option<Vec<LaterCertificate>>>,
        edition: &Edition<'_>,
    ) -> Vec<&'a Publishable> {
        let voters = self.voters(polls).await;
        let due = polls.iter().zip(voters).zip(later);
        let writing = due.map(|((one, voters), later)| self.publish_one(one, voters, later, edition));
        stream::iter(writing).buffer_unordered(CONCURRENT_WRITES).filter_map(ready).collect().await
    }

    /// Writes one file. Returns the poll if it is certified and a new edition of its file is published.
    async fn publish_one<'a>(
        &self,
        one: &'a Publishable,
        voters: Option<(u64, f64)>,
        later: Option<Vec<LaterCertificate>>,
        edition: &Edition<'_>,
    ) -> Option<&'a Publishable> {
        let poll = &one.loaded.poll;
        if poll.is_draft(self.clock.now()) {
            return None;
        }
        if Instant::now() > edition.until {
            tracing::error!(poll = poll.id.0, "file.not_begun");
            return None;
        }
        let later = later?;
        let certificate = one.certificate.as_ref();
        let (as_of, now) = (edition.as_of, self.clock.now());
        let file = Publication::new(poll, &one.loaded.tally, certificate, voters, as_of, now);
        let log = match edition.logs {
            Some(logs) => logs.get(&poll.id),
            // Nothing would write a certified file again for its log.
            None if certificate.is_some() => return None,
            None => None,
        };
        let file = file.with_log(log);
        let file = match certificate {
            Some(_) => file.with_late(one.late, &later),
            // Without its names the poll cannot be shown; the failure of their write is logged.
            None => file.with_names_at(edition.names.get(&poll.id)?, edition.list_version),
        };
        let cache_control =
            if certificate.is_some() { &self.certified_cache_control } else { &self.live_cache_control };
        let key = format!("results/{}.json", poll.id.0);
        let is_done = self.write(&key, cache_control, &file).await
            && certificate.is_some()
            && (one.is_new_edition || log.is_some_and(PublicLog::ends_with_votes))
            && self.request_invalidation(&[key]).await;
        is_done.then_some(one)
    }

    /// Writes the later certificates' documents and returns the later certificates of each poll. A poll's file
    /// names a document only after it is written. `None` if a write failed, which is logged.
    pub(crate) async fn later_certificates(
        &self,
        polls: &[Publishable],
    ) -> Vec<Option<Vec<LaterCertificate>>> {
        let mut all = Vec::with_capacity(polls.len());
        for one in polls {
            all.push(self.later_certificates_of(one).await);
        }
        all
    }

    async fn later_certificates_of(&self, one: &Publishable) -> Option<Vec<LaterCertificate>> {
        let Some(first) = &one.certificate else { return Some(Vec::new()) };
        let poll = &one.loaded.poll;
        let later = self.stores.ledger.later_certificates(poll.id).await;
        let later = later
            .inspect_err(|error| {
                tracing::error!(error = error_chain(error), poll = poll.id.0, "file.not_written");
            })
            .ok()?;
        for one in &later {
            let document = LaterDocument::public(poll, first, one, self.clock.now());
            let key = one.object_key(poll.id);
            if !self.write(&key, &self.certified_cache_control, &document).await {
                return None;
            }
        }
        Some(later)
    }

    async fn write(&self, key: &str, cache_control: &str, file: &impl Serialize) -> bool {
        self.put(key, cache_control, &serde_json::to_vec(file).expect("a file is plain data")).await
    }

    /// Writes a file of JSON. Returns whether it succeeded; a failure is logged.
    pub(crate) async fn put(&self, key: &str, cache_control: &str, body: &[u8]) -> bool {
        let serving =
            Serving { content_type: "application/json", content_encoding: Some("gzip"), cache_control };
        let written = self.aws.put_object(&self.bucket, key, serving, gzip(body).into()).await;
        if let Err(error) = &written {
            tracing::error!(error = error_chain(error), key, "file.not_written");
        }
        written.is_ok()
    }

    /// Requests an invalidation of files whose previous version the edge may cache for a minute or longer. Returns
    /// whether the request succeeded. A file without it does not count as published.
    pub(crate) async fn request_invalidation(&self, keys: &[String]) -> bool {
        let paths: Vec<_> = keys.iter().map(|key| format!("/{key}")).collect();
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        let asked = self.aws.ask_to_invalidate(&self.invalidations_url, &paths).await;
        if let Err(error) = &asked {
            tracing::warn!(error = error_chain(error), ?keys, "invalidation.not_asked_for");
        }
        asked.is_ok()
    }

    /// Records in the ledger that a certified file is published, with its edition, and reports what it says of the
    /// recount.
    pub(crate) async fn record_published(&self, one: &Publishable) {
        if let Some(recount) = one.certificate.as_ref().and_then(Certificate::recount) {
            self.report_recount(one.loaded.poll.id, recount);
        }
        if let Err(error) = self.stores.ledger.published(one.loaded.poll.id, one.edition).await {
            tracing::warn!(error = error_chain(&error), "publication.not_remembered");
        }
    }

    fn report_recount(&self, poll: PollId, recount: Recount) {
        let differs = recount == Recount::Different;
        if differs {
            tracing::error!(poll = poll.0, "certificate.recount_differs");
        }
        self.report(Condition::RecountDiffers, differs);
    }

    /// Returns the estimated number of voters of each poll, where none is missing.
    async fn voters(&self, polls: &[Publishable]) -> Vec<Option<(u64, f64)>> {
        let ids: Vec<_> = polls.iter().map(|one| one.loaded.poll.id).collect();
        match self.stores.ranking.voters(&ids).await {
            Ok(estimates) => {
                let has_votes = |one: &Publishable| one.loaded.tally.values().any(|&votes| votes > 0);
                let voters = |(one, estimate): (&Publishable, Option<u64>)| {
                    let voters = if has_votes(one) { estimate } else { Some(0) };
                    voters.map(|voters| (voters, VOTERS_ERROR))
                };
                polls.iter().zip(estimates).map(voters).collect()
            }
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "voters.unknown");
                vec![None; polls.len()]
            }
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes all that is written")
}
