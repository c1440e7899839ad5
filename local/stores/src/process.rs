//! Server processes that end with this process.
use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use processes::end_with_parent;

/// A fast shutdown writes a checkpoint: seconds on a slow disk.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A server process.
#[derive(Debug)]
pub struct Server {
    /// Name for messages and metrics.
    pub name: &'static str,
    /// Process id, valid while the process runs.
    pub pid: u32,
    child: Child,
    command: Command,
    stop_signal: Signal,
    log: PathBuf,
}

impl Server {
    /// Starts the command with its output in `log`.
    ///
    /// # Errors
    /// The command cannot be started.
    pub fn spawn(name: &'static str, mut command: Command, stop_signal: Signal, log: &Path) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("{} cannot be written", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // Ctrl-C signals the terminal's whole process group; this server must run until the queues are drained.
        command.process_group(0);
        end_with_parent(&mut command, stop_signal);
        command.kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        let pid = child.id().unwrap_or_default();
        Ok(Self { name, pid, child, command, stop_signal, log: log.to_owned() })
    }

    /// Restarts the ended process with the same command, and appends to the same log.
    ///
    /// # Errors
    /// The command cannot be started.
    pub fn start_again(&mut self) -> Result<()> {
        self.child = self.command.spawn().with_context(|| format!("{} cannot be started", self.name))?;
        self.pid = self.child.id().unwrap_or_default();
        Ok(())
    }

    /// Kills the process by SIGKILL and waits for its end. Its children may outlive it for a moment.
    pub async fn kill(&mut self) {
        // An error means that the process has just ended by itself.
        let _ = self.child.kill().await;
    }

    /// Returns the exit status and the log's last line once the process has ended.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output").trim();
        Some(format!("{} ended ({status}): {last} (log: {})", self.name, self.log.display()))
    }

    /// Sends the stop signal and waits; kills the process after 30 s.
    pub async fn stop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // An error means that the process has just ended by itself.
            let _ = kill(Pid::from_raw(self.pid.cast_signed()), self.stop_signal);
        }
        if tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// Returns the first of these programs that is installed.
pub fn find_program(names: &[&str]) -> Option<PathBuf> {
    const HOMEBREW: [&str; 2] = ["/opt/homebrew/bin", "/usr/local/bin"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(HOMEBREW.map(PathBuf::from)).collect();
    names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file()))
}

/// Returns the command that installs a package with this system's package manager. `packages` are the names in
/// Debian, Fedora, Alpine, Arch and Homebrew.
pub fn install_hint(packages: [&str; 5]) -> String {
    let managers =
        ["apt-get install", "dnf install", "apk add", "pacman -S", "brew install"].into_iter().zip(packages);
    let found = managers.into_iter().find(|(manager, _)| {
        let program = manager.split(' ').next().unwrap_or_default();
        find_program(&[program]).is_some()
    });
    match found {
        Some((manager, package)) if manager.starts_with("brew") => format!("{manager} {package}"),
        Some((manager, package)) => format!("sudo {manager} {package}"),
        None => "your package manager".to_owned(),
    }
}

/// Ports below those that Linux and macOS give to clients and to listeners on port 0.
const PORTS: std::ops::Range<u16> = 20_000..32_768;

/// Returns a port that is free now. It stays free until a server binds it, unless another program chooses a port from
/// this range at random in the same moment.
pub(super) fn free_port() -> Result<u16> {
    let count = PORTS.end - PORTS.start;
    let first = (uuid::Uuid::new_v4().as_u128() % u128::from(count)) as u16;
    let mut candidates = (0..count).map(|step| PORTS.start + (first + step) % count);
    let free = candidates.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.with_context(|| format!("no port of 127.0.0.1 from {} to {} is free", PORTS.start, PORTS.end - 1))
}
