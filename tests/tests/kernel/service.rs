//! What the service manager hears.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use sensor_tests::Agent;

use crate::harness::{Home, SOON, START, skipped};

/// The manager's end of the socket.
struct Manager(UnixDatagram);

impl Manager {
    /// Waits for a message that begins so; gives it, and how many signs of life came before it.
    fn hear(&self, limit: Duration, begin: &str) -> Option<(String, usize)> {
        self.0.set_read_timeout(Some(limit)).unwrap();
        let (mut bytes, mut alive) = ([0; 4096], 0);
        loop {
            let length = self.0.recv(&mut bytes).ok()?;
            let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
            if text.starts_with(begin) {
                return Some((text, alive));
            }
            alive += usize::from(text == "WATCHDOG=1");
        }
    }

    /// All that has come.
    fn forget(&self) {
        self.0.set_nonblocking(true).unwrap();
        while self.0.recv(&mut [0; 4096]).is_ok() {}
        self.0.set_nonblocking(false).unwrap();
    }
}

#[test]
fn the_manager_hears_of_start_life_reload_and_end() {
    if skipped() {
        return;
    }
    let home = Home::new("", "");
    let socket = home.path("notify");
    let manager = Manager(UnixDatagram::bind(&socket).unwrap());
    let mut command = home.command(&["run"]);
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "600000");
    let agent = Agent::spawn(command);
    let (ready, early) = manager.hear(START, "READY=1").expect("ready");
    assert!(ready.contains("\nSTATUS=OK: "), "{ready}");
    assert!(early <= 1, "{early}");
    assert!(manager.hear(SOON, "WATCHDOG=1").is_some());
    assert_eq!(manager.hear(SOON, "STATUS=OK: 4 indicators, 0 alerts wait").map(|_| ()), Some(()));

    // Only the thread that turns is stopped; the rest of the agent lives.
    let pipeline = thread(&agent, "pipeline");
    ptrace::seize(pipeline, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(pipeline).unwrap();
    waitpid(pipeline, Some(WaitPidFlag::__WALL)).unwrap();
    manager.forget();
    let sign = manager.hear(Duration::from_millis(300), "WATCHDOG=1");
    let next = manager.hear(Duration::from_secs(2), "WATCHDOG=1");
    assert!(next.is_none(), "one sign may have been on its way ({sign:?}), not two");
    let status = home.command(&["status"]).output().unwrap();
    assert!(status.status.success(), "the rest answers: {status:?}");
    agent.wait_for_log(SOON * 2, "the pipeline does not move");
    ptrace::detach(pipeline, None).unwrap();
    assert!(manager.hear(SOON, "WATCHDOG=1").is_some(), "it moves again");

    agent.signal(Signal::SIGHUP);
    assert!(manager.hear(SOON, "RELOADING=1\nMONOTONIC_USEC=").is_some());
    assert!(manager.hear(SOON, "READY=1\nSTATUS=OK: ").is_some());
    let config = home.path("netsensor.toml");
    std::fs::write(&config, "[no_such_section]\n").unwrap();
    agent.signal(Signal::SIGHUP);
    assert!(manager.hear(SOON, "READY=1").is_some(), "the old configuration goes on");
    let (status, _) = manager.hear(SOON, "STATUS=DEGRADED: configuration: ").expect("the reason");
    assert!(status.contains("no_such_section"), "{status}");
    assert!(agent.stop().status.success());
    assert!(manager.hear(SOON, "STOPPING=1\nEXTEND_TIMEOUT_USEC=").is_some());
}

/// The agent's thread of that name.
fn thread(agent: &Agent, name: &str) -> Pid {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let named = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let path = tasks.find(named).unwrap_or_else(|| panic!("no thread {name}"));
    Pid::from_raw(path.file_name().unwrap().to_str().unwrap().parse().unwrap())
}
