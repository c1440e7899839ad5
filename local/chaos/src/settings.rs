//! The stack of a run: the template's, hurried.
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::ChaosArguments;
use emulator::schedule::Schedule;
use stack::RunArguments;

/// What is set otherwise than in the template, so that a run takes seconds and not hours: what failed comes again
/// soon, even while its batch is still being worked on; calls and batches are given up soon; batches do not wait for
/// long; the function may run more often than its queue calls it, for second deliveries; and a probe is in time for as
/// long as follows from the others.
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

/// How long a sign of a failed batch counts, which comes again after `redelivery` seconds.
pub fn sign(redelivery: u64) -> Duration {
    Duration::from_secs(redelivery + BATCH_SECONDS)
}

/// A schedule's minute is this long, so that a function that ended with an error is soon back; shorter, too many starts
/// would wait for the one before.
const MINUTE: Duration = Duration::from_secs(20);

/// The arguments of `local run` for the stack of a run, on ports of its own.
///
/// # Errors
/// No port is free.
pub fn stack_arguments(arguments: &ChaosArguments) -> Result<RunArguments> {
    let free_port = || -> Result<u16> {
        Ok(std::net::TcpListener::bind("127.0.0.1:0").context("no free port")?.local_addr()?.port())
    };
    let (port, aws_port) = (free_port()?.to_string(), free_port()?.to_string());
    let mut words = vec!["--ephemeral", "--no-demo", "--port", &port, "--aws-port", &aws_port];
    let sign = sign(arguments.redelivery).as_secs();
    let more = [
        format!("VotesQueue.VisibilityTimeout={}", arguments.redelivery),
        format!("ResultsFunction.Environment.Variables.CERTIFY_SIGN_SECONDS={sign}"),
        format!("AdminFunction.Environment.Variables.CERTIFY_SIGN_SECONDS={sign}"),
    ];
    let settings = SETTINGS.into_iter().chain(more.iter().chain(&arguments.set).map(String::as_str));
    words.extend(settings.flat_map(|setting| ["--set", setting]));
    Ok(RunArguments { template: arguments.template.clone(), ..RunArguments::parse(words)? })
}

/// A schedule at a run's pace.
pub fn hurried(schedule: Schedule) -> Schedule {
    Schedule { every: MINUTE.mul_f64(schedule.every.as_secs_f64() / 60.0), ..schedule }
}
