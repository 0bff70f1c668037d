//! Messages to the service manager (sd_notify).

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use sensor_tests::Agent;

use crate::harness::{Home, SOON, START, skipped};

/// Number of keep-alives after which an expected message is missing: those of 30 s.
const ALIVE_MAX: usize = 100;

/// The service manager's end of the notification socket.
struct Manager(UnixDatagram);

impl Manager {
    /// Waits for a message with this prefix; returns it, and the number of keep-alives before it.
    fn receive(&self, limit: Duration, prefix: &str) -> Option<(String, usize)> {
        self.0.set_read_timeout(Some(limit)).unwrap();
        let (mut bytes, mut alive) = ([0; 4096], 0);
        loop {
            let length = self.0.recv(&mut bytes).ok()?;
            let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
            if text.starts_with(prefix) {
                return Some((text, alive));
            }
            alive += usize::from(text == "WATCHDOG=1");
            // Keep-alives come every 300 ms, so that the socket alone never times out.
            if alive > ALIVE_MAX {
                return None;
            }
        }
    }

    /// Discards all pending messages.
    fn discard_pending(&self) {
        self.0.set_nonblocking(true).unwrap();
        while self.0.recv(&mut [0; 4096]).is_ok() {}
        self.0.set_nonblocking(false).unwrap();
    }
}

#[test]
fn the_service_manager_is_notified_of_start_keepalive_reload_and_stop() {
    if skipped() {
        return;
    }
    let home = Home::new("", "");
    let socket = home.path("notify");
    let manager = Manager(UnixDatagram::bind(&socket).unwrap());
    let mut command = home.command(&["run"]);
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "600000");
    let agent = Agent::spawn(command);
    let (ready, early) = manager.receive(START, "READY=1").expect("ready");
    assert!(ready.contains("\nSTATUS=OK: "), "{ready}");
    assert!(early <= 1, "{early}");
    assert!(manager.receive(SOON, "WATCHDOG=1").is_some());
    assert_eq!(
        manager.receive(SOON, "STATUS=OK: 4 indicators, 0 alerts wait").map(|_| ()),
        Some(())
    );

    // Only the pipeline thread is stopped; the rest of the agent runs.
    let pipeline = thread(&agent, "pipeline");
    let stopped = StoppedThread::new(pipeline);
    manager.discard_pending();
    let pending = manager.receive(Duration::from_millis(300), "WATCHDOG=1");
    let next = manager.receive(Duration::from_secs(2), "WATCHDOG=1");
    assert!(next.is_none(), "one keep-alive may have been pending ({pending:?}), not two");
    let status = home.command(&["status"]).output().unwrap();
    assert!(status.status.success(), "the rest responds: {status:?}");
    agent.wait_for_log(SOON * 2, "the pipeline thread has stalled");
    drop(stopped);
    assert!(manager.receive(SOON, "WATCHDOG=1").is_some(), "it runs again");

    agent.signal(Signal::SIGHUP);
    assert!(manager.receive(SOON, "RELOADING=1\nMONOTONIC_USEC=").is_some());
    assert!(manager.receive(SOON, "READY=1\nSTATUS=OK: ").is_some());
    let config = home.path("netsensor.toml");
    std::fs::write(&config, "[no_such_section]\n").unwrap();
    agent.signal(Signal::SIGHUP);
    assert!(manager.receive(SOON, "READY=1").is_some(), "the old configuration stays");
    let (status, _) =
        manager.receive(SOON, "STATUS=DEGRADED: configuration: ").expect("the reason");
    assert!(status.contains("no_such_section"), "{status}");
    assert!(agent.stop().status.success());
    assert!(manager.receive(SOON, "STOPPING=1\nEXTEND_TIMEOUT_USEC=").is_some());
}

/// A thread that does not run until this is dropped. A failed test must drop it too: a killed process
/// cannot be waited for while one of its threads is traced.
struct StoppedThread(Pid);

impl StoppedThread {
    fn new(thread: Pid) -> Self {
        ptrace::seize(thread, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(thread).unwrap();
        waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        Self(thread)
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        // It fails only if the thread has ended.
        let _ended = ptrace::detach(self.0, None);
    }
}

/// The agent's thread with this name.
fn thread(agent: &Agent, name: &str) -> Pid {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let named = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let path = tasks.find(named).unwrap_or_else(|| panic!("no thread {name}"));
    Pid::from_raw(path.file_name().unwrap().to_str().unwrap().parse().unwrap())
}
