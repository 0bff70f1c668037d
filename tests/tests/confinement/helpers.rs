//! Helpers that end, and an agent that ends without a word.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Home, SOON, all_helpers, pause, skipped};

const QUIET: &str =
    "[[sink]]\nname = \"out\"\nkind = \"stdout\"\n[health]\ncanary_every = \"1s\"\n";

fn end(pid: u32) {
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
}

#[test]
fn a_helper_that_is_killed_is_told_and_comes_back() {
    if skipped() {
        return;
    }
    let home = Home::new(QUIET);
    let agent = home.run();
    let before = all_helpers(agent.pid());
    for name in ["looks", "translations", "processes"] {
        end(before[name]);
        let component = format!("component=\"helper {name}\"");
        let said = format!("DEGRADED {component} reason=it ended (signal: 9 (SIGKILL))");
        agent.wait_for_log(SOON, &said);
        agent.wait_for_log(SOON, &format!("component is OK again {component}"));
        let after = all_helpers(agent.pid());
        assert_ne!(after[name], before[name]);
    }
    home.wait_for_status(|said| said.starts_with("OK") && said.contains("canary"));
    assert!(agent.stop().status.success());
}

#[test]
fn without_who_starts_helpers_the_agent_ends_with_an_error() {
    if skipped() {
        return;
    }
    for name in ["launcher", "keeper"] {
        let home = Home::new(QUIET);
        let agent = home.run();
        end(all_helpers(agent.pid())[name]);
        let ended = agent.wait(SOON);
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let said = ended.stderr.iter().any(|line| line.text.contains(&format!("{name} ended")));
        assert!(said, "{ended:?}");
    }
}

#[test]
fn an_agent_that_is_killed_leaves_no_helper_behind() {
    if skipped() {
        return;
    }
    let home = Home::new(QUIET);
    let agent = home.run();
    let helpers = all_helpers(agent.pid());
    agent.signal(Signal::SIGKILL);
    agent.wait(SOON);
    let is_there = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("helper")
    };
    for _look in 0..25 {
        if !helpers.values().any(is_there) {
            return;
        }
        pause();
    }
    panic!("a helper is left after 5 s: {helpers:?}");
}
