//! The canary, and health records when the probes fall silent.

use std::process::{Command, Output};
use std::time::Duration;

use sensor_tests::{
    Agent, CAN_REPLACE_FD, FeedServer, Netns, replace_fd, run, skip_unless, tracepoint_link_fd,
};
use serde_json::Value;

use crate::harness::{Home, SOON, Server, V4, peer, skipped, text};

/// A configuration with a canary per second, and rows with health records in the file `rows`.
fn home(more: &str) -> (Home, std::path::PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows");
    let sinks = format!(
        "{more}\n[health]\ncanary_interval = \"1s\"\n\
         [[sink]]\nname = \"rows\"\nkind = \"file\"\npath = \"{}\"\ntakes = [\"rows\"]\n\
         [[sink]]\nname = \"out\"\nkind = \"stdout\"\n",
        rows.display()
    );
    (Home::new("", &sinks), rows, folder)
}

fn status(home: &Home, more: &[&str]) -> Output {
    home.command(&[&["status"], more].concat()).output().unwrap()
}

/// Polls `netsensor status` until it fits; returns its output with all white space collapsed.
fn wait_for_status(home: &Home, fits: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    for _attempt in 0..150 {
        let output = status(home, &[]);
        // Long lines are wrapped between words.
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        text = words.split_whitespace().collect::<Vec<_>>().join(" ");
        if fits(&text) {
            let degraded = text.starts_with("DEGRADED");
            assert_eq!(output.status.code(), Some(i32::from(degraded)), "{text}");
            return text;
        }
        run(Command::new("sleep").arg("0.2"));
    }
    panic!("not within 30 s: {text}");
}

/// Closes the link of a tracepoint without the agent's knowledge.
fn silence(agent: &Agent, tracepoint: &str) {
    replace_fd(agent.pid(), tracepoint_link_fd(agent.pid(), tracepoint));
}

#[test]
fn a_hook_that_falls_silent_is_reported_by_name() {
    if skipped() || skip_unless(CAN_REPLACE_FD, "it writes the registers of x86_64") {
        return;
    }
    let (home, rows, _folder) = home("");
    let agent = home.run();
    let healthy =
        wait_for_status(&home, |text| text.starts_with("OK") && text.contains("canary seen "));
    for part in ["tp_btf inet_sock_set_state", "raw tracepoint sched_process_exec"] {
        assert!(healthy.contains(part), "{healthy}");
    }
    // Processes first: without the state changes, the accepting process is unknown.
    for (tracepoint, hook) in [
        ("sched_process_exit", "raw tracepoint sched_process_exit"),
        ("sched_process_exec", "raw tracepoint sched_process_exec"),
        ("sock_recv_length", "raw tracepoint sock_recv_length"),
        ("inet_sock_set_state", "tp_btf inet_sock_set_state"),
    ] {
        if !healthy.contains(hook) {
            continue;
        }
        silence(&agent, tracepoint);
        let degraded = format!("component={hook:?} reason={hook}: no event of the canary since 20");
        agent.wait_for_log(SOON * 3, &degraded);
        let line = format!("{hook}: no event of the canary since ");
        let view = wait_for_status(&home, |text| text.contains(&line));
        assert!(view.starts_with("DEGRADED"), "{view}");
    }
    let json = status(&home, &["--json"]);
    assert_eq!(json.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(report["State"], "DEGRADED");
    assert_eq!(report["ProcessId"], agent.pid());
    assert!(report["Counters"]["records_received"].as_u64().unwrap() > 0, "{report}");
    assert!(agent.stop().status.success());

    let written = std::fs::read_to_string(rows).unwrap();
    let lines = written.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let records: Vec<Value> =
        lines.filter(|line| text(line, "Type") == "NetsensorHealth").collect();
    let of = |hook: &str| records.iter().filter(|it| text(it, "Component") == hook).count();
    assert_eq!(of("tp_btf inet_sock_set_state"), 1, "{records:?}");
    assert_eq!(of("raw tracepoint sched_process_exec"), 1, "{records:?}");
    assert!(records.iter().all(|it| text(it, "AgentState") == "DEGRADED"), "{records:?}");
    // No agent responds any more.
    let output = status(&home, &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("no agent responds at "), "{text}");
}

#[test]
fn canary_connections_are_not_reported_but_other_agent_traffic_is() {
    if skipped() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let server = runtime.block_on(FeedServer::start());
    server.serve("", b"203.0.113.7\n");
    let url = server.url();
    let port: u16 = url.rsplit(':').next().unwrap().split('/').next().unwrap().parse().unwrap();
    let feed =
        format!("[[feed]]\nname = \"web\"\nkind = \"list\"\nurl = \"{url}\"\ninterval = \"1s\"\n");
    let (home, rows, _folder) = home(&feed);
    let agent = home.run();
    wait_for_status(&home, |text| text.contains("canary seen "));
    // Several more canaries.
    run(Command::new("sleep").arg("3"));
    let pid = agent.pid();
    assert!(agent.stop().status.success());
    let written = std::fs::read_to_string(rows).unwrap();
    let lines: Vec<Value> =
        written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let own: Vec<&Value> = lines
        .iter()
        .filter(|row| text(row, "Type") == "VMConnection" && row["ProcessId"] == pid)
        .collect();
    let ports: std::collections::BTreeSet<u64> =
        own.iter().map(|row| row["DestinationPort"].as_u64().unwrap()).collect();
    assert_eq!(ports, std::collections::BTreeSet::from([u64::from(port)]), "{own:?}");
    assert!(!lines.iter().any(|line| text(line, "Type") == "NetsensorHealth"), "{lines:?}");
}

#[test]
fn a_failing_feed_degrades_the_agent() {
    if skipped() {
        return;
    }
    let dead = "[[feed]]\nname = \"dead\"\nkind = \"list\"\nurl = \"http://127.0.0.1:9/list\"\n";
    let (home, _, _folder) = home(dead);
    let agent = home.run();
    let view = wait_for_status(&home, |text| text.contains("feed dead since "));
    assert!(view.starts_with("DEGRADED"), "{view}");
    assert!(view.contains("no response") && view.contains("Connection refused"), "{view}");
    assert!(agent.stop().status.success());
}

#[test]
fn a_canary_that_cannot_connect_does_not_blame_the_probes() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[]);
    run(netns.command("ip").args(["link", "set", "lo", "down"]));
    let (home, _, _folder) = home("");
    let agent = Agent::spawn(netns.wrap_command(&home.command(&["run"])));
    let view = wait_for_status(&home, |text| text.starts_with("DEGRADED"));
    assert!(view.contains("canary since ") && view.contains("127.78.83.67: "), "{view}");
    assert!(!view.contains("no event"), "{view}");
    run(netns.command("ip").args(["link", "set", "lo", "up"]));
    wait_for_status(&home, |text| text.starts_with("OK"));
    agent.wait_for_log(Duration::from_secs(5), "component is OK again component=\"canary\"");
    assert!(agent.stop().status.success());
}

