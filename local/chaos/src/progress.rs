//! What is going on, while it does.
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

/// On a terminal, so that it looks alive.
const LIVE_INTERVAL: Duration = Duration::from_millis(250);
/// In a log, so that it does not drown what else is there.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// Where the figures come from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Votes accepted.
    pub accepted: Arc<AtomicU64>,
    /// Votes to be sent.
    pub votes: u64,
    /// The queue of votes.
    pub queue: Arc<Queue>,
    /// What the functions say of their batches; what they said before dying is missing.
    pub logs: Arc<CloudWatch>,
    /// Of the faults.
    pub record: Arc<Record>,
    /// What the run is at.
    pub stage: Arc<Mutex<&'static str>>,
}

impl Sources {
    fn line(&self, elapsed: Duration) -> String {
        let counts = self.queue.counts();
        let metric = |name| self.logs.total(name) as u64;
        let going_on = self.record.going_on();
        format!(
            "{:>3} s {} · {}/{} accepted · {} counted · {} duplicate · {} rejected · {} queued · {} in flight · \
             {} faults{}{going_on}",
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
            if going_on.is_empty() { "" } else { ", now " },
        )
    }
}

/// Shows it until dropped.
#[derive(Debug)]
pub struct Progress {
    stage: Arc<Mutex<&'static str>>,
    bar: Option<ProgressBar>,
    task: JoinHandle<()>,
}

impl Progress {
    /// Starts: in place on a terminal, else a line now and then.
    pub fn start(sources: Sources) -> Self {
        let bar = std::io::stdout().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {bar:20} {msg}");
            ProgressBar::new(sources.votes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let stage = Arc::clone(&sources.stage);
        let task = tokio::spawn(show(sources, bar.clone()));
        Self { stage, bar, task }
    }

    /// From now on the run is at something else.
    pub fn stage(&self, stage: &'static str) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }
}

impl Drop for Progress {
    /// Takes the line away.
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
