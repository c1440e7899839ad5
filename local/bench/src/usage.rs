//! CPU time and memory of processes, from `/proc`. All figures are 0 on systems other than Linux.
use std::{fs, ops::Sub};

use serde::Serialize;

use processes::{memory, with_children};

/// The unit of `/proc/<pid>/stat`: USER_HZ is 100 on every architecture Rust's standard library runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Fields of `/proc/<pid>/stat` after the closing bracket of the name: proc_pid_stat(5).
const UTIME: usize = 11;
const STIME: usize = 12;
const CUTIME: usize = 13;
const CSTIME: usize = 14;

/// User and system CPU-seconds by consumer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// The server with all its processes.
    pub postgres: f64,
    /// The Redis server.
    pub redis: f64,
    /// All instances of the function; for the floor, the client.
    pub function: f64,
    /// The emulator: queue, event source mapping, Runtime API.
    pub stand_in: f64,
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            postgres: self.postgres - before.postgres,
            redis: self.redis - before.redis,
            function: self.function - before.function,
            stand_in: self.stand_in - before.stand_in,
        }
    }
}

/// The stores' processes.
#[derive(Debug, Clone, Copy)]
pub struct Servers {
    /// The postmaster.
    pub postgres: u32,
    /// Redis or Valkey.
    pub redis: u32,
}

impl Servers {
    /// Returns the CPU time used so far. `functions` are the instances' process ids.
    pub fn cpu(self, functions: &[u32]) -> Cpu {
        // The postmaster's times include those of ended connections; open ones are added here.
        let [own, ended] = times(self.postgres);
        let live: f64 = with_children(self.postgres).iter().skip(1).map(|pid| times(*pid)[0]).sum();
        Cpu {
            postgres: own + ended + live,
            redis: times(self.redis)[0],
            function: functions.iter().map(|pid| times(*pid)[0]).sum(),
            stand_in: times(std::process::id())[0],
        }
    }
}

/// Returns the CPU-seconds of this process's ended children.
pub fn ended_children() -> f64 {
    times(std::process::id())[1]
}

/// A process of a stack.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// The program's name; of a function, the folder of its bootstrap.
    pub name: String,
    /// CPU-seconds used so far; of a server, with its children.
    pub cpu_seconds: f64,
    /// Peak resident memory of the process itself.
    pub memory_peak_bytes: u64,
}

/// Returns a stack's process and those of its servers and instances.
pub fn processes(stack: u32) -> Vec<Process> {
    let process = |pid: u32| {
        let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let function =
            program.ends_with("bootstrap").then(|| program.parent()?.file_name()?.to_str()).flatten();
        // The program may be a link to a file with another name.
        let command_name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let children = with_children(pid).into_iter().skip(1).map(|child| times(child)[0]);
        // The stack's children are listed separately.
        let children = if pid == stack { 0.0 } else { times(pid)[1] + children.sum::<f64>() };
        Some(Process {
            name: function.unwrap_or(command_name.trim()).to_owned(),
            cpu_seconds: times(pid)[0] + children,
            memory_peak_bytes: memory(pid)?.1,
        })
    };
    with_children(stack).into_iter().filter_map(process).collect()
}

/// Returns the CPU-seconds of a process and of its ended children.
fn times(pid: u32) -> [f64; 2] {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    parse(&stat).unwrap_or_default()
}

fn parse(stat: &str) -> Option<[f64; 2]> {
    // The name may contain anything, even brackets.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some([
        (ticks(UTIME)? + ticks(STIME)?) / TICKS_PER_SECOND,
        (ticks(CUTIME)? + ticks(CSTIME)?) / TICKS_PER_SECOND,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_moves_no_field() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 25 75 20 0 1 0 5 1000 100";
        assert_eq!(parse(stat), Some([2.0, 1.0]));
        assert_eq!(parse(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_times() {
        assert!(fs::read_to_string("/proc/self/stat").is_ok_and(|stat| parse(&stat).is_some()));
    }
}
