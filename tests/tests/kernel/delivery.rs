//! From a real connection to the sinks: posted alerts, rows in a file, an unreachable feed.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use sensor_tests::{Collector, Netns, ScriptedResponse, run};
use serde_json::Value;

use crate::harness::{CLIENT_V4, Home, SOON, Server, V4, peer, skipped, text};

#[test]
fn an_alert_is_posted_and_row_counts_match() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let (_server, port) = Server::peer(&netns, V4);
    let collector = Collector::start(|_, _| ScriptedResponse::OK);
    let sinks = format!(
        "[[sink]]\nname = \"siem\"\nkind = \"http\"\nurl = \"{}\"\ntakes = [\"alerts\"]\n\
         [dedup]\nwindow = \"3s\"\n\
         [[sink]]\nname = \"rows\"\nkind = \"file\"\npath = \"ROWS\"\ntakes = [\"rows\"]",
        collector.url()
    );
    let home = Home::new("", "");
    let rows = home.path("rows.jsonl");
    let home = Home::new("", &sinks.replace("ROWS", rows.to_str().unwrap()));
    std::fs::create_dir_all(rows.parent().unwrap()).unwrap();
    let agent = home.run();
    run(netns.command(peer()).args(["connect", &format!("{V4}:{port}"), "20"]));
    collector.wait_for_requests(1);
    // The dedup window ends meanwhile.
    run(Command::new("sleep").arg("4"));
    let ended = agent.stop();
    assert!(ended.status.success(), "{ended:?}");

    let posted: Vec<Value> =
        collector.requests().iter().flat_map(sensor_tests::RecordedRequest::items).collect();
    let outbound: Vec<&Value> =
        posted.iter().filter(|alert| text(alert, "Direction") == "outbound").collect();
    let kinds: Vec<&str> = outbound.iter().map(|alert| text(alert, "AlertKind")).collect();
    assert_eq!(kinds, ["new", "summary"]);
    let counts: Vec<u64> =
        outbound.iter().map(|alert| alert["ConnectionCount"].as_u64().unwrap()).collect();
    assert_eq!(counts, [1, 19]);
    assert_ne!(text(outbound[0], "AlertId"), text(outbound[1], "AlertId"));

    let written = std::fs::read_to_string(&rows).unwrap();
    let own: Vec<Value> = written
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|row| row["DestinationPort"] == port && text(row, "Direction") == "outbound")
        .collect();
    let sum = |column: &str| own.iter().map(|row| row[column].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("LinksEstablished"), sum("LinksTerminated"), sum("LinksFailed")), (20, 20, 0));
    let last = own.last().unwrap();
    assert_eq!(last["LinksLive"], 0);
    assert_eq!(text(last, "ProcessName"), "peer");
    assert!(text(last, "TimeGenerated").ends_with(":00Z"), "{last}");
    assert!(text(last, "Machine").starts_with("m-") && text(last, "Process").starts_with("p-"));
}

#[test]
fn an_unreachable_feed_delays_nothing_and_is_logged() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    // No process listens on this port.
    let dead = "[[feed]]\nname = \"dead\"\nkind = \"list\"\nurl = \"http://127.0.0.1:9/list\"\n";
    let home = Home::new("", dead);
    let agent = home.run();
    let line = agent.wait_for_log(SOON, "feed dead: http://127.0.0.1:9/list: no response");
    assert!(line.text.contains("Connection refused"), "{}", line.text);
    run(netns.command(peer()).args(["try", &format!("{V4}:9")]));
    agent.wait_for_alert(SOON, |alert| text(alert, "RemoteIp") == V4);
    assert!(agent.stop().status.success());
}

#[test]
fn a_killed_agent_leaves_no_probe_attached() {
    if skipped() {
        return;
    }
    let home = Home::new("", "");
    let agent = home.run();
    agent.signal(nix::sys::signal::Signal::SIGKILL);
    let ended = agent.wait(Duration::from_secs(10));
    assert!(!ended.status.success());
    // The next agent starts cleanly, with the same identity.
    let first = ended.stderr.iter().find(|line| line.text.contains("agent id ")).unwrap();
    let again = home.run();
    let ended = again.stop();
    let second = ended.stderr.iter().find(|line| line.text.contains("agent id ")).unwrap();
    assert_eq!(first.text, second.text);
}

#[test]
fn replaying_a_recording_gives_the_same_alerts() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let (_server, port) = Server::peer(&netns, V4);
    let home = Home::new("", "");
    let recording = home.record();
    run(netns.command(peer()).args(["connect", &format!("{V4}:{port}"), "3"]));
    recording.wait_for_closed(port, 6);
    let (lines, _) = recording.stop();
    let pid = lines
        .iter()
        .find(|line| text(line, "Direction") == "outbound" && line["DestinationPort"] == port)
        .map(|line| line["ProcessId"].clone());
    let (recorded, list) = (home.path("recorded.jsonl"), home.path("list.txt"));
    let words = ["replay", "--connections", recorded.to_str().unwrap(), "--indicators"];
    let replay = |mode: &[&str]| -> Vec<Value> {
        let words = [&words[..], &[list.to_str().unwrap()], mode].concat();
        let output = run(&mut sensor_tests::agent_command(&home.path(""), &words));
        let alerts = String::from_utf8(output.stdout).unwrap();
        let alerts = alerts.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        alerts.filter(|it| it["DestinationPort"] == port).collect()
    };
    let mut live = replay(&["--live"]);
    live.retain(|alert| text(alert, "Direction") == "outbound");
    let alerts: Vec<(&str, u64)> = live
        .iter()
        .map(|it| (text(it, "AlertKind"), it["ConnectionCount"].as_u64().unwrap()))
        .collect();
    assert_eq!(alerts, [("new", 1), ("summary", 2)]);
    let last = text(lines.last().unwrap(), "TimeGenerated");
    let at = replay(&["--at", last]);
    // One alert per indicator and address, in either direction: both ends have the same address
    // here.
    assert_eq!(at.len(), 1, "{at:?}");
    assert_eq!(at[0]["ConnectionCount"], 6);
    assert_eq!(text(&at[0], "RemoteIp"), V4);
    for alert in &live {
        assert_eq!(Some(&alert["ProcessId"]), pid.as_ref());
        assert!(text(alert, "CommandLine").contains(" connect "), "{alert}");
        assert_ne!(alert["SourcePort"], Value::Null);
    }
}

#[test]
fn the_agent_survives_a_closed_log_pipe() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let home = Home::new("scan_interval = \"1s\"", "[health]\ncanary_interval = \"1s\"");
    let mut command = home.command(&["run", "--log", "debug"]);
    let mut agent = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(agent.stderr.take().unwrap()).lines();
    let started = log.any(|line| line.unwrap().starts_with("state: "));
    assert!(started);
    drop(log);
    // By then it has more to log.
    run(Command::new("sleep").arg("2.5"));
    run(netns.command(peer()).args(["try", &format!("{V4}:9")]));
    let mut alerts = BufReader::new(agent.stdout.take().unwrap()).lines();
    let own = |line: std::io::Result<String>| line.unwrap().contains("\"ProcessName\":\"peer\"");
    assert!(alerts.any(own), "no alert, and standard output closed");
    agent.kill().unwrap();
    agent.wait().unwrap();
}
