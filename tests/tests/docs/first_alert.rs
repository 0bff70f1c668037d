//! The first alert of the quick start, with the kernel and as root.

use std::process::Command;
use std::time::Duration;

use sensor_tests::{Agent, skip_unless};

use super::blocks::{example_directory, shell, shell_output};
use super::markdown::document;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn the_quick_start_gives_two_alerts() {
    let is_root = nix::unistd::geteuid().is_root();
    if skip_unless(is_root, "loading BPF programs needs root") {
        return;
    }
    let has_all = ["ip", "nsenter", "curl"].into_iter().all(|name| {
        Command::new("which").arg(name).output().is_ok_and(|output| output.status.success())
    });
    if skip_unless(has_all, "the quick start uses ip, nsenter and curl") {
        return;
    }
    let blocks = document("docs/quickstart.md").blocks();
    let step = |name: &str| {
        let comment = format!("terminal: {name}");
        blocks.iter().find(|block| block.comment == comment).unwrap().text.clone()
    };
    let folder = example_directory();
    // Removes the remains of an interrupted run.
    shell_output(folder.path(), &step("clean up"));
    let agent = Agent::spawn(shell(folder.path(), &format!("exec {}", step("first").trim())));
    agent.wait_for_log(LIMIT, "state: ");
    let output = shell_output(folder.path(), &step("second"));
    for prefix in ["203.0.113.7/32", "203.0.113.0/28"] {
        let line = agent.wait_for_log(LIMIT, &format!("matches {prefix}")).text;
        assert!(line.contains(" ALERT outbound curl["), "{line}; {output}");
    }
    agent.stop();
    shell_output(folder.path(), &step("clean up"));
    let alerts = std::fs::read_to_string(folder.path().join("alerts.jsonl")).unwrap();
    assert_eq!(alerts.lines().count(), 2, "{alerts}");
}
