//! High connection rates, and the ledger.

use std::collections::{HashMap, HashSet};
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use sensor_tests::{Agent, Netns, run};
use sensor_user::base::clock::{Clock as _, SystemClock};
use serde_json::Value;

use crate::harness::{CLIENT_V4, Home, Ledger, SOON, Server, V4, peer, skipped, text};

const PROCESSES: usize = 50;
const EACH: usize = 200;

/// Runs 50 short-lived processes, each with its own program file and arguments.
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
        // Two at a time, for two cores.
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
fn ten_thousand_connections_are_attributed_to_their_own_process() {
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
    ledger.assert_balances();
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
            // A handshake that takes longer than the hold time has no source port in its first
            // event.
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
fn ledger_balances_when_a_small_ring_overflows() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let (_server, port) = Server::peer(&netns, V4);
    let home = Home::new("ring_bytes = \"64KiB\"", "");
    let folder = tempfile::tempdir().unwrap();
    let recording = home.record();
    // A stopped reader guarantees that records are lost.
    let words = ["connect", &format!("{V4}:{port}"), "2000"];
    recording.agent.signal(Signal::SIGSTOP);
    run(netns.command(peer()).args(words));
    recording.agent.signal(Signal::SIGCONT);
    storm(&netns, folder.path(), port);
    let (lines, ledger) = recording.stop();
    ledger.assert_balances();
    assert!(ledger.count("tcp_ring_full") > 0, "{ledger:?}");
    // Five records per connection: three outbound and three inbound, minus the lost ones.
    let connections = u64::try_from(PROCESSES * EACH + 2000).unwrap();
    assert!(ledger.count("tcp_attempted") >= connections * 5, "{ledger:?}");
    assert!(to_port(&lines, port, "outbound", "closed").len() > 100);
}

#[test]
fn losses_are_reported_while_the_agent_runs() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let (_server, port) = Server::peer(&netns, V4);
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows");
    let sink =
        format!("[[sink]]\nname = \"r\"\nkind = \"file\"\npath = {rows:?}\ntakes = [\"rows\"]");
    let home = Home::new("ring_bytes = \"64KiB\"", &sink);
    let agent = home.run();
    let began = SystemClock.now();
    agent.signal(Signal::SIGSTOP);
    run(netns.command(peer()).args(["connect", &format!("{V4}:{port}"), "2000"]));
    agent.signal(Signal::SIGCONT);
    let line = agent.wait_for_log(SOON * 3, "data lost since the last such line losses=");
    assert!(line.text.contains("tcp ring_full "), "{}", line.text);
    let ended = agent.stop();
    let ledger = Ledger::of(&ended);
    ledger.assert_balances();
    // The losses are reported in band too, with the rows, and completely.
    let written = std::fs::read_to_string(&rows).unwrap();
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
fn simulated_drops_have_their_own_loss_reason_and_the_ledger_balances() {
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
    ledger.assert_balances();
    let simulated = ledger.count("simulated");
    // A share of 0.2 of some 5,000 records; the tolerance is five standard deviations of 28.
    let expected = ledger.count("received") / 5;
    assert!(simulated.abs_diff(expected) < expected / 4, "{simulated} of {ledger:?}");
    assert_eq!(sum(&losses(lines.iter().cloned()), "simulated", "record"), simulated);
    // Replay reports the loss when it reads the recording.
    let (recorded, list) = (home.path("recorded.jsonl"), home.path("list.txt"));
    for mode in [&["--live"][..], &["--at", text(&lines[0], "TimeGenerated")]] {
        let words = ["replay", "--connections", recorded.to_str().unwrap(), "--indicators"];
        let words = [&words[..], &[list.to_str().unwrap()], mode].concat();
        let output = run(&mut sensor_tests::agent_command(&home.path(""), &words));
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(log.contains(&format!("lost={simulated}")), "{mode:?}: {log}");
        assert!(!output.stdout.is_empty());
    }
}

/// An address without a listener, in no feed.
const NO_LISTENER: &str = "192.0.2.2";

/// Asserts that later events still arrive: a new connection raises an alert.
fn assert_still_sees(agent: &Agent, netns: &Netns) {
    let (_server, port) = Server::peer(netns, V4);
    run(netns.command(peer()).args(["connect", &format!("{V4}:{port}"), "1"]));
    let own = |alert: &Value| alert["DestinationPort"] == port;
    let (_, alert) = agent.wait_for_alert(SOON, own);
    assert_eq!(text(&alert, "RemoteIp"), V4);
}

/// Makes refused connections from two processes, one per core; returns their number.
fn refused(netns: &Netns, each: &str, seconds: &str) -> u64 {
    let target = format!("{NO_LISTENER}:9");
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
fn two_hundred_thousand_refused_connections_leave_no_state() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, NO_LISTENER]);
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
    ledger.assert_balances();
    assert!(ledger.count("tcp_attempted") >= 400_000, "{ledger:?}");
    for loss in ["tcp_ring_full", "accept_pending_evicted", "connections_evicted"] {
        assert_eq!(ledger.count(loss), 0, "{loss} in {ledger:?}");
    }
    assert!(after < before + (16 << 10), "{before} KiB before, {after} KiB after");
    // Each connection was opened and failed, and none is left in the table.
    let text = std::fs::read_to_string(&rows).unwrap();
    let own = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let own = own.filter(|row| {
        row["DestinationIp"] == NO_LISTENER && row["ProcessPath"] == peer().to_str().unwrap()
    });
    let rows: Vec<Value> = own.collect();
    let count = |row: &Value, column: &str| row[column].as_u64().unwrap();
    assert_eq!(rows.iter().map(|row| count(row, "LinksFailed")).sum::<u64>(), 200_000);
    assert_eq!(rows.iter().map(|row| count(row, "LinksEstablished")).sum::<u64>(), 0);
    assert!(rows.iter().all(|row| count(row, "LinksLive") == 0), "{rows:?}");
}

/// Resident memory of the agent, KiB.
fn resident(agent: &Agent) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn ledger_balances_for_a_million_connections_with_the_smallest_ring() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, NO_LISTENER]);
    let home = Home::new("ring_bytes = \"64KiB\"", "[rows]\nenabled = false");
    let agent = home.run();
    let made = refused(&netns, "500000", "60");
    println!("{made} connects");
    assert!(made >= 100_000, "{made}");
    assert_still_sees(&agent, &netns);
    let ledger = Ledger::of(&agent.stop());
    ledger.assert_balances();
    assert!(ledger.count("tcp_attempted") >= 2 * made, "{ledger:?}");
    // Only lost close events matter here, and the socket's next use recovers them.
    // Other processes on this machine have connections too.
    assert!(ledger.count("connections_abandoned") < made / 20, "{ledger:?}");
}
