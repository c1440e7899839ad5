//! Child processes that end with their parent, and the memory use of processes.

use std::fs;

use nix::sys::signal::Signal;
use tokio::process::Command;

/// Makes the kernel signal the child when the spawning thread ends (`PR_SET_PDEATHSIG`). That thread must live as
/// long as the process: the main thread or a worker of the runtime.
#[cfg(target_os = "linux")]
pub fn end_with_parent(command: &mut Command, signal: Signal) {
    let parent = nix::unistd::getpid();
    let in_child = move || {
        nix::sys::prctl::set_pdeathsig(signal)?;
        // The parent may have ended between fork and the line above: then no signal comes.
        if nix::unistd::getppid() != parent {
            return Err(nix::errno::Errno::ESRCH.into());
        }
        Ok(())
    };
    #[expect(unsafe_code, reason = "runs between fork and exec: two system calls, no allocation, no lock")]
    unsafe {
        command.pre_exec(in_child);
    }
}

/// Does nothing: on other systems a function ends when its Runtime API is gone, and the next start stops leftover
/// servers.
#[cfg(not(target_os = "linux"))]
pub fn end_with_parent(_: &mut Command, _: Signal) {}

/// Returns a process's current and peak resident memory in bytes; `None` where `/proc` does not tell.
pub fn memory(pid: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kibibytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()
    };
    Some((kibibytes("VmRSS:")? * 1024, kibibytes("VmHWM:")? * 1024))
}

/// Returns a process and its direct children: PostgreSQL has one for each connection. Without `/proc`, returns only
/// the process.
pub fn with_children(pid: u32) -> Vec<u32> {
    // Each thread lists only the children that it started.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let children: String = children.collect();
    std::iter::once(pid)
        .chain(children.split_ascii_whitespace().filter_map(|child| child.parse().ok()))
        .collect()
}
