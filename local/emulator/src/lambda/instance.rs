//! One function instance: a process, its Runtime API, and at most one invocation at a time.
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use axum::{body::Bytes, serve::ListenerExt as _};
use tokio::{
    net::TcpListener,
    process::Child,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::{
    InvokeError, process,
    runtime_api::{Answer, Invocation, RuntimeApi},
    settings::Settings,
};
use crate::clock;
use crate::cloudwatch::CloudWatch;

/// Lambda's limit on the init phase: the time until the function requests its first invocation.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between SIGTERM and SIGKILL: as in Lambda for functions with extensions, 2 s.
const TERMINATION_GRACE: Duration = Duration::from_secs(2);

/// Time limit for reading the rest of a dead process's output. It expires only if a grandchild holds the pipe open.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// The outcome of an invocation for its instance.
pub(super) enum Outcome {
    /// The function returned a response or an error; the instance can be reused.
    Answered(Answer),
    /// The instance is dead.
    Ended(InvokeError),
    /// The instance was dead before it received the invocation.
    NotDelivered,
}

/// A running function process, used exclusively by its owner.
#[derive(Debug)]
pub(super) struct Instance {
    handle: Handle,
    api: Arc<RuntimeApi>,
    sender: mpsc::Sender<Invocation>,
    timeout: Duration,
}

/// A cloneable handle that ends an instance and reports whether it is alive.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    pid: u32,
    signals: mpsc::UnboundedSender<EndSignal>,
    /// The reason of the end; `None` while the instance is alive.
    ended: watch::Receiver<Option<String>>,
}

#[derive(Debug, Clone, Copy)]
enum EndSignal {
    Terminate,
    Kill,
}

impl Instance {
    /// Starts the process. The instance is usable once [`Instance::initialized`] returns.
    pub async fn start(
        settings: Arc<Settings>,
        logs: Arc<CloudWatch>,
        extra: Vec<(String, String)>,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for the Runtime API")?;
        let address = listener.local_addr()?.to_string();
        let (sender, pending) = mpsc::channel(1);
        let api = RuntimeApi::new(settings.arn.clone(), pending);
        let child = process::spawn(&settings, &address, extra)
            .with_context(|| format!("cannot start {}", settings.binary.display()))?;
        let pid = child.id().context("the process ended at once")?;
        let listener = listener.tap_io(|stream| {
            // Without TCP_NODELAY, the last packet of a large event waits for an acknowledgement. A failure costs
            // only this delay.
            let _slower = stream.set_nodelay(true);
        });
        let router = Arc::clone(&api).router();
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let (signals, received) = mpsc::unbounded_channel();
        let (end, ended) = watch::channel(None);
        let supervisor = Supervisor { child, pid, server, signals: received, api: Arc::clone(&api) };
        let timeout = settings.timeout;
        tokio::spawn(async move {
            let reason = supervisor.run(&settings, logs).await;
            end.send_replace(Some(reason));
        });
        Ok(Self { handle: Handle { pid, signals, ended }, api, sender, timeout })
    }

    /// Waits until the function requests its first invocation.
    ///
    /// # Errors
    /// `Crashed`, with the function's last output, if it ends or exceeds Lambda's 10 s.
    pub async fn initialized(&self) -> Result<(), InvokeError> {
        let mut initialized = self.api.initialized();
        let mut handle = self.handle.clone();
        tokio::select! {
            result = initialized.wait_for(|initialized| *initialized) => match result {
                Ok(_) => Ok(()),
                Err(_) => Err(InvokeError::Crashed("its Runtime API ended".to_owned())),
            },
            reason = handle.ended() => Err(InvokeError::Crashed(reason)),
            () = sleep(INIT_TIMEOUT) => {
                handle.kill();
                let seconds = INIT_TIMEOUT.as_secs();
                Err(InvokeError::Crashed(format!("no request for the first invocation within {seconds} s")))
            }
        }
    }

