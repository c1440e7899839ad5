//! Emulates Lambda: function instances are processes of the real binaries, invoked over the Runtime API.
//!
//! Invariants: an instance runs at most one invocation at a time; a function's concurrent invocations never exceed
//! its concurrency limit; no instance outlives the stack.
mod instance;
mod log_filter;
mod process;
mod runtime_api;
mod settings;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use axum::body::Bytes;

use crate::{
    cloudwatch::CloudWatch,
    http_api::{definition::Throttle, throttle::Bucket},
    template::Template,
};
use processes::memory;

use instance::{Instance, Outcome};
use settings::Settings;

pub use settings::{find_binary, timeout_seconds};

/// Lambda's limit on the request payload and on the response payload of a synchronous invocation.
pub const PAYLOAD_BYTES_MAX: usize = 6 * 1024 * 1024;

/// Lambda's limit on the synchronous requests per second for each unit of a function's concurrency.
const REQUESTS_PER_SECOND_AND_INSTANCE: u32 = 10;

/// The error of an invocation.
#[derive(Debug, Clone)]
pub enum InvokeError {
    /// The function is at its limit of concurrency or of requests per second.
    Throttled,
    /// The function's `Timeout` elapsed; the instance was killed.
    TimedOut,
    /// The process ended during the invocation or its initialization.
    Crashed(String),
    /// The handler returned an error (the body of `/invocation/{id}/error`), or the request or the response exceeds
    /// [`PAYLOAD_BYTES_MAX`].
    Unhandled(String),
}

impl std::fmt::Display for InvokeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Throttled => {
                f.write_str("throttled: the function is at its limit of concurrency or requests")
            }
            Self::TimedOut => f.write_str("timed out"),
            Self::Crashed(reason) => write!(f, "crashed: {reason}"),
            Self::Unhandled(error) => write!(f, "error: {error}"),
        }
    }
}

impl std::error::Error for InvokeError {}

/// Metrics of one function.
#[derive(Debug, Clone, Default)]
pub struct FunctionCounts {
    /// Logical id.
    pub function: String,
    /// Invocations started.
    pub invocations: u64,
    /// Invocations that ended with an error.
    pub errors: u64,
    /// Maximum of the concurrent invocations.
    pub concurrent_max: u64,
    /// Cold starts: processes started.
    pub cold_starts: u64,
    /// Process ids of the live instances, for fault injection and memory measurements.
    pub pids: Vec<u32>,
}

/// A hook that adds environment variables to each new process.
pub trait EnvironmentHook: std::fmt::Debug + Send + Sync {
    /// Returns names and values for a new process of the function with this logical id.
    fn environment(&self, function: &str) -> Vec<(String, String)>;
}

/// The measurements of a new instance.
#[derive(Debug, Clone, Copy)]
pub struct FreshInstance {
    /// Duration from the start of the process to its first request for an invocation.
    pub init: Duration,
    /// Duration of the first invocation.
    pub first: Duration,
    /// Peak resident memory after all invocations, in bytes.
    pub memory_peak: Option<u64>,
}

/// Every `AWS::Serverless::Function` of the template.
#[derive(Debug)]
pub struct Functions {
    by_id: BTreeMap<String, Arc<Function>>,
}

#[derive(Debug)]
struct Function {
    settings: Arc<Settings>,
    logs: Arc<CloudWatch>,
    pool: Mutex<Pool>,
    /// Bounds the requests of clients, not the invocations of event sources.
    request_rate: Bucket,
    environment_hook: OnceLock<Arc<dyn EnvironmentHook>>,
    invocations: AtomicU64,
    errors: AtomicU64,
    cold_starts: AtomicU64,
}

#[derive(Debug, Default)]
struct Pool {
    /// Most recently used last. The last one is used first, so that surplus instances stay idle.
    idle: Vec<Instance>,
    busy: u64,
    busy_max: u64,
    /// Instances that are alive, idle or busy.
    live: Vec<instance::Handle>,
    /// Whether the next invocation starts a new instance even if one is idle.
    force_cold_start: bool,
    closed: bool,
}

impl Functions {
    /// Creates the functions and finds their binaries below `artifacts`, in the layouts of `cargo build`
    /// (`<dir>/<binary>`), `cargo lambda build` (`<dir>/<binary>/bootstrap`) and `sam build`
    /// (`<dir>/<LogicalId>/bootstrap`).
    ///
    /// # Errors
    /// A function without a binary, or with a property outside Lambda's range.
    pub fn from_template(
        template: &Template,
        artifacts: PathBuf,
        logs: Arc<CloudWatch>,
    ) -> anyhow::Result<Arc<Self>> {
        let artifacts =
            std::path::absolute(artifacts).context("the artifacts folder has no absolute path")?;
        let functions = template.of_kind("AWS::Serverless::Function").map(move |resource| {
            let settings = Settings::of(resource, template.aws_endpoint(), &artifacts)?;
            Ok((resource.id.clone(), Arc::new(Function::new(settings, Arc::clone(&logs)))))
        });
        Ok(Arc::new(Self { by_id: functions.collect::<anyhow::Result<_>>()? }))
    }

