//! The live progress line of a run.
use std::{
    io::IsTerminal as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::fault::Record;
use emulator::{cloudwatch::CloudWatch, sqs::Queue};

/// Update interval on a terminal.
const LIVE_INTERVAL: Duration = Duration::from_millis(250);
/// Update interval in a log, long enough not to drown other lines.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// The sources of the figures.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Number of accepted votes.
    pub accepted: Arc<AtomicU64>,
    /// Number of votes to send.
    pub votes: u64,
    /// The queue of votes.
    pub queue: Arc<Queue>,
    /// The functions' metrics; those of batches that died are missing.
    pub logs: Arc<CloudWatch>,
    /// Record of the faults.
    pub record: Arc<Record>,
    /// The run's current stage.
    pub stage: Arc<Mutex<&'static str>>,
}

impl Sources {
    fn line(&self, elapsed: Duration) -> String {
        let counts = self.queue.counts();
        let metric = |name| self.logs.total(name) as u64;
        let active = self.record.active();
        format!(
            "{:>3} s {} · {}/{} accepted · {} counted · {} duplicate · {} rejected · {} queued · {} in flight · \
             {} faults{}{active}",
            elapsed.as_secs(),
            self.stage.lock().unwrap_or_else(PoisonError::into_inner),
            self.accepted.load(Ordering::Relaxed),
            self.votes,
            metric("VotesCounted"),
            metric("VotesDuplicate"),
            metric("VotesRejected"),
            counts.visible + counts.delayed,
            counts.in_flight,
            self.record.total(),
            if active.is_empty() { "" } else { ", now " },
        )
    }
}

/// A task that shows the line until dropped.
#[derive(Debug)]
pub struct Progress {
    stage: Arc<Mutex<&'static str>>,
    bar: Option<ProgressBar>,
    task: JoinHandle<()>,
}

impl Progress {
    /// Starts the display: in place on a terminal, else one line every 5 s.
    pub fn start(sources: Sources) -> Self {
        let bar = std::io::stdout().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {bar:20} {msg}");
            ProgressBar::new(sources.votes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let stage = Arc::clone(&sources.stage);
        let task = tokio::spawn(show(sources, bar.clone()));
        Self { stage, bar, task }
    }

    /// Sets the run's current stage.
    pub fn stage(&self, stage: &'static str) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }
}

impl Drop for Progress {
    /// Removes the line.
    fn drop(&mut self) {
        self.task.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

async fn show(sources: Sources, bar: Option<ProgressBar>) {
    let start = Instant::now();
    loop {
        sleep(if bar.is_some() { LIVE_INTERVAL } else { PLAIN_INTERVAL }).await;
        let line = sources.line(start.elapsed());
        match &bar {
            Some(bar) => {
                bar.set_position(sources.accepted.load(Ordering::Relaxed));
                bar.set_message(line);
                bar.tick();
            }
            None => println!("{line}"),
        }
    }
}
