//! The invalidations function: merges the commands of a batch window into one CloudFront invalidation.
//!
//! Invariant: a command is acknowledged once an invalidation covers it, never before. An invalidation covers a
//! command if it was created after the command was sent, by any caller. So duplicate commands, and the rest of a
//! burst too large for one batch, need no further call.

mod command;
pub mod paths;
mod window;

use std::{convert::Infallible, time::Duration};

use aws::{Aws, Error};
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use lambda_runtime::LambdaEvent;
use runtime::{
    Clock,
    environment::{self, Reader},
    telemetry::error_chain,
};
use tokio::time::{sleep, timeout};

use crate::{
    command::{Command, Malformed},
    paths::{Limits, Pattern, merge},
    window::{Recent, Window, is_after, reference},
};

/// Recent invalidations that are checked for cover: those of the last two minutes or more.
const RECENT_MAX: u8 = 10;
/// Timeout of the check for recent invalidations. It only saves a call, so it must not take long.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(4);
/// Timeout of moving malformed messages to the dead-letter queue. SQS delivers the rest again.
const SET_ASIDE_TIMEOUT: Duration = Duration::from_secs(4);

/// The function's handler, built once at start.
#[derive(Debug)]
pub struct Handler {
    aws: Aws,
    distribution: String,
    dead_letters_url: String,
    window: Duration,
    limits: Limits,
    clock: Clock,
}

impl Handler {
    /// Reads the configuration through `lookup` and prepares the client without connecting. Variables:
    /// `DISTRIBUTION_ID`, `DEAD_LETTER_QUEUE_URL`, `WINDOW_SECONDS`, `PATHS_MAX`, `WILDCARDS_MAX`,
    /// `CALL_TIMEOUT_MS`, and those that Lambda sets.
    ///
    /// # Errors
    /// Every error in the configuration.
    pub fn new(lookup: &dyn Fn(&str) -> Option<String>, clock: Clock) -> Result<Self, environment::Error> {
        let mut reader = Reader::new(lookup);
        let aws = Aws::read(&mut reader, &clock);
        let distribution = reader.text("DISTRIBUTION_ID");
        let dead_letters_url = reader.text("DEAD_LETTER_QUEUE_URL");
        let window = reader.parsed("WINDOW_SECONDS").map(Duration::from_secs);
        let limits = (reader.parsed("PATHS_MAX"), reader.parsed("WILDCARDS_MAX"));
        let built = || {
            Some(Self {
                aws: aws?,
                distribution: distribution?,
                dead_letters_url: dead_letters_url?,
                window: window?,
                limits: Limits { paths: limits.0?, wildcards: limits.1? },
                clock,
            })
        };
        let built = built();
        reader.finish(built)
    }

    /// Invalidates the paths of one batch, with one invalidation at most. Idempotent. The response names the
    /// messages that SQS must deliver again.
    ///
    /// # Errors
    /// None: every failure becomes a response.
    pub async fn handle(&self, event: LambdaEvent<SqsEvent>) -> Result<SqsBatchResponse, Infallible> {
        let now = self.clock.now();
        let (mut commands, mut malformed) = (Vec::new(), Vec::new());
        for record in event.payload.records {
            match Command::read(&record, now) {
                Ok(command) => commands.push(command),
                Err(reason) => malformed.push((record, reason)),
            }
        }
        let mut response = SqsBatchResponse::default();
        if let Some(window) = Window::of(commands) {
            for id in self.invalidate(&window).await {
                response.add_failure(id);
            }
        }
        for id in self.move_to_dead_letters(malformed).await {
            response.add_failure(id);
        }
        Ok(response)
    }

