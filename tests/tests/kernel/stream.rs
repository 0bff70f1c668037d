//! The local stream: lines as they happen, readers that stall, what a killed agent leaves.

use std::io::{BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use sensor_tests::{Agent, Netns, run};
use serde_json::Value;

use crate::harness::{CLIENT_V4, Home, SOON, Server, V4, peer, skipped, text};

fn socket(home: &Home) -> PathBuf {
    home.path("netsensor/netsensor.sock")
}

fn ask(path: &Path, request: &str) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    writeln!(stream, "{request}").unwrap();
    BufReader::new(stream)
}

fn line(reader: &mut impl std::io::BufRead) -> Option<Value> {
    let mut line = String::new();
    let read = reader.read_line(&mut line).ok()?;
    (read > 0).then(|| serde_json::from_str(&line).unwrap())
}

fn assert_answers(path: &Path) {
    let report = line(&mut ask(path, "status")).unwrap();
    assert_eq!(text(&report, "Type"), "NetsensorStatus");
}

fn counter(path: &Path, name: &str) -> u64 {
    let report = line(&mut ask(path, "status")).unwrap();
    report["Counters"][name].as_u64().unwrap_or_else(|| panic!("{name} of {report}"))
}

#[test]
fn a_reader_gets_each_change_as_it_happens() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let (_server, port) = Server::peer(&netns, V4);
    let home = Home::new("", "");
    let agent = home.run();
    let path = socket(&home);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut reader = ask(&path, "stream");
    // It reads along once its request is read: a status that is asked for later is answered later.
    run(Command::new("sleep").arg("0.3"));
    run(netns.command(peer()).args(["connect", &format!("{V4}:{port}"), "2"]));
    let mut events = Vec::new();
    while events.len() < 6 {
        let line = line(&mut reader).expect("a line within 10 s");
        if line["DestinationPort"] == port && text(&line, "Direction") == "outbound" {
            assert_eq!(text(&line, "RemoteIp"), V4);
            assert_eq!(text(&line, "ProcessName"), "peer");
            events.push(text(&line, "Event").to_owned());
        }
    }
    assert_eq!(events, ["opened", "established", "closed", "opened", "established", "closed"]);
    let error = line(&mut ask(&path, "sta\u{1b}\"tus")).unwrap();
    assert!(text(&error, "Error").contains("use status, feeds or stream"), "{error}");
    assert!(agent.stop().status.success());
    assert!(!path.exists(), "it takes its socket away");
}

#[test]
fn a_reader_that_stalls_loses_lines_and_holds_nobody_up() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let (_server, port) = Server::peer(&netns, V4);
    let home = Home::new("", "[health]\ncanary_every = \"1h\"");
    let agent = home.run();
    let path = socket(&home);
    let mut stalled = ask(&path, "stream");
    run(Command::new("sleep").arg("0.3"));
    run(netns.command(peer()).args(["connect", &format!("{V4}:{port}"), "2000"]));
    // The path goes on: the alert comes, and all changes are put into lines.
    agent.wait_for(SOON, |alert| text(alert, "RemoteIp") == V4);
    let mut lost = 0;
    for _look in 0..50 {
        lost = counter(&path, "stream_lines_dropped_reader_slow");
        if lost > 5_000 {
            break;
        }
        run(Command::new("sleep").arg("0.2"));
    }
    assert!(lost > 5_000, "{lost} of some 12,000 lines");
    // It reads again, and is told what is missing.
    let mut told = 0;
    let mut lines = 0;
    while told < lost {
        let line = line(&mut stalled).expect("a line within 10 s");
        lines += 1;
        if text(&line, "Type") == "NetsensorLoss" {
            assert_eq!((text(&line, "Reason"), text(&line, "Kind")), ("reader_slow", "stream"));
            told += line["Count"].as_u64().unwrap();
        }
    }
    // Its buffer, and what the socket holds.
    assert!(lines > 1024, "{lines}");
    assert!(told <= counter(&path, "stream_lines_dropped_reader_slow"), "{told}");
    let ended = agent.stop();
    crate::harness::Ledger::of(&ended).assert_closes();
}

#[test]
fn readers_are_at_most_eight() {
    if skipped() {
        return;
    }
    let home = Home::new("", "");
    let agent = home.run();
    let path = socket(&home);
    let readers: Vec<_> = (0..8).map(|_| ask(&path, "stream")).collect();
    run(Command::new("sleep").arg("0.3"));
    let refused = line(&mut ask(&path, "stream")).unwrap();
    assert_eq!(text(&refused, "Error"), "8 read already");
    // A status is answered all the same.
    assert_answers(&path);
    drop(readers);
    assert!(agent.stop().status.success());
}

#[test]
fn one_agent_has_a_state_directory_and_a_killed_one_leaves_it_free() {
    if skipped() {
        return;
    }
    let home = Home::new("", "");
    let agent = home.run();
    let second = Agent::spawn(home.command(&["run"])).wait(Duration::from_secs(20));
    assert_eq!(second.status.code(), Some(1));
    let said = &second.stderr.last().unwrap().text;
    let other = format!("another netsensor (process {}) is running with this state", agent.pid());
    assert!(said.contains(&other), "{said}");
    // The first is not disturbed.
    assert_answers(&socket(&home));
    agent.signal(Signal::SIGKILL);
    assert!(!agent.wait(SOON).status.success());
    assert!(socket(&home).exists(), "a killed agent leaves its socket");
    let agent = home.run();
    assert_answers(&socket(&home));
    assert!(agent.stop().status.success());
    // What is no socket is not removed.
    std::fs::write(socket(&home), "mine").unwrap();
    let refused = Agent::spawn(home.command(&["run"])).wait(Duration::from_secs(20));
    let said = &refused.stderr.last().unwrap().text;
    assert!(said.contains("is there and is no socket"), "{said}");
    assert_eq!(std::fs::read_to_string(socket(&home)).unwrap(), "mine");
}
