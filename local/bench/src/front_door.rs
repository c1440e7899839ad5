//! The front door: k6 sends `POST /votes` on the same cores, through edge, authorizer and queue into the ranking.
use std::{
    fs::{self, File},
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Serialize;
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::{
    Part, lag,
    pipeline::VOTES_FUNCTION,
    plan::Plan,
    test_bed::TestBed,
    usage::{self, Process},
};
use processes::end_with_parent;

/// A new stack initializes a database cluster first.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
const READY_POLL: Duration = Duration::from_millis(100);
/// The stack drains its queues first.
const STOP_TIMEOUT: Duration = Duration::from_secs(90);
/// Time beyond the load: k6 fetches its tokens first and waits for the last vote at the end.
const K6_TIMEOUT: Duration = Duration::from_secs(300);
/// Few voters, since each token needs a signature; but one for each request a second, so that a token sends half of the
/// 120 requests a minute that the edge allows.
const VOTERS: u64 = 2_000;

/// Maximum connections of k6: 50 ms of answers at the target's rate.
const CONNECTIONS: u64 = 300;

/// The requests of one measurement.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The part that it belongs to.
    pub part: Part,
    /// Taps of each vote.
    count: u64,
    /// Votes of each request.
    list: u64,
    /// Requests per second.
    rate: u64,
}

impl Load {
    /// Returns each part's requests.
    pub fn of(plan: &Plan) -> [Self; 3] {
        let [single, taps, lists] = plan.front_door_rates;
        [
            Self { part: Part::Front, count: 1, list: 1, rate: single },
            Self { part: Part::FrontTaps, count: 10, list: 1, rate: taps },
            Self { part: Part::FrontLists, count: 1, list: 10, rate: lists },
        ]
    }
}

/// The figures of the front door.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FrontDoor {
    /// Taps of each vote.
    pub count: u64,
    /// Votes of each request.
    pub list: u64,
    /// Seconds of k6's load.
    pub seconds: u64,
    /// Sent requests per second, as planned.
    pub asked_rate: u64,
    /// Votes answered with 202, the sum of their taps. Each was found in the ledger, else there is no figure.
    pub accepted: u64,
    /// Seconds from the last request until all votes were counted.
    pub counted_after_seconds: f64,
    /// Response time of `POST /votes`, in milliseconds.
    pub post_p99_ms: f64,
    /// Median latency from casting to the ranking, in milliseconds.
    pub lag_p50_ms: f64,
    /// 99th percentile of the same latency, in milliseconds.
    pub lag_p99_ms: f64,
    /// CPU-seconds of k6 and its script.
    pub k6_cpu_seconds: f64,
    /// CPU and memory of the stack's processes.
    pub processes: Vec<Process>,
}

impl FrontDoor {
    /// Returns the votes per second.
    pub fn rate(&self) -> f64 {
        self.accepted as f64 / self.seconds as f64
    }
}

/// Runs `loadtests/vote.js` against a separate stack. The script checks that no vote is lost.
///
/// # Errors
/// The stack or k6 fails, or a vote was lost.
pub async fn run(test_bed: &TestBed, plan: &Plan, load: Load) -> Result<FrontDoor> {
    // Each load has a stack of its own, whose ledger is empty.
    let folder = test_bed.folder.path().join(format!("front-door-{}-{}", load.count, load.list));
    let (mut stack, base_url) = start_stack(test_bed, &folder).await?;
    let measured = measure(test_bed, plan, load, &base_url, &stack).await;
    stop(&mut stack).await?;
    let (summary, k6_cpu_seconds, processes) = measured?;
    let lags = lag::read(&folder.join("logs").join(format!("{VOTES_FUNCTION}.log")))?;
    let figure = |metric: &str, field: &str| {
        let value = summary["metrics"][metric][field].as_f64();
        value.with_context(|| format!("k6 reported no {field} of {metric}"))
    };
    Ok(FrontDoor {
        count: load.count,
        list: load.list,
        seconds: plan.front_door_seconds,
        asked_rate: load.rate,
        counted_after_seconds: figure("seconds_from_last_post_to_last_count", "value")?,
        accepted: figure("votes_accepted", "count")? as u64,
        post_p99_ms: figure("http_req_duration{name:POST /votes}", "p(99)")?,
        lag_p50_ms: lag::of_share(&lags, 0.5).context("no vote reached the ranking")?,
        lag_p99_ms: lag::of_share(&lags, 0.99).context("no vote reached the ranking")?,
        k6_cpu_seconds,
        processes,
    })
}

async fn start_stack(test_bed: &TestBed, folder: &Path) -> Result<(Child, String)> {
    let urls_file = folder.with_extension("urls.json");
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["run", "--port", "0", "--aws-port", "0", "--urls-file"]).arg(&urls_file);
    command.arg("--data-dir").arg(folder).arg("--artifacts").arg(&test_bed.artifacts);
    command.arg("--template").arg(&test_bed.template).env_remove("DATABASE_URL").env_remove("REDIS_URL");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).process_group(0);
    end_with_parent(&mut command, Signal::SIGTERM);
    let mut stack = command.spawn().context("the stack cannot be started")?;
    let ready = async {
        while !urls_file.exists() {
            ensure!(stack.try_wait()?.is_none(), "the stack ended before it was ready");
            sleep(READY_POLL).await;
        }
        anyhow::Ok(serde_json::from_slice::<Value>(&fs::read(&urls_file)?)?)
    };
    let urls = timeout(READY_TIMEOUT, ready).await.context("the stack did not become ready")??;
    let base_url = urls["baseUrl"].as_str().context("the stack wrote no URL")?.to_owned();
    Ok((stack, base_url))
}

async fn measure(
    test_bed: &TestBed,
    plan: &Plan,
    load: Load,
    base_url: &str,
    stack: &Child,
) -> Result<(Value, f64, Vec<Process>)> {
    let pid = stack.id().context("the stack has ended")?;
    let (log, export) = (test_bed.folder.path().join("k6.log"), test_bed.folder.path().join("k6.json"));
    let before = usage::ended_children();
    let output = File::create(&log)?;
    let mut k6 = Command::new("scripts/loadtest.sh");
    k6.env("SCENARIO", "vote").env("BASE_URL", base_url).env("VOTERS", VOTERS.max(load.rate).to_string());
    k6.env("COUNT", load.count.to_string()).env("LIST", load.list.to_string());
    k6.env("RATE", load.rate.to_string()).env("DURATION", plan.front_door_seconds.to_string());
    k6.env("VUS", CONNECTIONS.to_string());
    // Slow answers must not fail k6; the figures show them.
    k6.env("PATIENCE", "60").env("K6_SUMMARY_EXPORT", &export).env_remove("TOKENS").env_remove("ADMIN_TOKEN");
    k6.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
    let mut k6 =
        k6.spawn().context("scripts/loadtest.sh cannot be started: run this in the project's folder")?;
    let limit = Duration::from_secs(plan.front_door_seconds) + K6_TIMEOUT;
    let status = timeout(limit, k6.wait()).await.context("k6 did not end in time")??;
    ensure!(status.success(), "k6 failed: {}", fs::read_to_string(&log).unwrap_or_default());
    let processes = usage::processes(pid);
    Ok((serde_json::from_slice(&fs::read(export)?)?, usage::ended_children() - before, processes))
}

async fn stop(stack: &mut Child) -> Result<()> {
    if let Some(pid) = stack.id() {
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGINT)?;
    }
    let ended = timeout(STOP_TIMEOUT, stack.wait()).await;
    if ended.is_err() {
        stack.kill().await?;
        bail!("the stack did not stop");
    }
    Ok(())
}
