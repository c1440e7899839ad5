//! The settings of a run's stack: the template's, with shorter times.
use std::time::Duration;

use anyhow::Result;

use crate::ChaosArguments;
use emulator::schedule::Schedule;
use stack::RunArguments;

/// Overrides of the template, so that a run takes seconds and not hours: short timeouts of calls, batches and the
/// function; a short batching window; reserved concurrency above the event source's, for second deliveries; and the
/// probes' deadline that follows from these. Failed batches are redelivered soon, even while still in progress.
const SETTINGS: [&str; 8] = [
    "VotesFunction.Timeout=5",
    "VotesFunction.Environment.Variables.BATCH_TIMEOUT_MS=4000",
    "VotesFunction.Environment.Variables.DATABASE_TIMEOUT_MS=1000",
    "ResultsFunction.Environment.Variables.PROBE_LATE_SECONDS=8",
    "AdminFunction.Environment.Variables.PROBE_LATE_SECONDS=8",
    "VotesFunction.Events.Votes.MaximumBatchingWindowInSeconds=1",
    "VotesFunction.Events.Votes.ScalingConfig.MaximumConcurrency=6",
    "VotesFunction.ReservedConcurrentExecutions=24",
];

/// `Timeout` and the batching window of [`SETTINGS`].
const BATCH_SECONDS: u64 = 6;

/// Returns the time for which a failed batch delays certification. `redelivery` is the visibility timeout in seconds.
pub fn sign(redelivery: u64) -> Duration {
    Duration::from_secs(redelivery + BATCH_SECONDS)
}

/// Length of a schedule's minute, so that a failed function is soon started again. With a shorter one too many starts
/// would wait for the previous one.
const MINUTE: Duration = Duration::from_secs(20);

/// Returns the arguments of `local run` for a run's stack, on free ports.
///
/// # Errors
/// A setting is not an option's value.
pub fn stack_arguments(arguments: &ChaosArguments) -> Result<RunArguments> {
    let mut words = vec!["--ephemeral", "--no-demo", "--port", "0", "--aws-port", "0"];
    let sign = sign(arguments.redelivery).as_secs();
    let more = [
        format!("VotesQueue.VisibilityTimeout={}", arguments.redelivery),
        format!("ResultsFunction.Environment.Variables.CERTIFY_SIGN_SECONDS={sign}"),
        format!("AdminFunction.Environment.Variables.CERTIFY_SIGN_SECONDS={sign}"),
    ];
    // Few voters send all votes: the limit by token stays on, and is never met.
    words.extend(["--parameter", "WafVotesPerToken=999999999"]);
    let settings = SETTINGS.into_iter().chain(more.iter().chain(&arguments.set).map(String::as_str));
    words.extend(settings.flat_map(|setting| ["--set", setting]));
    Ok(RunArguments { template: arguments.template.clone(), ..RunArguments::parse(words)? })
}

/// Shortens a schedule's interval: a minute becomes [`MINUTE`].
pub fn accelerated(schedule: Schedule) -> Schedule {
    Schedule { every: MINUTE.mul_f64(schedule.every.as_secs_f64() / 60.0), ..schedule }
}
