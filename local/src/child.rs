//! Child processes that live no longer than the stack, however it ends: one that was killed cannot tidy up.
use nix::sys::signal::Signal;
use tokio::process::Command;

/// Has the kernel signal the child when the thread that starts it ends. That must be a thread which lasts as long as
/// the process: the main one or a worker of the runtime.
#[cfg(target_os = "linux")]
pub(crate) fn end_with_parent(command: &mut Command, signal: Signal) {
    let parent = nix::unistd::getpid();
    let in_child = move || {
        nix::sys::prctl::set_pdeathsig(signal)?;
        // The stack may have ended between fork and the line above: then no signal comes any more.
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

/// Elsewhere a function ends by itself when its Runtime API is gone, and the next start stops the servers it finds.
#[cfg(not(target_os = "linux"))]
pub(crate) fn end_with_parent(_: &mut Command, _: Signal) {}