#[test]
fn real_traffic_is_recorded_while_canaries_run() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let (_server, port) = Server::peer(&netns, V4);
    let (home, rows, _folder) = home("");
    let agent = home.run();
    run(netns.command(peer()).args(["connect", &format!("{V4}:{port}"), "50"]));
    agent.wait_for_alert(SOON, |alert| text(alert, "RemoteIp") == V4);
    wait_for_status(&home, |text| text.starts_with("OK"));
    assert!(agent.stop().status.success());
    let written = std::fs::read_to_string(rows).unwrap();
    let lines = written.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let own =
        lines.filter(|row| row["DestinationPort"] == port && text(row, "Direction") == "outbound");
    let links: u64 = own.map(|row| row["LinksEstablished"].as_u64().unwrap()).sum();
    assert_eq!(links, 50);
}

/// The kernel reports pids of the initial pid namespace. In its own pid namespace the agent sees a
/// different pid for itself, and learns the real one from the canary.
#[test]
fn agent_traffic_in_a_pid_namespace_does_not_alert() {
    if skipped() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let server = runtime.block_on(FeedServer::start());
    server.serve("", b"127.0.0.1\n");
    let url = server.url();
    let feed = format!(
        "[[feed]]\nname = \"web\"\nkind = \"list\"\nurl = \"{url}\"\ninterval = \"1s\"\n\
         allow_private = true\n"
    );
    let (home, _rows, _folder) = home(&feed);
    let inside = home.command(&["run"]);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child"]).arg(inside.get_program());
    command.args(inside.get_args());
    for (name, value) in inside.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let agent = Agent::spawn(command);
    wait_for_status(&home, |text| text.contains("canary seen "));
    let suppressed = || {
        let json = status(&home, &["--json"]);
        let report: Value = serde_json::from_slice(&json.stdout).unwrap();
        report["Counters"]["hits_suppressed_own_traffic"].as_u64().unwrap()
    };
    let before = suppressed();
    run(Command::new("sleep").arg("3"));
    let after = suppressed();
    assert!(after >= before + 2, "{before} suppressed, then {after}");
    drop(agent);
}

#[test]
fn the_canary_of_another_agent_is_in_no_row() {
    if skipped() {
        return;
    }
    let (own, rows, _folder) = home("");
    let (other, other_rows, _other_folder) = home("");
    let agents = [own.run(), other.run()];
    let netns = Netns::new(&[V4]);
    let (_server, port) = Server::peer(&netns, V4);
    run(netns.command(peer()).args(["try", &format!("{V4}:{port}")]));
    run(Command::new("sleep").arg("3"));
    for agent in agents {
        assert!(agent.stop().status.success());
    }
    for file in [rows, other_rows] {
        let rows = std::fs::read_to_string(file).unwrap();
        let rows: Vec<Value> =
            rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(rows.iter().any(|row| row["RemoteIp"] == V4), "{rows:#?}");
        let canaries = rows.iter().filter(|row| row["ProcessName"] == "netsensor");
        assert_eq!(canaries.count(), 0, "{rows:#?}");
    }
}
