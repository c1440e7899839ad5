//! A function's process: started without the stack's environment, and ended with the stack.
use std::{process::Stdio, sync::Arc};

use nix::{sys::signal::Signal, unistd::Pid};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    process::{Child, Command},
};

use super::settings::Settings;
use processes::end_with_parent;

/// CloudWatch's limit on one log event; longer lines are split.
const LINE_BYTES_MAX: u64 = 256 * 1024;

/// Starts the binary with the template's environment, the address of its Runtime API, and the `extra` variables.
pub(super) fn spawn(
    settings: &Settings,
    runtime_api: &str,
    extra: Vec<(String, String)>,
) -> std::io::Result<Child> {
    let mut command = Command::new(&settings.binary);
    command
        .env_clear()
        .envs(settings.environment.iter().map(|(key, value)| (key, value)))
        .env("AWS_LAMBDA_RUNTIME_API", runtime_api)
        .envs(extra)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    end_with_parent(&mut command, Signal::SIGKILL);
    command.spawn()
}

/// Sends SIGTERM to the process.
pub(super) fn terminate(pid: u32) {
    // The pid is valid: the child has not been waited for. An error means that the process has just ended.
    let _ended = nix::sys::signal::kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
}

/// Passes each line of the output to `on_line` until the process closes it.
pub(super) async fn read_lines(output: impl AsyncRead + Unpin, on_line: Arc<dyn Fn(&str) + Send + Sync>) {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
        on_line(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    #[tokio::test]
    async fn lines_are_split_and_long_ones_cut() {
        let long = "x".repeat(usize::try_from(LINE_BYTES_MAX).unwrap() + 5);
        let output = format!("first\r\n\n{long}\nlast without end");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let on_line = {
            let lines = Arc::clone(&lines);
            Arc::new(move |line: &str| {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
            })
        };
        read_lines(output.as_bytes(), on_line).await;
        let lines = lines.lock().unwrap();
        let lengths: Vec<usize> = lines.iter().map(String::len).collect();
        assert_eq!(lengths, [5, 0, 256 * 1024, 5, 16]);
        assert_eq!((&*lines[0], &*lines[4]), ("first", "last without end"));
    }
}