    /// Runs one invocation until its response or the instance's end.
    pub async fn invoke(&self, payload: &Bytes) -> Outcome {
        let (answer, mut answered) = oneshot::channel();
        let deadline = clock::now() + self.timeout;
        let invocation = Invocation { id: Uuid::new_v4(), payload: payload.clone(), deadline, answer };
        if self.sender.try_send(invocation).is_err() {
            return Outcome::NotDelivered;
        }
        let mut handle = self.handle.clone();
        tokio::select! {
            biased;
            Ok(answer) = &mut answered => Outcome::Answered(answer),
            reason = handle.ended() => match answered.try_recv() {
                Ok(answer) => Outcome::Answered(answer),
                Err(_) if self.api.is_running() => Outcome::Ended(InvokeError::Crashed(reason)),
                Err(_) => Outcome::NotDelivered,
            },
            () = sleep(self.timeout) => {
                handle.kill();
                handle.ended().await;
                Outcome::Ended(InvokeError::TimedOut)
            }
        }
    }

    pub fn is_alive(&self) -> bool {
        self.handle.is_alive()
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Instance {
    /// Kills the instance: without an owner it is unreachable.
    fn drop(&mut self) {
        self.handle.kill();
    }
}

impl Handle {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn is_alive(&self) -> bool {
        self.ended.borrow().is_none()
    }

    pub fn terminate(&self) {
        self.signal(EndSignal::Terminate);
    }

    pub fn kill(&self) {
        self.signal(EndSignal::Kill);
    }

    /// Waits for the end of the process, and kills it after the grace period.
    pub async fn ended_or_killed(mut self) {
        if timeout(TERMINATION_GRACE, self.ended()).await.is_err() {
            self.kill();
            self.ended().await;
        }
    }

    /// Waits for the end of the process and returns the reason.
    async fn ended(&mut self) -> String {
        match self.ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the stack is shutting down".to_owned(),
        }
    }

    fn signal(&self, signal: EndSignal) {
        // The error means that the process has ended, which is the purpose of either signal.
        let _ended = self.signals.send(signal);
    }
}

/// Supervises a process until it ends.
struct Supervisor {
    child: Child,
    pid: u32,
    server: JoinHandle<std::io::Result<()>>,
    signals: mpsc::UnboundedReceiver<EndSignal>,
    api: Arc<RuntimeApi>,
}

impl Supervisor {
    /// Runs until the process ends. Returns the reason: its reported init error, or its exit status and last line.
    async fn run(mut self, settings: &Settings, logs: Arc<CloudWatch>) -> String {
        let last_line = Arc::new(Mutex::new(String::new()));
        let on_line: Arc<dyn Fn(&str) + Send + Sync> = {
            let (last_line, function) = (Arc::clone(&last_line), settings.id.clone());
            let filter = settings.log_filter;
            Arc::new(move |line| {
                if filter.passes(line) {
                    logs.ingest(&function, line);
                }
                line.clone_into(&mut last_line.lock().unwrap_or_else(PoisonError::into_inner));
            })
        };
        let outputs = [
            self.child
                .stdout
                .take()
                .map(|output| tokio::spawn(process::read_lines(output, Arc::clone(&on_line)))),
            self.child.stderr.take().map(|output| tokio::spawn(process::read_lines(output, on_line))),
        ];
        let status = self.wait().await;
        for output in outputs.into_iter().flatten() {
            let _held_open = timeout(OUTPUT_GRACE, output).await;
        }
        self.server.abort();
        if let Some(error) = self.api.init_error() {
            return error;
        }
        match last_line.lock().unwrap_or_else(PoisonError::into_inner).as_str() {
            "" => status,
            line => format!("{status}: {line}"),
        }
    }

    async fn wait(&mut self) -> String {
        loop {
            tokio::select! {
                status = self.child.wait() => {
                    return status.map_or_else(|error| error.to_string(), |status| status.to_string());
                }
                Some(signal) = self.signals.recv() => match signal {
                    EndSignal::Terminate => process::terminate(self.pid),
                    EndSignal::Kill => {
                        // The error means that the process has already ended.
                        let _ended = self.child.start_kill();
                    }
                }
            }
        }
    }
}