    /// Invokes a function synchronously by its logical id; starts an instance if none is idle.
    ///
    /// As in Lambda, the invocation continues if the caller disconnects.
    ///
    /// # Errors
    /// [`InvokeError`]; `Crashed` for a function that is not in the template.
    pub async fn invoke(&self, function: &str, payload: Bytes) -> Result<Bytes, InvokeError> {
        let found = self.by_id.get(function).cloned();
        let Some(found) = found else {
            return Err(InvokeError::Crashed(format!("there is no function {function}")));
        };
        let invocation = tokio::spawn(async move { found.invoke(payload).await });
        invocation.await.unwrap_or_else(|error| Err(InvokeError::Crashed(error.to_string())))
    }

    /// Invokes a function for a client's request, within the function's limit of requests per second.
    ///
    /// # Errors
    /// As [`Self::invoke`].
    pub async fn request(&self, function: &str, payload: Bytes) -> Result<Bytes, InvokeError> {
        if self.by_id.get(function).is_some_and(|function| !function.request_rate.admit()) {
            return Err(InvokeError::Throttled);
        }
        self.invoke(function, payload).await
    }

    /// Sets a hook that adds environment variables to each new process. Later calls have no effect.
    pub fn set_environment_hook(&self, environment_hook: &Arc<dyn EnvironmentHook>) {
        for function in self.by_id.values() {
            // The error means that a hook is set already.
            let _already_set = function.environment_hook.set(Arc::clone(environment_hook));
        }
    }

    /// Forces a cold start for the next invocation of a function, even if an instance is idle.
    pub fn force_cold_start(&self, function: &str) {
        if let Some(function) = self.by_id.get(function) {
            function.lock().force_cold_start = true;
        }
    }

    /// Ends all idle instances of a function.
    pub fn end_idle(&self, function: &str) {
        if let Some(function) = self.by_id.get(function) {
            // A dropped instance is killed.
            function.lock().idle.clear();
        }
    }

    /// Kills one busy instance of a function: the one at index `pick`, modulo their number. Returns `false` if no
    /// instance is busy.
    pub fn kill_busy(&self, function: &str, pick: usize) -> bool {
        self.by_id.get(function).is_some_and(|function| function.kill_busy(pick))
    }

    /// Kills all instances of a function, even busy ones, as Lambda may. Later invocations are throttled.
    pub fn end(&self, function: &str) {
        for handle in self.by_id.get(function).map(|function| function.close()).unwrap_or_default() {
            handle.kill();
        }
    }

    /// Starts a separate instance, measures its initialization and invocations, and ends it.
    ///
    /// # Errors
    /// The instance fails to start or to respond; `Crashed` for a function that is not in the template.
    pub async fn start_and_invoke(
        &self,
        function: &str,
        payloads: &[Bytes],
    ) -> Result<FreshInstance, InvokeError> {
        let found = self.by_id.get(function).cloned();
        let found = found.ok_or_else(|| InvokeError::Crashed(format!("there is no function {function}")))?;
        found.start_and_invoke(payloads).await
    }

    /// Returns the metrics of every function.
    pub fn counts(&self) -> Vec<FunctionCounts> {
        self.by_id.values().map(|function| function.counts()).collect()
    }

    /// Returns the environment variables of each function's processes by logical id, without the Runtime API's address.
    pub fn environments(&self) -> impl Iterator<Item = (&str, &[(String, String)])> {
        self.by_id.iter().map(|(id, function)| (id.as_str(), function.settings.environment.as_slice()))
    }

    /// Ends every instance: SIGTERM, then SIGKILL. Later invocations are throttled.
    pub async fn shut_down(&self) {
        let handles: Vec<_> = self.by_id.values().flat_map(|function| function.close()).collect();
        for handle in &handles {
            handle.terminate();
        }
        for handle in handles {
            handle.ended_or_killed().await;
        }
    }
}

impl Function {
    fn new(settings: Settings, logs: Arc<CloudWatch>) -> Self {
        let concurrency = u32::try_from(settings.concurrency_max).unwrap_or(u32::MAX);
        let per_second = concurrency.saturating_mul(REQUESTS_PER_SECOND_AND_INSTANCE);
        let rate = Throttle { requests_per_second: per_second.into(), burst: per_second };
        Self {
            settings: Arc::new(settings),
            logs,
            request_rate: Bucket::new(rate),
            pool: Mutex::default(),
            environment_hook: OnceLock::new(),
            invocations: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            cold_starts: AtomicU64::new(0),
        }
    }

