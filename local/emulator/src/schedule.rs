//! Emulates EventBridge schedules: invokes functions at the template's rates.
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
    /// Logical id of the function.
    pub function: String,
    /// The interval between invocations.
    pub every: Duration,
}

/// Reads every enabled schedule of the template.
///
/// # Errors
/// A schedule that is not a rate. A cron schedule is not supported: the stack of an experiment rarely runs that long.
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
    let pattern = Regex::new(r"^rate\((\d+) (minute|hour|day)s?\)$").expect("a valid literal");
    let found = pattern.captures(text)?;
    let seconds = match &found[2] {
        "minute" => 60,
        "hour" => 3_600,
        _ => 86_400,
    };
    let count: u64 = found[1].parse().ok().filter(|&count| count > 0)?;
    Some(Duration::from_secs(count.checked_mul(seconds)?))
}

/// Invokes each function at once, and then at its rate, even if an earlier invocation is still running. Dropping the
/// result stops the schedules; running invocations continue.
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
                // Like an asynchronous invocation: the response is ignored, and a failure is in the function's log.
                tokio::spawn(async move { functions.invoke(&function, event()).await });
            }
        });
    }
    loops
}

/// Builds the constant part of EventBridge's event.
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
