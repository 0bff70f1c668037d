//! Many connections, and the ledger.

use std::collections::{HashMap, HashSet};
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use sensor_tests::{Agent, Netns, run};
use sensor_user::clock::{Clock as _, SystemClock};
use serde_json::Value;

use crate::harness::{CLIENT_V4, Home, Ledger, SOON, Server, V4, peer, skipped, text};

const PROCESSES: usize = 50;
const EACH: usize = 200;

/// 50 short-lived processes, each a program of its own with arguments of its own.
fn storm(netns: &Netns, folder: &std::path::Path, port: u16) -> HashMap<u32, (String, String)> {
    let target = format!("{V4}:{port}");
    let mut expected = HashMap::new();
    let mut running: Vec<Child> = Vec::new();
    for number in 0..PROCESSES {
        let program = folder.join(format!("client-{number}"));
        std::fs::copy(peer(), &program).unwrap();
        let words = ["connect", &target, &EACH.to_string(), &format!("mark-{number}")];
        let child = netns.command(&program).args(words).spawn().unwrap();
        let path = program.to_str().unwrap().to_owned();
        let line = format!("{path} {}", words.join(" "));
        expected.insert(child.id(), (path, line));
        running.push(child);
        // Two at a time: two cores.
        if running.len() == 2 {
            assert!(running.remove(0).wait().unwrap().success());
        }
    }
    for mut child in running {
        assert!(child.wait().unwrap().success());
    }
    expected
}

fn to_port<'a>(lines: &'a [Value], port: u16, direction: &str, event: &str) -> Vec<&'a Value> {
    let fits = |line: &&Value| {
        line["DestinationPort"] == port
            && text(line, "Direction") == direction
            && text(line, "Event") == event
    };
    lines.iter().filter(fits).collect()
}

#[test]
fn ten_thousand_connections_of_fifty_processes_are_each_their_own() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let (server, port) = Server::peer(&netns, V4);
    let home = Home::new("", "");
    let folder = tempfile::tempdir().unwrap();
    let recording = home.record();
    let expected = storm(&netns, folder.path(), port);
    recording.wait_for_closed(port, 2 * PROCESSES * EACH);
    let (lines, ledger) = recording.stop();
    ledger.assert_closes();
    assert_eq!(ledger.count("tcp_ring_full") + ledger.count("process_ring_full"), 0);

    for event in ["opened", "established", "closed"] {
        let outbound = to_port(&lines, port, "outbound", event);
        assert_eq!(outbound.len(), PROCESSES * EACH, "outbound {event}");
        let numbers: HashSet<u64> =
            outbound.iter().map(|line| line["ConnectionNumber"].as_u64().unwrap()).collect();
        assert_eq!(numbers.len(), PROCESSES * EACH);
        let mut each: HashMap<u32, usize> = HashMap::new();
        for line in outbound {
            let pid = u32::try_from(line["ProcessId"].as_u64().unwrap()).unwrap();
            let (path, command_line) = expected.get(&pid).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(text(line, "ProcessPath"), path);
            assert_eq!(text(line, "CommandLine"), command_line);
            assert_eq!(text(line, "Attribution"), "connect");
            // A handshake that takes longer than the hold has no port at first sight.
            if event != "opened" {
                assert_ne!(line["SourcePort"], Value::Null, "{line}");
            }
            *each.entry(pid).or_default() += 1;
        }
        assert!(each.values().all(|count| *count == EACH), "{each:?}");

        let inbound = to_port(&lines, port, "inbound", event);
        assert_eq!(inbound.len(), PROCESSES * EACH, "inbound {event}");
        for line in inbound {
            assert_eq!(line["ProcessId"], server.0.id(), "{line}");
            assert!(["first_io", "accept"].contains(&text(line, "Attribution")), "{line}");
        }
    }
}