    /// Waits for the end of the window and creates an invalidation if needed. Returns the messages left uncovered.
    async fn invalidate(&self, window: &Window) -> Vec<String> {
        let wait = window.ends(self.window).millis() - self.clock.now().millis();
        // A batch that is full before its window ends waits for the rest of the burst, at most one window.
        sleep(Duration::from_millis(u64::try_from(wait).unwrap_or(0)).min(self.window)).await;
        let recent = self.recent(window).await;
        let (commands, patterns) = window.outstanding(&recent);
        let asked = patterns.len();
        let patterns: Vec<_> = merge(patterns, self.limits).into_iter().collect();
        if patterns.is_empty() {
            tracing::info!("invalidation.covered");
            return Vec::new();
        }
        match self.create(window, &patterns).await {
            Ok(id) => {
                let (messages, paths) = (commands.len(), patterns.len());
                tracing::info!(messages, asked, paths, id, "invalidation.created");
                Vec::new()
            }
            Err(error) => {
                let messages = commands.len();
                if error.retry().is_transient() {
                    tracing::warn!(error = error_chain(&error), messages, "invalidation.postponed");
                } else {
                    tracing::error!(error = error_chain(&error), messages, "invalidation.refused");
                }
                commands.into_iter().map(|command| command.message_id.clone()).collect()
            }
        }
    }

    /// Returns the invalidations created since the window's first command; none if CloudFront does not answer.
    async fn recent(&self, window: &Window) -> Vec<Recent> {
        let lookup = async {
            let mut recent = Vec::new();
            for one in self.aws.list_invalidations(&self.distribution, RECENT_MAX).await? {
                if is_after(one.created_at, window.oldest()) {
                    let paths = self.aws.get_invalidation(&self.distribution, &one.id).await?;
                    let patterns = paths.iter().filter_map(|path| Pattern::parse(path).ok()).collect();
                    recent.push(Recent { created_at: one.created_at, patterns });
                }
            }
            Ok(recent)
        };
        let found: Result<_, Error> = timeout(LOOKUP_TIMEOUT, lookup).await.unwrap_or(Ok(Vec::new()));
        found.unwrap_or_else(|error| {
            tracing::warn!(error = error_chain(&error), "invalidations.not_listed");
            Vec::new()
        })
    }

    /// Creates an invalidation and returns its id. Makes a second call if the first one returns an invalidation
    /// that is too old.
    ///
    /// Batches of one burst that end at the same moment share a caller reference, and so one invalidation.
    async fn create(&self, window: &Window, patterns: &[Pattern]) -> Result<String, Error> {
        let paths: Vec<_> = patterns.iter().map(Pattern::as_str).collect();
        let newest = window.newest();
        let length = i64::try_from(self.window.as_millis()).unwrap_or(i64::MAX).max(1);
        let shared = reference(newest.millis() / length, patterns.iter());
        let created = self.aws.create_invalidation(&self.distribution, &shared, &paths).await?;
        if is_after(created.created_at, newest) {
            return Ok(created.id);
        }
        let own = reference(newest.millis(), patterns.iter());
        Ok(self.aws.create_invalidation(&self.distribution, &own, &paths).await?.id)
    }

    /// Moves malformed messages to the dead-letter queue, with the reason. Returns the messages that were not moved.
    async fn move_to_dead_letters(&self, malformed: Vec<(SqsMessage, Malformed)>) -> Vec<String> {
        let mut left: Vec<_> = malformed.iter().map(|(record, _)| id_of(record)).rev().collect();
        let sending = async {
            for (record, reason) in &malformed {
                let (id, body) = (id_of(record), record.body.as_deref().unwrap_or_default());
                let attributes = [("reason", reason.to_string()), ("messageId", id.clone())];
                let attributes = [0, 1].map(|index| (attributes[index].0, attributes[index].1.as_str()));
                self.aws.send_message(&self.dead_letters_url, body, &attributes).await?;
                tracing::error!(id, reason = attributes[0].1, "command.malformed");
                left.pop();
            }
            Ok::<_, Error>(())
        };
        match timeout(SET_ASIDE_TIMEOUT, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = error_chain(&error), "commands.not_set_aside"),
            Err(_) => tracing::warn!("commands.set_aside_in_part"),
        }
        left
    }
}

fn id_of(record: &SqsMessage) -> String {
    record.message_id.clone().unwrap_or_default()
}
