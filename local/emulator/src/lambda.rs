//! Stands in for Lambda: instances of the real binaries, spoken to over the Runtime API.
//!
//! Invariants: an instance has one invocation at a time; a function never has more invocations at a time than its
//! concurrency limit; no instance outlives the stack.
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

use crate::{cloudwatch::CloudWatch, template::Template};
use processes::memory;

use instance::{Instance, Outcome};
use settings::Settings;

pub use settings::{find_binary, timeout_seconds};

/// Lambda's limit on the request and on the answer of a synchronous invocation.
pub const PAYLOAD_BYTES_MAX: usize = 6 * 1024 * 1024;

/// Why an invocation gave no answer.
#[derive(Debug, Clone)]
pub enum InvokeError {
    /// No instance free within the concurrency limit.
    Throttled,
    /// The function's `Timeout` passed; the instance was killed.
    TimedOut,
    /// The process ended in mid-invocation or at start.
    Crashed(String),
    /// The handler answered with an error (the body of `/invocation/{id}/error`), or the request or its answer is
    /// over [`PAYLOAD_BYTES_MAX`].
    Unhandled(String),
}

impl std::fmt::Display for InvokeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Throttled => f.write_str("throttled: the function is at its concurrency limit"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Crashed(reason) => write!(f, "crashed: {reason}"),
            Self::Unhandled(error) => write!(f, "error: {error}"),
        }
    }
}

impl std::error::Error for InvokeError {}

/// Figures of one function.
#[derive(Debug, Clone, Default)]
pub struct FunctionCounts {
    /// Logical id.
    pub function: String,
    /// Invocations started.
    pub invocations: u64,
    /// Invocations that gave no answer.
    pub errors: u64,
    /// Highest number of invocations at one time.
    pub concurrent_max: u64,
    /// Processes started.
    pub cold_starts: u64,
    /// Process ids of live instances (for fault injection and memory figures).
    pub pids: Vec<u32>,
}

/// What is added to the environment of a process that is about to start.
pub trait EnvironmentHook: std::fmt::Debug + Send + Sync {
    /// Names and values, for a process of the function of this logical id.
    fn environment(&self, function: &str) -> Vec<(String, String)>;
}

/// What a new instance took.
#[derive(Debug, Clone, Copy)]
pub struct FreshInstance {
    /// From starting the process to its asking for the first invocation.
    pub init: Duration,
    /// From there to its answer to the first one.
    pub first: Duration,
    /// Its highest resident memory, in bytes, after all of them.
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
    environment_hook: OnceLock<Arc<dyn EnvironmentHook>>,
    invocations: AtomicU64,
    errors: AtomicU64,
    cold_starts: AtomicU64,
}

#[derive(Debug, Default)]
struct Pool {
    /// The most recently used last: it is taken first, so surplus instances stay untouched.
    idle: Vec<Instance>,
    busy: u64,
    busy_max: u64,
    /// Instances that live, idle or busy.
    live: Vec<instance::Handle>,
    /// The next invocation gets an instance of its own, idle ones or not.
    next_anew: bool,
    closed: bool,
}

impl Functions {
    /// Finds each function's binary below `artifacts`: the layouts of `cargo build` (`<dir>/<binary>`),
    /// `cargo lambda build` (`<dir>/<binary>/bootstrap`) and `sam build` (`<dir>/<LogicalId>/bootstrap`).
    ///
    /// # Errors
    /// A function without a binary, or with properties outside Lambda's ranges.
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

    /// A synchronous invocation by logical id; starts an instance when none is idle.
    ///
    /// It runs to its end also when the caller goes away, as in Lambda.
    ///
    /// # Errors
    /// [`InvokeError`]; a function the template does not have counts as crashed.
    pub async fn invoke(&self, function: &str, payload: Bytes) -> Result<Bytes, InvokeError> {
        let found = self.by_id.get(function).cloned();
        let Some(found) = found else {
            return Err(InvokeError::Crashed(format!("there is no function {function}")));
        };
        let invocation = tokio::spawn(async move { found.invoke(payload).await });
        invocation.await.unwrap_or_else(|error| Err(InvokeError::Crashed(error.to_string())))
    }

