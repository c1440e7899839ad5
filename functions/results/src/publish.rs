//! The files: `results/{id}.json`.

use std::{future::ready, io::Write};

use aws::Serving;
use flate2::{Compression, write::GzEncoder};
use futures_util::{StreamExt, stream};
use shared::{
    clock,
    domain::{Poll, Publication, Timestamp},
    ledger::Publishable,
    ranking::VOTERS_ERROR,
    telemetry::causes,
};
use tokio::time::Instant;

use crate::Handler;

/// Files that are written at a time: a thousand, at some 50 ms each, are written within a tick.
const WRITTEN_AT_A_TIME: usize = 32;

impl Handler {
    /// Writes each poll's file, but none of a draft, and answers the polls whose certified file is out. What fails is logged, and tried again
    /// by the next tick; what is not begun before `until` is left to it.
    pub(crate) async fn publish<'a>(
        &self,
        polls: &'a [Publishable],
        as_of: Timestamp,
        until: Instant,
    ) -> Vec<&'a Poll> {
        let voters = self.voters(polls).await;
        let writing = polls.iter().zip(voters).map(|(one, voters)| self.write(one, voters, as_of, until));
        stream::iter(writing).buffer_unordered(WRITTEN_AT_A_TIME).filter_map(ready).collect().await
    }

    /// Answers the poll where it is certified, and its file out.
    async fn write<'a>(
        &self,
        one: &'a Publishable,
        voters: Option<(u64, f64)>,
        as_of: Timestamp,
        until: Instant,
    ) -> Option<&'a Poll> {
        let poll = &one.loaded.poll;
        if poll.is_draft(clock::now()) {
            return None;
        }
        if Instant::now() > until {
            tracing::error!(poll = poll.id.0, "file.not_begun");
            return None;
        }
        let certificate = one.certificate.as_ref();
        let file = Publication::new(poll, &one.loaded.tally, certificate, voters, as_of, clock::now());
        let cache_control =
            if certificate.is_some() { &self.certified_cache_control } else { &self.live_cache_control };
        let serving = Serving { content_type: "application/json", content_encoding: "gzip", cache_control };
        let body = gzip(&serde_json::to_vec(&file).expect("a file is plain data"));
        let key = format!("results/{}.json", poll.id.0);
        if let Err(error) = self.aws.put_object(&self.bucket, &key, serving, body.into()).await {
            tracing::error!(error = causes(&error), poll = poll.id.0, "file.not_written");
            return None;
        }
        (certificate.is_some() && self.is_forgotten_by_the_edge(&key).await).then_some(poll)
    }

    /// Has the edge forget the file before, which may be kept for a minute. Without that the file is not done.
    pub(crate) async fn is_forgotten_by_the_edge(&self, key: &str) -> bool {
        let asked = self.aws.ask_to_invalidate(&self.invalidations_url, &[&format!("/{key}")]).await;
        if let Err(error) = &asked {
            tracing::warn!(error = error as &dyn std::error::Error, key, "invalidation.not_asked_for");
        }
        asked.is_ok()
    }

    /// Remembers that a certified file is out.
    pub(crate) async fn remember(&self, poll: &Poll) {
        if let Err(error) = self.stores.ledger.published(poll.id, poll.version).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "publication.not_remembered");
        }
    }

    /// Estimates where they hold all of the poll's voters.
    async fn voters(&self, polls: &[Publishable]) -> Vec<Option<(u64, f64)>> {
        let ids: Vec<_> = polls.iter().map(|one| one.loaded.poll.id).collect();
        match self.stores.ranking.voters(&ids, clock::now()).await {
            Ok((counts, since)) => {
                let is_whole = |poll: &Poll| poll.opens_at.is_some_and(|opening| opening >= since);
                let estimate = |(one, count): (&Publishable, u64)| {
                    is_whole(&one.loaded.poll).then_some((count, VOTERS_ERROR))
                };
                polls.iter().zip(counts).map(estimate).collect()
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "voters.unknown");
                vec![None; polls.len()]
            }
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes all that is written")
}