#[test]
fn the_ledger_closes_when_a_small_ring_overflows() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let (_server, port) = Server::peer(&netns, V4);
    let home = Home::new("ring_bytes = \"64KiB\"", "");
    let folder = tempfile::tempdir().unwrap();
    let recording = home.record();
    // A reader that stands still for a while makes sure that records are lost.
    let words = ["connect", &format!("{V4}:{port}"), "2000"];
    recording.agent.signal(Signal::SIGSTOP);
    run(netns.command(peer()).args(words));
    recording.agent.signal(Signal::SIGCONT);
    storm(&netns, folder.path(), port);
    let (lines, ledger) = recording.stop();
    ledger.assert_closes();
    assert!(ledger.count("tcp_ring_full") > 0, "{ledger:?}");
    // Five for each end's connection: three outbound, three inbound, but for those lost.
    let connections = u64::try_from(PROCESSES * EACH + 2000).unwrap();
    assert!(ledger.count("tcp_attempted") >= connections * 5, "{ledger:?}");
    assert!(to_port(&lines, port, "outbound", "closed").len() > 100);
}

#[test]
fn losses_are_told_while_the_agent_runs() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let (_server, port) = Server::peer(&netns, V4);
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("rows");
    let sink =
        format!("[[sink]]\nname = \"r\"\nkind = \"file\"\npath = {told:?}\ntakes = [\"rows\"]");
    let home = Home::new("ring_bytes = \"64KiB\"", &sink);
    let agent = home.run();
    let began = SystemClock.now();
    agent.signal(Signal::SIGSTOP);
    run(netns.command(peer()).args(["connect", &format!("{V4}:{port}"), "2000"]));
    agent.signal(Signal::SIGCONT);
    let line = agent.wait_for_log(SOON * 3, "lost since the last such line losses=");
    assert!(line.text.contains("tcp ring_full "), "{}", line.text);
    let ended = agent.stop();
    let ledger = Ledger::of(&ended);
    ledger.assert_closes();
    // In band too, where the rows go, and all of it.
    let written = std::fs::read_to_string(&told).unwrap();
    let losses = losses(written.lines().map(|line| serde_json::from_str(line).unwrap()));
    assert_eq!(sum(&losses, "ring_full", "tcp"), ledger.count("tcp_ring_full"));
    assert_eq!(sum(&losses, "ring_full", "process"), ledger.count("process_ring_full"));
    for loss in &losses {
        let time = |column: &str| text(loss, column).parse::<jiff::Timestamp>().unwrap();
        assert!(began <= time("LastSeen") && time("FirstSeen") <= time("LastSeen"), "{loss}");
        assert_eq!(text(loss, "Computer"), "host.example.net");
    }
}

fn losses(lines: impl Iterator<Item = Value>) -> Vec<Value> {
    lines.filter(|line| text(line, "Type") == "NetsensorLoss").collect()
}

fn sum(losses: &[Value], reason: &str, kind: &str) -> u64 {
    let fits = |loss: &&Value| text(loss, "Reason") == reason && text(loss, "Kind") == kind;
    losses.iter().filter(fits).map(|loss| loss["Count"].as_u64().unwrap()).sum()
}

#[test]
fn simulated_drops_are_a_loss_with_its_own_reason_and_the_ledger_closes() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let (_server, port) = Server::peer(&netns, V4);
    let home = Home::new("", "");
    let recording = home.record_with(&["--simulate-drops", "0.2"]);
    run(netns.command(peer()).args(["connect", &format!("{V4}:{port}"), "500"]));
    run(std::process::Command::new("sleep").arg("0.5"));
    let (lines, ledger) = recording.stop();
    ledger.assert_closes();
    let simulated = ledger.count("simulated");
    // A share of 0.2 of some 5,000 records: five deviations of 28 each.
    let expected = ledger.count("received") / 5;
    assert!(simulated.abs_diff(expected) < expected / 4, "{simulated} of {ledger:?}");
    assert_eq!(sum(&losses(lines.iter().cloned()), "simulated", "record"), simulated);
    // The recording says so when it is read.
    let (recorded, list) = (home.path("recorded.jsonl"), home.path("list.txt"));
    for mode in [&["--live"][..], &["--at", text(&lines[0], "TimeGenerated")]] {
        let words = ["replay", "--connections", recorded.to_str().unwrap(), "--indicators"];
        let words = [&words[..], &[list.to_str().unwrap()], mode].concat();
        let output = run(&mut sensor_tests::command(&home.path(""), &words));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("lost={simulated}")), "{mode:?}: {said}");
        assert!(!output.stdout.is_empty());
    }
}

