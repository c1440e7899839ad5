//! The commands of a batch window, and their coverage by recent invalidations.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use domain::Timestamp;
use sha2::{Digest, Sha256};

use crate::{command::Command, paths::Pattern};

/// Maximum difference between the clocks of SQS, CloudFront and this function.
pub const SKEW: Duration = Duration::from_secs(1);

/// An invalidation that CloudFront accepted.
#[derive(Debug)]
pub struct Recent {
    /// When it was created.
    pub created_at: SystemTime,
    /// Its patterns.
    pub patterns: Vec<Pattern>,
}

/// The commands of one batch; at least one.
#[derive(Debug)]
pub struct Window {
    commands: Vec<Command>,
}

impl Window {
    /// Returns the window of these commands; `None` without a command.
    pub fn of(commands: Vec<Command>) -> Option<Self> {
        (!commands.is_empty()).then_some(Self { commands })
    }

    /// Returns the end of the window: `length` after its first command, and late enough after the last one that an
    /// invalidation created then is newer than all commands by any clock.
    pub fn ends(&self, length: Duration) -> Timestamp {
        self.oldest().saturating_add(length).max(self.newest().saturating_add(2 * SKEW))
    }

    /// Returns when the first command was sent.
    pub fn oldest(&self) -> Timestamp {
        self.sent().min().unwrap_or(Timestamp::from_millis(0).expect("1970"))
    }

    /// Returns when the last command was sent.
    pub fn newest(&self) -> Timestamp {
        self.sent().max().unwrap_or(self.oldest())
    }

    /// Returns the commands and patterns that no invalidation since their sending covers.
    pub fn outstanding(&self, recent: &[Recent]) -> (Vec<&Command>, Vec<Pattern>) {
        let mut patterns = Vec::new();
        let commands = self.commands.iter().filter(|command| {
            let before = patterns.len();
            let done = |pattern: &Pattern| {
                let covers = |recent: &&Recent| recent.patterns.iter().any(|other| other.covers(pattern));
                recent
                    .iter()
                    .filter(|recent| is_after(recent.created_at, command.sent_at))
                    .any(|one| covers(&one))
            };
            patterns.extend(command.patterns.iter().filter(|pattern| !done(pattern)).cloned());
            patterns.len() > before
        });
        (commands.collect(), patterns)
    }

    fn sent(&self) -> impl Iterator<Item = Timestamp> {
        self.commands.iter().map(|command| command.sent_at)
    }
}

/// Returns whether an invalidation is newer than a command sent at `sent`, allowing for clock skew.
pub fn is_after(created_at: SystemTime, sent: Timestamp) -> bool {
    created_at >= SystemTime::from(sent.saturating_add(SKEW))
}

/// Returns the caller reference, which makes retries idempotent: the same paths and mark give the same invalidation.
pub fn reference<'a>(mark: i64, patterns: impl Iterator<Item = &'a Pattern>) -> String {
    let mut digest = Sha256::new();
    digest.update(mark.to_string());
    for pattern in patterns {
        digest.update(b"\n");
        digest.update(pattern.as_str());
    }
    digest.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
