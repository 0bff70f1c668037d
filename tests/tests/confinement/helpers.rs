//! Helpers that are killed, and an agent that is killed.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Home, SOON, all_helpers, pause, skipped};

const CONFIG: &str =
    "[[sink]]\nname = \"out\"\nkind = \"stdout\"\n[health]\ncanary_every = \"1s\"\n";

fn kill_process(pid: u32) {
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
}

#[test]
fn a_killed_helper_is_reported_and_restarted() {
    if skipped() {
        return;
    }
    let home = Home::new(CONFIG);
    let agent = home.run();
    let before = all_helpers(agent.pid());
    for name in ["looks", "translations", "processes"] {
        kill_process(before[name]);
        let component = format!("component=\"helper {name}\"");
        let message = format!("DEGRADED {component} reason=it ended (signal: 9 (SIGKILL))");
        agent.wait_for_log(SOON, &message);
        agent.wait_for_log(SOON, &format!("component is OK again {component}"));
        let after = all_helpers(agent.pid());
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
    for name in ["launcher", "keeper"] {
        let home = Home::new(CONFIG);
        let agent = home.run();
        kill_process(all_helpers(agent.pid())[name]);
        let ended = agent.wait(SOON);
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let named = ended.stderr.iter().any(|line| line.text.contains(&format!("{name} ended")));
        assert!(named, "{ended:?}");
    }
}

#[test]
fn a_killed_agent_leaves_no_helper_behind() {
    if skipped() {
        return;
    }
    let home = Home::new(CONFIG);
    let agent = home.run();
    let helpers = all_helpers(agent.pid());
    agent.signal(Signal::SIGKILL);
    agent.wait(SOON);
    let is_running = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("helper")
    };
    for _attempt in 0..25 {
        if !helpers.values().any(is_running) {
            return;
        }
        pause();
    }
    panic!("a helper is left after 5 s: {helpers:?}");
}