    async fn invoke(&self, payload: Bytes) -> Result<Bytes, InvokeError> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(InvokeError::Unhandled(format!(
                "RequestTooLargeException: {} bytes, and the limit is {PAYLOAD_BYTES_MAX}",
                payload.len()
            )));
        }
        let permit = self.acquire().ok_or(InvokeError::Throttled)?;
        self.invocations.fetch_add(1, Ordering::Relaxed);
        let answer = self.run(payload).await;
        drop(permit);
        if answer.is_err() {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    async fn run(&self, payload: Bytes) -> Result<Bytes, InvokeError> {
        loop {
            let instance = match self.take_idle() {
                Some(instance) => instance,
                None => self.start().await?,
            };
            match instance.invoke(&payload).await {
                Outcome::Answered(answer) => {
                    self.put_back(instance);
                    return answer;
                }
                Outcome::Ended(error) => return Err(error),
                // The instance died while idle, before it received this invocation: retry with another one.
                Outcome::NotDelivered => {}
            }
        }
    }

    async fn start(&self) -> Result<Instance, InvokeError> {
        self.cold_starts.fetch_add(1, Ordering::Relaxed);
        let extra = self
            .environment_hook
            .get()
            .map_or_else(Vec::new, |environment_hook| environment_hook.environment(&self.settings.id));
        let started = Instance::start(Arc::clone(&self.settings), Arc::clone(&self.logs), extra).await;
        let instance = started.map_err(|error| InvokeError::Crashed(format!("{error:#}")))?;
        let handle = instance.handle();
        let closed = {
            let mut pool = self.lock();
            pool.live.retain(instance::Handle::is_alive);
            pool.live.push(handle.clone());
            pool.closed
        };
        if closed {
            handle.kill();
        }
        instance.initialized().await?;
        Ok(instance)
    }

    async fn start_and_invoke(&self, payloads: &[Bytes]) -> Result<FreshInstance, InvokeError> {
        let started = Instant::now();
        let instance = self.start().await?;
        let init = started.elapsed();
        let mut first = None;
        for payload in payloads {
            let invoked = Instant::now();
            match instance.invoke(payload).await {
                Outcome::Answered(answer) => answer?,
                Outcome::Ended(error) => return Err(error),
                Outcome::NotDelivered => return Err(InvokeError::Crashed("it ended while idle".to_owned())),
            };
            first.get_or_insert_with(|| invoked.elapsed());
        }
        let memory_peak = memory(instance.handle().pid()).map(|(_, peak)| peak);
        Ok(FreshInstance { init, first: first.unwrap_or_default(), memory_peak })
    }

    fn take_idle(&self) -> Option<Instance> {
        let mut pool = self.lock();
        if std::mem::take(&mut pool.force_cold_start) {
            return None;
        }
        std::iter::from_fn(|| pool.idle.pop()).find(Instance::is_alive)
    }

    fn kill_busy(&self, pick: usize) -> bool {
        let pool = self.lock();
        let is_idle = |pid| pool.idle.iter().any(|instance| instance.handle().pid() == pid);
        let is_busy = |handle: &&instance::Handle| handle.is_alive() && !is_idle(handle.pid());
        let busy: Vec<_> = pool.live.iter().filter(is_busy).collect();
        if busy.is_empty() {
            return false;
        }
        busy[pick % busy.len()].kill();
        true
    }

    fn put_back(&self, instance: Instance) {
        self.lock().idle.push(instance);
    }

    /// Acquires a permit for one more concurrent invocation; `None` at the concurrency limit.
    fn acquire(&self) -> Option<ConcurrencyPermit<'_>> {
        let mut pool = self.lock();
        if pool.closed || pool.busy >= self.settings.concurrency_max {
            return None;
        }
        pool.busy += 1;
        pool.busy_max = pool.busy_max.max(pool.busy);
        Some(ConcurrencyPermit(self))
    }

    fn counts(&self) -> FunctionCounts {
        let pool = self.lock();
        FunctionCounts {
            function: self.settings.id.clone(),
            invocations: self.invocations.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            concurrent_max: pool.busy_max,
            cold_starts: self.cold_starts.load(Ordering::Relaxed),
            pids: pool.live.iter().filter(|handle| handle.is_alive()).map(instance::Handle::pid).collect(),
        }
    }

    fn close(&self) -> Vec<instance::Handle> {
        let mut pool = self.lock();
        pool.closed = true;
        std::mem::take(&mut pool.live)
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The permit of one concurrent invocation, released on drop, even if the caller disconnects.
struct ConcurrencyPermit<'a>(&'a Function);

impl Drop for ConcurrencyPermit<'_> {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
    }
}
