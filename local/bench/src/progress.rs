//! What is being measured, how much is done: a bar on a terminal, else a line for each step.
use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

const REDRAWN: Duration = Duration::from_millis(500);

/// The bar.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    steps: u64,
    done: u64,
}

impl Progress {
    /// `steps`: how many there will be.
    pub fn start(steps: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = "{bar:30} {pos}/{len} · {elapsed} of about {duration} · {msg}";
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(steps).with_style(style);
            bar.enable_steady_tick(REDRAWN);
            bar
        });
        Self { bar, steps, done: 0 }
    }

    /// Says what comes now.
    pub fn step(&mut self, name: &str) {
        self.done += 1;
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.done - 1);
                bar.set_message(name.to_owned());
            }
            None => eprintln!("{}/{} {name}", self.done, self.steps),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
