//! Workers that are killed, and an agent that is killed.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Home, SOON, all_workers, pause, skipped};

const CONFIG: &str =
    "[[sink]]\nname = \"out\"\nkind = \"stdout\"\n[health]\ncanary_interval = \"1s\"\n";

fn kill_process(pid: u32) {
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
}

#[test]
fn a_killed_worker_is_reported_and_restarted() {
    if skipped() {
        return;
    }
    let home = Home::new(CONFIG);
    let agent = home.run();
    let before = all_workers(agent.pid());
    for name in ["socket-scan", "nat", "proc"] {
        kill_process(before[name]);
        let component = format!("component=\"worker {name}\"");
        let message = format!("DEGRADED {component} reason=exited (signal: 9 (SIGKILL))");
        agent.wait_for_log(SOON, &message);
        agent.wait_for_log(SOON, &format!("component is OK again {component}"));
        let after = all_workers(agent.pid());
        assert_ne!(after[name], before[name]);
    }
    home.wait_for_status(|text| text.starts_with("OK") && text.contains("canary"));
    assert!(agent.stop().status.success());
}

#[test]
fn without_its_launcher_or_supervisor_the_agent_exits_with_an_error() {
    if skipped() {
        return;
    }
    for name in ["launcher", "supervisor"] {
        let home = Home::new(CONFIG);
        let agent = home.run();
        kill_process(all_workers(agent.pid())[name]);
        let ended = agent.wait(SOON);
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let named =
            ended.stderr.iter().any(|line| line.text.contains(&format!("worker {name}: exited")));
        assert!(named, "{ended:?}");
    }
}

#[test]
fn a_killed_agent_leaves_no_worker_behind() {
    if skipped() {
        return;
    }
    let home = Home::new(CONFIG);
    let agent = home.run();
    let workers = all_workers(agent.pid());
    agent.signal(Signal::SIGKILL);
    agent.wait(SOON);
    let is_running = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("\0worker\0")
    };
    for _attempt in 0..25 {
        if !workers.values().any(is_running) {
            return;
        }
        pause();
    }
    panic!("a worker is left after 5 s: {workers:?}");
}
