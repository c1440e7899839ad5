//! Stands in for EventBridge: starts functions at the rates that the template gives them.
use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use axum::body::Bytes;
use regex_lite::Regex;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::{lambda::Functions, template::Template};

/// A function's event of type `Schedule`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Logical id.
    pub function: String,
    /// From one start to the next.
    pub every: Duration,
}

/// Reads every schedule of the template that is enabled.
///
/// # Errors
/// One that is no rate: at a time of day, say, which a stack for an experiment would hardly live to see.
pub fn read(template: &Template) -> Result<Vec<Schedule>> {
    let mut schedules = Vec::new();
    for function in template.of_kind("AWS::Serverless::Function") {
        for (name, event) in function.properties["Events"].as_object().into_iter().flatten() {
            if event["Type"] != "Schedule" || event["Properties"]["Enabled"] == Value::Bool(false) {
                continue;
            }
            let text = event["Properties"]["Schedule"].as_str().unwrap_or_default();
            let every = rate(text).with_context(|| {
                format!(
                    "{}.Events.{name}: Schedule is {text:?}; here it can be rate(N minutes), hours or days",
                    function.id
                )
            })?;
            schedules.push(Schedule { function: function.id.clone(), every });
        }
    }
    Ok(schedules)
}

fn rate(text: &str) -> Option<Duration> {
    let pattern = Regex::new(r"^rate\((\d+) (minute|hour|day)s?\)$").expect("written here");
    let found = pattern.captures(text)?;
    let seconds = match &found[2] {
        "minute" => 60,
        "hour" => 3_600,
        _ => 86_400,
    };
    let count: u64 = found[1].parse().ok().filter(|&count| count > 0)?;
    Some(Duration::from_secs(count.checked_mul(seconds)?))
}

/// Starts each function now, and then at its rate, whether or not it is still at work. Ends when dropped; what runs
/// then goes on.
pub fn start(schedules: &[Schedule], functions: &Arc<Functions>) -> JoinSet<()> {
    let mut loops = JoinSet::new();
    for Schedule { function, every } in schedules.iter().cloned() {
        let functions = Arc::clone(functions);
        loops.spawn(async move {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let (functions, function) = (Arc::clone(&functions), function.clone());
                // As an asynchronous invocation: nobody waits for the answer, and a failure is in the function's log.
                tokio::spawn(async move { functions.invoke(&function, event()).await });
            }
        });
    }
    loops
}

/// What of EventBridge's event does not change from one to the next.
fn event() -> Bytes {
    let event =
        json!({"version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}});
    Bytes::from(event.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_nothing_else() {
        assert_eq!(rate("rate(1 minute)"), Some(Duration::from_secs(60)));
        assert_eq!(rate("rate(5 minutes)"), Some(Duration::from_secs(300)));
        assert_eq!(rate("rate(2 hours)"), Some(Duration::from_secs(7_200)));
        for text in ["rate(0 minutes)", "cron(0 12 * * ? *)", "rate(1 second)", "every minute"] {
            assert_eq!(rate(text), None, "{text}");
        }
    }
}
