//! The files: `results/{id}.json`.

use std::io::Write;

use aws::Serving;
use flate2::{Compression, write::GzEncoder};
use shared::{
    clock,
    domain::{Poll, Publication, Timestamp},
    ledger::Publishable,
    ranking::VOTERS_ERROR,
};

use crate::Handler;

impl Handler {
    /// Writes each poll's file, but none of a draft. What fails is logged, and tried again by the next tick.
    pub(crate) async fn publish(&self, polls: &[Publishable], as_of: Timestamp) {
        let voters = self.voters(polls).await;
        for (one, voters) in polls.iter().zip(voters) {
            let poll = &one.loaded.poll;
            if poll.is_draft(clock::now()) {
                continue;
            }
            let certificate = one.certificate.as_ref();
            let file = Publication::new(poll, &one.loaded.tally, certificate, voters, as_of, clock::now());
            let cache_control =
                if certificate.is_some() { &self.certified_cache_control } else { &self.live_cache_control };
            let serving =
                Serving { content_type: "application/json", content_encoding: "gzip", cache_control };
            let body = gzip(&serde_json::to_vec(&file).expect("a file is plain data"));
            let key = format!("results/{}.json", poll.id.0);
            if let Err(error) = self.aws.put_object(&self.bucket, &key, serving, body.into()).await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    poll = poll.id.0,
                    "file.not_written"
                );
                continue;
            }
            if certificate.is_some() && self.is_forgotten_by_the_edge(&key).await {
                self.remember(poll).await;
            }
        }
    }

    /// Has the edge forget the file before, which may be kept for a minute. Without that the file is not done.
    pub(crate) async fn is_forgotten_by_the_edge(&self, key: &str) -> bool {
        let asked = self.aws.ask_to_invalidate(&self.invalidations_url, &[&format!("/{key}")]).await;
        if let Err(error) = &asked {
            tracing::warn!(error = error as &dyn std::error::Error, key, "invalidation.not_asked_for");
        }
        asked.is_ok()
    }

    async fn remember(&self, poll: &Poll) {
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
