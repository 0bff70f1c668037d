//! The local stream: lines in real time, stalled readers, and the socket of a killed agent.

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

fn request(path: &Path, request: &str) -> BufReader<UnixStream> {
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

fn assert_responds(path: &Path) {
    let report = line(&mut request(path, "status")).unwrap();
    assert_eq!(text(&report, "Type"), "NetsensorStatus");
}

fn counter(path: &Path, name: &str) -> u64 {
    let report = line(&mut request(path, "status")).unwrap();
    report["Counters"][name].as_u64().unwrap_or_else(|| panic!("{name} of {report}"))
}

#[test]
fn a_reader_receives_each_event_in_real_time() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let (_server, port) = Server::peer(&netns, V4);
    let home = Home::new("", "");
    let agent = home.run();
    let path = socket(&home);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut reader = request(&path, "stream");
    // The reader is subscribed once the agent has read its request, which the protocol does not
    // confirm.
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
    let error = line(&mut request(&path, "sta\u{1b}\"tus")).unwrap();
    assert!(text(&error, "Error").contains("use status, feeds or stream"), "{error}");
    assert!(agent.stop().status.success());
    assert!(!path.exists(), "it removes its socket");
}

#[test]
fn a_stalled_reader_loses_lines_and_blocks_nothing() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let (_server, port) = Server::peer(&netns, V4);
    let home = Home::new("", "[health]\ncanary_interval = \"1h\"");
    let agent = home.run();
    let path = socket(&home);
    let mut stalled = request(&path, "stream");
    run(Command::new("sleep").arg("0.3"));
    run(netns.command(peer()).args(["connect", &format!("{V4}:{port}"), "2000"]));
    // The pipeline continues: the alert comes, and all changes are formatted as lines.
    agent.wait_for_alert(SOON, |alert| text(alert, "RemoteIp") == V4);
    let mut lost = 0;
    for _attempt in 0..50 {
        lost = counter(&path, "stream_lines_dropped_reader_slow");
        if lost > 5_000 {
            break;
        }
        run(Command::new("sleep").arg("0.2"));
    }
    assert!(lost > 5_000, "{lost} of some 12,000 lines");
    // The reader resumes, and receives a record of the loss.
    let mut reported = 0;
    let mut lines = 0;
    while reported < lost {
        let line = line(&mut stalled).expect("a line within 10 s");
        lines += 1;
        if text(&line, "Type") == "NetsensorLoss" {
            assert_eq!((text(&line, "Reason"), text(&line, "Kind")), ("reader_slow", "stream"));
            reported += line["Count"].as_u64().unwrap();
        }
    }
    // The reader's channel, and the socket buffer.
    assert!(lines > 1024, "{lines}");
    assert!(reported <= counter(&path, "stream_lines_dropped_reader_slow"), "{reported}");
    let ended = agent.stop();
    crate::harness::Ledger::of(&ended).assert_balances();
}

#[test]
fn the_ninth_reader_is_refused() {
    if skipped() {
        return;
    }
    let home = Home::new("", "");
    let agent = home.run();
    let path = socket(&home);
    let readers: Vec<_> = (0..8).map(|_| request(&path, "stream")).collect();
    run(Command::new("sleep").arg("0.3"));
    let refused = line(&mut request(&path, "stream")).unwrap();
    assert_eq!(text(&refused, "Error"), "the stream has 8 readers already");
    // A status request still gets a response.
    assert_responds(&path);
    drop(readers);
    assert!(agent.stop().status.success());
}

#[test]
fn one_agent_locks_its_state_directory_and_a_kill_releases_it() {
    if skipped() {
        return;
    }
    let home = Home::new("", "");
    let agent = home.run();
    let second = Agent::spawn(home.command(&["run"])).wait(Duration::from_secs(20));
    assert_eq!(second.status.code(), Some(1));
    let message = &second.stderr.last().unwrap().text;
    let other = format!("another netsensor (process {}) is running with this state", agent.pid());
    assert!(message.contains(&other), "{message}");
    // The first agent keeps running.
    assert_responds(&socket(&home));
    agent.signal(Signal::SIGKILL);
    assert!(!agent.wait(SOON).status.success());
    assert!(socket(&home).exists(), "a killed agent leaves its socket");
    let agent = home.run();
    assert_responds(&socket(&home));
    assert!(agent.stop().status.success());
    // A file that is not a socket is not removed.
    std::fs::write(socket(&home), "mine").unwrap();
    let refused = Agent::spawn(home.command(&["run"])).wait(Duration::from_secs(20));
    let message = &refused.stderr.last().unwrap().text;
    assert!(message.contains("exists and is not a socket"), "{message}");
    assert_eq!(std::fs::read_to_string(socket(&home)).unwrap(), "mine");
}
