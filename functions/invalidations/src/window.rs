//! A window's commands, and what of them is done already.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use domain::Timestamp;
use sha2::{Digest, Sha256};

use crate::{command::Command, paths::Pattern};

/// By how much the clocks of SQS, CloudFront and this function may differ.
pub const SKEW: Duration = Duration::from_secs(1);

/// An invalidation that CloudFront took.
#[derive(Debug)]
pub struct Recent {
    /// When.
    pub created_at: SystemTime,
    /// What it named.
    pub patterns: Vec<Pattern>,
}

/// The commands of one batch; at least one.
#[derive(Debug)]
pub struct Window {
    commands: Vec<Command>,
}

impl Window {
    /// `None` without a command.
    pub fn of(commands: Vec<Command>) -> Option<Self> {
        (!commands.is_empty()).then_some(Self { commands })
    }

    /// The window's length from its first command, and past its last one by so much that what is created then is
    /// younger than all of them by any clock.
    pub fn ends(&self, length: Duration) -> Timestamp {
        self.oldest().saturating_add(length).max(self.newest().saturating_add(2 * SKEW))
    }

    /// The first command's moment.
    pub fn oldest(&self) -> Timestamp {
        self.sent().min().unwrap_or(Timestamp::from_millis(0).expect("1970"))
    }

    /// The last command's moment.
    pub fn newest(&self) -> Timestamp {
        self.sent().max().unwrap_or(self.oldest())
    }

    /// Commands and paths that nobody has invalidated since they were sent.
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

/// Whether an invalidation covers a change that was told of at `sent`, whatever the clocks.
pub fn is_after(created_at: SystemTime, sent: Timestamp) -> bool {
    created_at >= SystemTime::from(sent.saturating_add(SKEW))
}

/// What makes a retry harmless: the same paths under the same mark are the same invalidation.
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