/// Neither in the suite's indicators nor anywhere else.
const NOBODY_LISTENS: &str = "192.0.2.2";

/// What it takes to know that later events are still seen: an alert of a new connection.
fn assert_still_sees(agent: &Agent, netns: &Netns) {
    let (_server, port) = Server::peer(netns, V4);
    run(netns.command(peer()).args(["connect", &format!("{V4}:{port}"), "1"]));
    let ours = |alert: &Value| alert["DestinationPort"] == port;
    let (_, alert) = agent.wait_for(SOON, ours);
    assert_eq!(text(&alert, "RemoteIp"), V4);
}

/// Connections that are refused, by as many processes as there are cores: how many there were.
fn refused(netns: &Netns, each: &str, seconds: &str) -> u64 {
    let target = format!("{NOBODY_LISTENS}:9");
    let start = || {
        let mut command = netns.command(peer());
        command.args(["refused", &target, each, seconds]).stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    let processes = [start(), start()];
    let count = |process: Child| {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().parse::<u64>().unwrap()
    };
    processes.into_iter().map(count).sum()
}

#[test]
fn two_hundred_thousand_refused_connects_leave_nothing_behind() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, NOBODY_LISTENS]);
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows");
    let sink = "[[sink]]\nname = \"out\"\nkind = \"stdout\"\n[[sink]]\nname = \"rows\"\n";
    let sink = format!("{sink}kind = \"file\"\npath = {rows:?}\ntakes = [\"rows\"]");
    let home = Home::new("", &sink);
    let agent = home.run();
    let before = resident(&agent);
    assert_eq!(refused(&netns, "100000", "60"), 200_000);
    assert_still_sees(&agent, &netns);
    let after = resident(&agent);
    let ledger = Ledger::of(&agent.stop());
    ledger.assert_closes();
    assert!(ledger.count("tcp_attempted") >= 400_000, "{ledger:?}");
    for loss in ["tcp_ring_full", "accept_pending_evicted", "connections_evicted"] {
        assert_eq!(ledger.count(loss), 0, "{loss} in {ledger:?}");
    }
    assert!(after < before + (16 << 10), "{before} KiB before, {after} KiB after");
    // Each was opened and has failed, and none is left in the table.
    let text = std::fs::read_to_string(&rows).unwrap();
    let ours = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ours = ours.filter(|row| {
        row["DestinationIp"] == NOBODY_LISTENS && row["ProcessPath"] == peer().to_str().unwrap()
    });
    let rows: Vec<Value> = ours.collect();
    let count = |row: &Value, column: &str| row[column].as_u64().unwrap();
    assert_eq!(rows.iter().map(|row| count(row, "LinksFailed")).sum::<u64>(), 200_000);
    assert_eq!(rows.iter().map(|row| count(row, "LinksEstablished")).sum::<u64>(), 0);
    assert!(rows.iter().all(|row| count(row, "LinksLive") == 0), "{rows:?}");
}

/// Memory of the agent, KiB.
fn resident(agent: &Agent) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn the_ledger_closes_over_a_million_connects_through_the_smallest_ring() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, NOBODY_LISTENS]);
    let home = Home::new("ring_bytes = \"64KiB\"", "[rows]\nenabled = false");
    let agent = home.run();
    let made = refused(&netns, "500000", "60");
    println!("{made} connects");
    assert!(made >= 100_000, "{made}");
    assert_still_sees(&agent, &netns);
    let ledger = Ledger::of(&agent.stop());
    ledger.assert_closes();
    assert!(ledger.count("tcp_attempted") >= 2 * made, "{ledger:?}");
    // Of what was lost only ends matter here, which the socket's next use makes good; others on
    // this machine have connections too.
    assert!(ledger.count("connections_left") < made / 20, "{ledger:?}");
}
