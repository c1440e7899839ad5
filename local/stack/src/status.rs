//! The live status line.
use std::{
    io::IsTerminal as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::{task::JoinHandle, time::Instant};

use emulator::{cloudwatch::CloudWatch, lambda::Functions, sqs::Queues};

/// Update interval on a terminal.
const LIVE_INTERVAL: Duration = Duration::from_millis(500);
/// Update interval in a log, long enough not to drown other lines.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// The sources of the figures.
#[derive(Debug)]
pub struct Figures {
    /// Messages accepted, queued and in flight.
    pub queues: Arc<Queues>,
    /// Votes counted, a metric in the logs.
    pub logs: Arc<CloudWatch>,
    /// Invocations and instances.
    pub functions: Arc<Functions>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Snapshot {
    accepted: u64,
    queued: u64,
    in_flight: u64,
    counted: u64,
}

impl Figures {
    fn now(&self) -> Snapshot {
        let mut snapshot =
            Snapshot { counted: self.logs.total("VotesCounted") as u64, ..Snapshot::default() };
        for queue in self.queues.all() {
            let counts = queue.counts();
            snapshot.accepted += counts.sent_total;
            snapshot.queued += counts.visible + counts.delayed;
            snapshot.in_flight += counts.in_flight;
        }
        snapshot
    }
}

fn render(now: Snapshot, before: Snapshot, elapsed: Duration, draining: bool) -> String {
    let rate = now.counted.saturating_sub(before.counted) as f64 / elapsed.as_secs_f64().max(0.001);
    let Snapshot { accepted, queued, in_flight, counted } = now;
    if draining {
        return format!(
            "draining: {queued} queued · {in_flight} in flight · {counted} counted (Ctrl-C stops at once)"
        );
    }
    format!(
        "{accepted} accepted · {queued} queued · {in_flight} in flight · {counted} counted · {rate:.0} votes/s"
    )
}

/// A task that shows the figures until [`StatusLine::finish`].
#[derive(Debug)]
pub struct StatusLine {
    draining: Arc<AtomicBool>,
    bar: Option<ProgressBar>,
    task: JoinHandle<()>,
}

impl StatusLine {
    /// Starts the display: in place on a terminal, else one line after each change.
    pub fn start(figures: Arc<Figures>) -> Self {
        let draining = Arc::new(AtomicBool::new(false));
        let bar = std::io::stderr().is_terminal().then(|| {
            ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner().tick_chars("●○ "))
        });
        let task = tokio::spawn(show(figures, bar.clone(), Arc::clone(&draining)));
        Self { draining, bar, task }
    }

    /// Switches the line to the messages left to drain.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Removes the line.
    pub fn finish(&self) {
        self.task.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

async fn show(figures: Arc<Figures>, bar: Option<ProgressBar>, draining: Arc<AtomicBool>) {
    let interval = if bar.is_some() { LIVE_INTERVAL } else { PLAIN_INTERVAL };
    let (mut before, mut since) = (figures.now(), Instant::now());
    loop {
        tokio::time::sleep(interval).await;
        let now = figures.now();
        let line = render(now, before, since.elapsed(), draining.load(Ordering::Relaxed));
        match &bar {
            Some(bar) => {
                bar.set_message(line);
                bar.tick();
            }
            None if now != before => println!("{line}"),
            None => {}
        }
        (before, since) = (now, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_what_was_counted_since() {
        let before = Snapshot { counted: 100, ..Snapshot::default() };
        let now = Snapshot { accepted: 900, queued: 30, in_flight: 20, counted: 850 };
        let line = render(now, before, Duration::from_millis(500), false);
        assert_eq!(line, "900 accepted · 30 queued · 20 in flight · 850 counted · 1500 votes/s");
        assert!(
            render(now, before, Duration::from_secs(1), true)
                .starts_with("draining: 30 queued · 20 in flight")
        );
    }
}
