//! Has the edge forget what has changed: a window's commands, merged, in one invalidation.
//!
//! A command is acknowledged once an invalidation that covers it exists, and never before. One that was created after
//! the command was sent covers it, whoever created it: so commands that come twice, and those of a burst that was too
//! large for one batch, cost nothing more.

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

/// Invalidations looked at for one that covers what is asked: those of the last two minutes or more.
const RECENT_MAX: u8 = 10;
/// Looking saves an invalidation at best, so it must not take long.
const LOOKING_TIME: Duration = Duration::from_secs(4);
/// Setting malformed messages aside; what is left then comes again.
const SETTING_ASIDE_TIME: Duration = Duration::from_secs(4);

/// The function, built once at start.
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
    /// Reads the configuration through `lookup` and prepares the client without connecting: `DISTRIBUTION_ID`,
    /// `DEAD_LETTER_QUEUE_URL`, `WINDOW_SECONDS`, `PATHS_MAX`, `WILDCARDS_MAX`, `CALL_TIMEOUT_MS`, and what Lambda sets.
    ///
    /// # Errors
    /// All that is wrong with the configuration.
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

    /// Invalidates what one batch asks for, in one call at most. Idempotent. Answers the messages that are to come again.
    ///
    /// # Errors
    /// None: every failure is an answer.
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
        for id in self.set_aside(malformed).await {
            response.add_failure(id);
        }
        Ok(response)
    }

    /// The messages that no invalidation covers in the end.
    async fn invalidate(&self, window: &Window) -> Vec<String> {
        let wait = window.ends(self.window).millis() - self.clock.now().millis();
        // A batch that is full before the window is over waits for the rest of the burst, never longer than a window.
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

    /// What was created since the window's first command. Nothing, where CloudFront does not say.
    async fn recent(&self, window: &Window) -> Vec<Recent> {
        let looking = async {
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
        let found: Result<_, Error> = timeout(LOOKING_TIME, looking).await.unwrap_or(Ok(Vec::new()));
        found.unwrap_or_else(|error| {
            tracing::warn!(error = error_chain(&error), "invalidations.not_listed");
            Vec::new()
        })
    }

    /// One call; a second one where the first only finds an invalidation that is too old.
    ///
    /// Batches of one burst that end at the same moment have the same reference, and so one invalidation.
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

    /// Puts messages that are no commands into the dead-letter queue, with the reason; those that stay in the queue.
    async fn set_aside(&self, malformed: Vec<(SqsMessage, Malformed)>) -> Vec<String> {
        let mut left: Vec<_> = malformed.iter().map(|(record, _)| id_of(record)).rev().collect();
        let setting_aside = async {
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
        match timeout(SETTING_ASIDE_TIME, setting_aside).await {
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
