//! Stops one thread of a process from outside, and nothing else of it.

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// A thread that does not run until this is dropped. To be used on the thread that made it.
#[derive(Debug)]
pub(super) struct Stall {
    thread: Pid,
    is_over: bool,
}

impl Stall {
    /// Stops the thread `name` of process `pid`.
    pub(super) fn begin(pid: i32, name: &str) -> Self {
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
        Self { thread, is_over: false }
    }

    /// Whether it has ended meanwhile. Must be asked: a traced thread that was killed is there, and
    /// holds its process, until its tracer has looked.
    pub(super) fn is_over(&mut self) -> bool {
        use nix::sys::wait::WaitStatus::{Exited, PtraceEvent, Signaled, StillAlive, Stopped};
        if !self.is_over {
            let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
            self.is_over = match waitpid(self.thread, Some(flags)) {
                Ok(StillAlive | PtraceEvent(..)) => false,
                Ok(Stopped(..)) => false,
                Ok(Exited(..) | Signaled(..)) | Err(_) => true,
                Ok(_) => false,
            };
        }
        self.is_over
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        if !self.is_over() {
            let _gone = ptrace::detach(self.thread, None::<Signal>);
        }
    }
}
