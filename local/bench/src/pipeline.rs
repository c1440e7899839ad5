//! The stack without its front door: queue, event source mapping and instances over one database.
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{net::TcpListener, task::JoinSet};

use super::test_bed::{Database, TestBed, VOTER_HASH_KEY};
use emulator::{
    aws_endpoint::{self, Services},
    cloudwatch::CloudWatch,
    event_source,
    lambda::{FunctionCounts, Functions},
    s3::Storage,
    sqs::{Queue, Queues},
    template::Template,
};
use stack::{Blueprint, Machine, RunArguments};

/// Logical id of the function that counts votes.
pub const VOTES_FUNCTION: &str = "VotesFunction";
const VOTES_QUEUE: &str = "VotesQueue";

/// AWS's minimum of `MaximumConcurrency`; lower values are set on the mapping directly.
const CONCURRENCY_MIN: u64 = 2;

/// No measurement takes as long; reached only by a defect.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(600);

/// Concurrency and batch size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Concurrent batches.
    pub concurrency: u64,
    /// Votes per batch.
    pub batch: u64,
}

/// The pipeline. Instances stay warm from one drain to the next.
pub struct Pipeline {
    /// The template with this pipeline's load.
    pub template: Template,
    /// The queue of votes.
    pub queue: Arc<Queue>,
    /// The template's functions.
    pub functions: Arc<Functions>,
    queues: Arc<Queues>,
    logs: Arc<CloudWatch>,
    log_folder: PathBuf,
    load: Load,
    /// The AWS endpoint; it ends with the pipeline.
    _endpoint: JoinSet<()>,
}

impl Pipeline {
    /// Assembles the pipeline without starting an instance. `artifacts` is the folder of the binaries.
    ///
    /// # Errors
    /// The template has a mistake, or a binary is missing.
    pub async fn new(test_bed: &TestBed, database: &Database, load: Load, artifacts: &Path) -> Result<Self> {
        let concurrency = load.concurrency.max(CONCURRENCY_MIN);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let arguments = RunArguments {
            aws_port: listener.local_addr()?.port(),
            set: vec![format!("{VOTES_FUNCTION}.Events.Votes.BatchSize={}", load.batch)],
            parameter: vec![("VotesMaximumConcurrency".to_owned(), concurrency.to_string())],
            ..RunArguments::new(test_bed.template.clone())
        };
        let machine = Machine {
            database_url: database.functions_url.clone(),
            owner_url: Some(database.url.clone()),
            redis_url: test_bed.stores.redis_url.clone(),
            voter_hash_key: VOTER_HASH_KEY.to_owned(),
        };
        let template = Blueprint::read(&arguments, &machine)?.template;
        let log_folder = tempfile::Builder::new().prefix("logs-").tempdir_in(test_bed.folder.path())?.keep();
        let logs = Arc::new(CloudWatch::new(log_folder.clone())?);
        let functions = Functions::from_template(&template, artifacts.to_owned(), Arc::clone(&logs))?;
        let queues = Queues::from_template(&template)?;
        let queue = queues.get(VOTES_QUEUE).with_context(|| format!("the template has no {VOTES_QUEUE}"))?;
        let storage = Storage::open(&log_folder.join("s3"), &template)?;
        let services = Services { queues: Arc::clone(&queues), storage, cloudfront: None };
        let mut endpoint = JoinSet::new();
        endpoint.spawn(async move {
            // A caller that cannot reach the endpoint fails with an error of its own.
            let _ended = axum::serve(listener, aws_endpoint::router(services)).await;
        });
        Ok(Self { template, queue, functions, queues, logs, log_folder, load, _endpoint: endpoint })
    }

    /// Starts the event source mapping.
    ///
    /// # Errors
    /// The template's mapping is invalid.
    pub fn map(&self) -> Result<event_source::Mappings> {
        let concurrency = Some(self.load.concurrency);
        event_source::start_with(&self.template, &self.queues, &self.functions, None, concurrency)
    }

    /// Drains the queue and returns the elapsed time.
    ///
    /// # Errors
    /// The queue was not drained in time, or a batch failed.
    pub async fn drain(&self) -> Result<Duration> {
        let started = Instant::now();
        let mappings = self.map()?;
        let drained = tokio::time::timeout(DRAIN_TIMEOUT, mappings.drained()).await;
        let elapsed = started.elapsed();
        mappings.stop().await;
        self.check()?;
        drained.with_context(|| format!("the queue was not empty after {} s", DRAIN_TIMEOUT.as_secs()))?;
        Ok(elapsed)
    }

    /// Returns the votes function's counters.
    pub fn counts(&self) -> FunctionCounts {
        let counts = self.functions.counts();
        counts.into_iter().find(|counts| counts.function == VOTES_FUNCTION).unwrap_or_default()
    }

    /// Returns the path of the votes function's log.
    pub fn log(&self) -> PathBuf {
        self.log_folder.join(format!("{VOTES_FUNCTION}.log"))
    }

    /// Fails if a function logged a problem or a batch failed: such a run has no figures.
    fn check(&self) -> Result<()> {
        let problems = self.logs.problems();
        ensure!(problems.is_empty(), "{} logged: {}", problems[0].function, problems[0].line);
        let errors = self.counts().errors;
        ensure!(errors == 0, "{errors} batches failed; log: {}", self.log().display());
        Ok(())
    }

    /// Stops the instances.
    ///
    /// # Errors
    /// A function logged a problem, or a batch failed.
    pub async fn close(self) -> Result<()> {
        self.functions.shut_down().await;
        self.check()
    }
}