    /// Has every process that starts from now on ask `environment_hook` for more environment. Only the first call counts.
    pub fn attend_births(&self, environment_hook: &Arc<dyn EnvironmentHook>) {
        for function in self.by_id.values() {
            // Another one attends already.
            let _later = function.environment_hook.set(Arc::clone(environment_hook));
        }
    }

    /// Has the next invocation of a function start a process, whether or not one is idle.
    pub fn start_next_anew(&self, function: &str) {
        if let Some(function) = self.by_id.get(function) {
            function.lock().next_anew = true;
        }
    }

    /// Ends all of a function's idle processes.
    pub fn end_idle(&self, function: &str) {
        if let Some(function) = self.by_id.get(function) {
            // Dropped, and so killed.
            function.lock().idle.clear();
        }
    }

    /// Kills one of a function's processes in mid-invocation: that of `pick`, counted around. `false`: none is.
    pub fn kill_busy(&self, function: &str, pick: usize) -> bool {
        self.by_id.get(function).is_some_and(|function| function.kill_busy(pick))
    }

    /// Ends a function's processes at once, also in mid-invocation, as Lambda may. Invocations after this are throttled.
    pub fn end(&self, function: &str) {
        for handle in self.by_id.get(function).map(|function| function.close()).unwrap_or_default() {
            handle.kill();
        }
    }

    /// Starts an instance of its own, times it, and ends it.
    ///
    /// # Errors
    /// It does not come up, or does not answer; a function the template does not have counts as crashed.
    pub async fn start_and_invoke(
        &self,
        function: &str,
        payloads: &[Bytes],
    ) -> Result<FreshInstance, InvokeError> {
        let found = self.by_id.get(function).cloned();
        let found = found.ok_or_else(|| InvokeError::Crashed(format!("there is no function {function}")))?;
        found.start_and_invoke(payloads).await
    }

    /// Figures for `/_local/metrics`.
    pub fn counts(&self) -> Vec<FunctionCounts> {
        self.by_id.values().map(|function| function.counts()).collect()
    }

    /// Ends every instance: SIGTERM, then SIGKILL. Invocations after this are throttled.
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
        Self {
            settings: Arc::new(settings),
            logs,
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
        let busy = self.enter().ok_or(InvokeError::Throttled)?;
        self.invocations.fetch_add(1, Ordering::Relaxed);
        let answer = self.run(payload).await;
        drop(busy);
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
                // It died while idle, before it saw this invocation: another one takes it.
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
            let asked = Instant::now();
            match instance.invoke(payload).await {
                Outcome::Answered(answer) => answer?,
                Outcome::Ended(error) => return Err(error),
                Outcome::NotDelivered => return Err(InvokeError::Crashed("it ended while idle".to_owned())),
            };
            first.get_or_insert_with(|| asked.elapsed());
        }
        let memory_peak = memory(instance.handle().pid()).map(|(_, peak)| peak);
        Ok(FreshInstance { init, first: first.unwrap_or_default(), memory_peak })
    }

    fn take_idle(&self) -> Option<Instance> {
        let mut pool = self.lock();
        if std::mem::take(&mut pool.next_anew) {
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

    /// One more invocation at the same time, if the limit allows it.
    fn enter(&self) -> Option<Busy<'_>> {
        let mut pool = self.lock();
        if pool.closed || pool.busy >= self.settings.concurrency_max {
            return None;
        }
        pool.busy += 1;
        pool.busy_max = pool.busy_max.max(pool.busy);
        Some(Busy(self))
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

/// Counts an invocation as running until it is dropped, also when its caller goes away.
struct Busy<'a>(&'a Function);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
    }
}
