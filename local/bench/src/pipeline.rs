//! Queue, event source mapping and instances over one database: what the stack is without its front door.
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

/// The function that counts, as the template calls it.
pub const VOTES_FUNCTION: &str = "VotesFunction";
const VOTES_QUEUE: &str = "VotesQueue";

/// AWS's least `MaximumConcurrency`; below, the mapping is told itself.
const CONCURRENCY_MIN: u64 = 2;

/// Nothing measured here takes as long; only reached when something is broken.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(600);

/// How votes reach the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Batches at a time.
    pub concurrency: u64,
    /// Votes of a batch.
    pub batch: u64,
}

/// The pipeline. Instances stay from one drain to the next.
pub struct Pipeline {
    /// The template with this pipeline's numbers.
    pub template: Template,
    /// Of votes.
    pub queue: Arc<Queue>,
    /// All of the template's.
    pub functions: Arc<Functions>,
    queues: Arc<Queues>,
    logs: Arc<CloudWatch>,
    log_folder: PathBuf,
    way: Load,
    /// The AWS endpoint; it ends with the pipeline.
    _endpoint: JoinSet<()>,
}

impl Pipeline {
    /// Puts it together; no instance runs yet. `artifacts`: where the binaries are.
    ///
    /// # Errors
    /// What the template says cannot be done, or a binary is missing.
    pub async fn new(test_bed: &TestBed, database: &Database, way: Load, artifacts: &Path) -> Result<Self> {
        let concurrency = way.concurrency.max(CONCURRENCY_MIN);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let arguments = RunArguments {
            aws_port: listener.local_addr()?.port(),
            set: vec![format!("{VOTES_FUNCTION}.Events.Votes.BatchSize={}", way.batch)],
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
            // Who needs it and does not reach it fails, and tells.
            let _ended = axum::serve(listener, aws_endpoint::router(services)).await;
        });
        Ok(Self { template, queue, functions, queues, logs, log_folder, way, _endpoint: endpoint })
    }

    /// Starts to take votes out of the queue.
    ///
    /// # Errors
    /// The template's mapping is not one.
    pub fn map(&self) -> Result<event_source::Mappings> {
        let concurrency = Some(self.way.concurrency);
        event_source::start_with(&self.template, &self.queues, &self.functions, None, concurrency)
    }

    /// Lets the function empty the queue, and says how long it took.
    ///
    /// # Errors
    /// It did not, or not without an error.
    pub async fn drain(&self) -> Result<Duration> {
        let started = Instant::now();
        let mappings = self.map()?;
        let drained = tokio::time::timeout(DRAIN_TIMEOUT, mappings.drained()).await;
        let taken = started.elapsed();
        mappings.stop().await;
        self.check()?;
        drained.with_context(|| format!("the queue was not empty after {} s", DRAIN_TIMEOUT.as_secs()))?;
        Ok(taken)
    }

    /// What the votes function did.
    pub fn counts(&self) -> FunctionCounts {
        let counts = self.functions.counts();
        counts.into_iter().find(|counts| counts.function == VOTES_FUNCTION).unwrap_or_default()
    }

    /// The votes function's log.
    pub fn log(&self) -> PathBuf {
        self.log_folder.join(format!("{VOTES_FUNCTION}.log"))
    }

    /// A figure of a pipeline in trouble is none.
    fn check(&self) -> Result<()> {
        let problems = self.logs.problems();
        ensure!(problems.is_empty(), "{} logged: {}", problems[0].function, problems[0].line);
        let errors = self.counts().errors;
        ensure!(errors == 0, "{errors} batches failed; log: {}", self.log().display());
        Ok(())
    }

    /// Ends the instances.
    ///
    /// # Errors
    /// Something went wrong while it ran.
    pub async fn close(self) -> Result<()> {
        self.functions.shut_down().await;
        self.check()
    }
}
