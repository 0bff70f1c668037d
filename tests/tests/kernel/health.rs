//! The canary, and what is said when the probes fall silent.

use std::process::{Command, Output};
use std::time::Duration;

use sensor_tests::{
    Agent, CAN_LOSE_FD, FeedServer, Netns, lose_fd, run, skip_unless, tracepoint_link,
};
use serde_json::Value;

use crate::harness::{Home, SOON, Server, V4, peer, skipped, text};

/// A canary a second, and rows with notices to `rows` in the home.
fn home(more: &str) -> (Home, std::path::PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows");
    let sinks = format!(
        "{more}\n[health]\ncanary_every = \"1s\"\n\
         [[sink]]\nname = \"rows\"\nkind = \"file\"\npath = \"{}\"\ntakes = [\"rows\"]\n\
         [[sink]]\nname = \"out\"\nkind = \"stdout\"\n",
        rows.display()
    );
    (Home::new("", &sinks), rows, folder)
}

fn status(home: &Home, more: &[&str]) -> Output {
    home.command(&[&["status"], more].concat()).output().unwrap()
}

/// Asks until the state fits; the screen then.
fn wait_for_status(home: &Home, fits: impl Fn(&str) -> bool) -> String {
    let mut said = String::new();
    for _look in 0..150 {
        let output = status(home, &[]);
        // A line that is too long is broken between words.
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        said = words.split_whitespace().collect::<Vec<_>>().join(" ");
        if fits(&said) {
            let degraded = said.starts_with("DEGRADED");
            assert_eq!(output.status.code(), Some(i32::from(degraded)), "{said}");
            return said;
        }
        run(Command::new("sleep").arg("0.2"));
    }
    panic!("not within 30 s: {said}");
}

/// Makes the agent lose a hook behind its back.
fn silence(agent: &Agent, tracepoint: &str) {
    lose_fd(agent.pid(), tracepoint_link(agent.pid(), tracepoint));
}

#[test]
fn a_hook_that_falls_silent_behind_the_agents_back_is_named() {
    if skipped() || skip_unless(CAN_LOSE_FD, "it writes the registers of x86_64") {
        return;
    }
    let (home, rows, _folder) = home("");
    let agent = home.run();
    let well =
        wait_for_status(&home, |said| said.starts_with("OK") && said.contains("canary seen "));
    for part in ["tp_btf inet_sock_set_state", "raw tracepoint sched_process_exec"] {
        assert!(well.contains(part), "{well}");
    }
    // Processes first: without the state changes nothing is known of who accepts.
    for (tracepoint, hook) in [
        ("sched_process_exit", "raw tracepoint sched_process_exit"),
        ("sched_process_exec", "raw tracepoint sched_process_exec"),
        ("sock_recv_length", "raw tracepoint sock_recv_length"),
        ("inet_sock_set_state", "tp_btf inet_sock_set_state"),
    ] {
        if !well.contains(hook) {
            continue;
        }
        silence(&agent, tracepoint);
        let said = format!("component={hook:?} reason={hook}: no event of the canary since 20");
        agent.wait_for_log(SOON * 3, &said);
        let line = format!("{hook}: no event of the canary since ");
        let screen = wait_for_status(&home, |said| said.contains(&line));
        assert!(screen.starts_with("DEGRADED"), "{screen}");
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
    let told: Vec<Value> = lines.filter(|line| text(line, "Type") == "NetsensorHealth").collect();
    let of = |hook: &str| told.iter().filter(|it| text(it, "Component") == hook).count();
    assert_eq!(of("tp_btf inet_sock_set_state"), 1, "{told:?}");
    assert_eq!(of("raw tracepoint sched_process_exec"), 1, "{told:?}");
    assert!(told.iter().all(|it| text(it, "AgentState") == "DEGRADED"), "{told:?}");
    // Nobody answers any more.
    let output = status(&home, &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no agent answers at "), "{said}");
}

#[test]
fn the_canary_is_told_to_nobody_and_all_else_of_the_agent_is() {
    if skipped() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let server = runtime.block_on(FeedServer::start());
    server.answer("", b"203.0.113.7\n");
    let url = server.url();
    let port: u16 = url.rsplit(':').next().unwrap().split('/').next().unwrap().parse().unwrap();
    let feed =
        format!("[[feed]]\nname = \"web\"\nkind = \"list\"\nurl = \"{url}\"\ninterval = \"1s\"\n");
    let (home, rows, _folder) = home(&feed);
    let agent = home.run();
    wait_for_status(&home, |said| said.contains("canary seen "));
    // Some more of them.
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
fn a_feed_that_fails_degrades_the_agent() {
    if skipped() {
        return;
    }
    let dead = "[[feed]]\nname = \"dead\"\nkind = \"list\"\nurl = \"http://127.0.0.1:9/list\"\n";
    let (home, _, _folder) = home(dead);
    let agent = home.run();
    let screen = wait_for_status(&home, |said| said.contains("feed dead since "));
    assert!(screen.starts_with("DEGRADED"), "{screen}");
    assert!(screen.contains("no answer") && screen.contains("Connection refused"), "{screen}");
    assert!(agent.stop().status.success());
}

#[test]
fn a_canary_that_cannot_fly_is_not_the_probes_fault() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[]);
    run(netns.command("ip").args(["link", "set", "lo", "down"]));
    let (home, _, _folder) = home("");
    let agent = Agent::spawn(netns.within(&home.command(&["run"])));
    let screen = wait_for_status(&home, |said| said.starts_with("DEGRADED"));
    assert!(screen.contains("canary since ") && screen.contains("127.0.0.1: "), "{screen}");
    assert!(!screen.contains("no event"), "{screen}");
    run(netns.command("ip").args(["link", "set", "lo", "up"]));
    wait_for_status(&home, |said| said.starts_with("OK"));
    agent.wait_for_log(Duration::from_secs(5), "component is OK again component=\"canary\"");
    assert!(agent.stop().status.success());
}

#[test]
fn real_traffic_goes_on_while_canaries_fly() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let (_server, port) = Server::peer(&netns, V4);
    let (home, rows, _folder) = home("");
    let agent = home.run();
    run(netns.command(peer()).args(["connect", &format!("{V4}:{port}"), "50"]));
    agent.wait_for(SOON, |alert| text(alert, "RemoteIp") == V4);
    wait_for_status(&home, |said| said.starts_with("OK"));
    assert!(agent.stop().status.success());
    let written = std::fs::read_to_string(rows).unwrap();
    let lines = written.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ours =
        lines.filter(|row| row["DestinationPort"] == port && text(row, "Direction") == "outbound");
    let links: u64 = ours.map(|row| row["LinksEstablished"].as_u64().unwrap()).sum();
    assert_eq!(links, 50);
}

/// The kernel numbers processes as the initial pid namespace does; the agent has another number for
/// itself in a namespace of its own, and learns its real one from the canary.
#[test]
fn in_a_pid_namespace_the_agents_own_traffic_does_not_alert() {
    if skipped() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let server = runtime.block_on(FeedServer::start());
    server.answer("", b"127.0.0.1\n");
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
    wait_for_status(&home, |said| said.contains("canary seen "));
    let held = || {
        let json = status(&home, &["--json"]);
        let report: Value = serde_json::from_slice(&json.stdout).unwrap();
        report["Counters"]["hits_held_own_traffic"].as_u64().unwrap()
    };
    let before = held();
    run(Command::new("sleep").arg("3"));
    let after = held();
    assert!(after >= before + 2, "{before} held, then {after}");
    drop(agent);
}
