//! Stops one thread of a process with ptrace; the other threads run.

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// A thread that is stopped until this is dropped. For use on the thread that created it.
#[derive(Debug)]
pub(super) struct Stall {
    thread: Pid,
    has_ended: bool,
}

impl Stall {
    /// Stops the thread `name` of process `pid`.
    pub(super) fn start(pid: i32, name: &str) -> Self {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let thread = threads.map(|it| it.path()).find(|thread| {
            let named = std::fs::read_to_string(thread.join("comm")).unwrap_or_default();
            named.trim_end() == name
        });
        let thread = thread.unwrap_or_else(|| panic!("process {pid} has no thread {name}"));
        let thread = thread.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let thread = Pid::from_raw(thread);
        ptrace::attach(thread).unwrap();
        waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        Self { thread, has_ended: false }
    }

    /// True if the thread has ended meanwhile. Must be polled: a killed traced thread remains, and
    /// blocks the exit of its process, until its tracer waits for it.
    pub(super) fn has_ended(&mut self) -> bool {
        use nix::sys::wait::WaitStatus::{Exited, PtraceEvent, Signaled, StillAlive, Stopped};
        if !self.has_ended {
            let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
            self.has_ended = match waitpid(self.thread, Some(flags)) {
                Ok(StillAlive | PtraceEvent(..)) => false,
                Ok(Stopped(..)) => false,
                Ok(Exited(..) | Signaled(..)) | Err(_) => true,
                Ok(_) => false,
            };
        }
        self.has_ended
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        if !self.has_ended() {
            let _gone = ptrace::detach(self.thread, None::<Signal>);
        }
    }
}
