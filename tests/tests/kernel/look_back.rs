//! Indicators that come after the connections that they name.

use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use sensor_tests::{Netns, run};
use serde_json::Value;

use crate::harness::{Home, SOON, Server, skipped, text};

/// An address that the suite's own list does not name.
const LATE: &str = "203.0.113.99";
/// A feed that is looked at each second, and is empty but for a comment.
const FEED: &str = "[rows]\nenabled = false\n[[feed]]\nname = \"late\"\nkind = \"list\"\n\
                    url = \"file:late.txt\"\ninterval = \"1s\"\n";

fn of_late(alert: &Value) -> bool {
    text(alert, "RemoteIp") == LATE && text(alert, "Direction") == "outbound"
}

/// `count` connections of curl.
fn connect(netns: &Netns, port: u16, count: usize) {
    let url = format!("http://{LATE}:{port}/");
    for _ in 0..count {
        // Its server says nothing that curl understands.
        let mut curl = netns.command("curl");
        curl.args(["--silent", "--max-time", "1", &url]).stdout(Stdio::null());
        curl.status().unwrap();
    }
}

#[test]
fn what_a_feed_brings_alerts_on_the_last_hour_once_also_over_a_kill() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[LATE]);
    let (_server, port) = Server::peer(&netns, LATE);
    let home = Home::new("", &format!("{FEED}[dedup]\nwindow = \"8s\"\n"));
    std::fs::write(home.path("late.txt"), "# nothing yet\n198.51.100.200\n").unwrap();
    let agent = home.run();
    connect(&netns, port, 3);
    // The kernel's records are read and kept within a turn; a second is a hundred of them.
    run(Command::new("sleep").arg("1"));
    agent.signal(Signal::SIGKILL);
    agent.wait(SOON);

    let agent = home.run();
    std::fs::write(home.path("late.txt"), format!("198.51.100.200\n{LATE}\n")).unwrap();
    let (told, alert) = agent.wait_for(SOON, of_late);
    let loaded = agent.wait_for_log(SOON, "feed=\"late\" indicators=2");
    assert!(told.saturating_duration_since(loaded.at) < Duration::from_secs(1));
    assert_eq!((text(&alert, "AlertKind"), text(&alert, "Feed")), ("retro", "late"));
    assert_eq!(alert["ConnectionCount"], 3);
    assert_eq!((text(&alert, "ProcessName"), &alert["DestinationPort"]), ("curl", &port.into()));
    assert!(text(&alert, "CommandLine").contains(LATE), "{alert}");

    // From now on connections alert when they are made, and the earlier ones not again.
    connect(&netns, port, 1);
    let (_, alert) = agent.wait_for(SOON, |it| of_late(it) && text(it, "AlertKind") == "new");
    assert_eq!(alert["ConnectionCount"], 1);
    agent.signal(Signal::SIGKILL);
    agent.wait(SOON);
    let agent = home.run();
    agent.wait_for_log(SOON, "feed=\"late\" indicators=2");
    connect(&netns, port, 2);
    // The window is the one that the earlier agent opened: nothing is told twice, and what came
    // later is in its summary.
    agent.wait_for(SOON, of_late);
    let told: Vec<(String, u64)> = agent
        .alerts()
        .iter()
        .filter(|alert| of_late(alert))
        .map(|it| (text(it, "AlertKind").to_owned(), it["ConnectionCount"].as_u64().unwrap()))
        .collect();
    assert_eq!(told, [("summary".to_owned(), 2)]);
    assert!(agent.stop().status.success());
}

/// What `netsensor` says with these words and the configuration of `home`.
fn said(home: &Home, words: &[&str]) -> (String, Option<i32>) {
    let output = home.command(words).output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

#[test]
fn the_feeds_of_a_running_agent_and_what_they_name_are_told() {
    if skipped() {
        return;
    }
    let home = Home::new("", FEED);
    let entries = "203.0.113.99\nhost\u{1b}[31m.example\n10.0.0.1\n";
    std::fs::write(home.path("late.txt"), entries).unwrap();
    let agent = home.run();
    let (text, code) = said(&home, &["feeds"]);
    assert!(text.contains("OK          late  list, 1 indicators, good "), "{text}");
    assert!(text.contains("not used: 1 not an address, 1 private or special range"), "{text}");
    assert_eq!(code, Some(0));
    let (text, _) = said(&home, &["feeds", "late", "--rejects"]);
    assert!(text.contains("2: \"host\\u{1b}[31m.example\": not an address"), "{text}");
    assert!(text.contains("3: \"10.0.0.1\": meets the private"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains("test  list"), "{text}");
    let (text, _) = said(&home, &["feeds", "--json"]);
    let json: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!((&json[0]["Name"], &json[0]["State"]), (&"late".into(), &"OK".into()));

    let (text, _) = said(&home, &["explain", LATE]);
    assert!(text.starts_with("203.0.113.99: 1 indicators cover it at "), "{text}");
    assert!(text.contains("feed late (list): 203.0.113.99/32 late:203.0.113.99/32"), "{text}");
    assert!(text.contains("\n    would alert\n"), "{text}");
    let (text, _) = said(&home, &["explain", LATE, "--at", "2100-01-01T00:00:00Z"]);
    assert!(text.contains("would not alert: it has expired"), "{text}");

    // A file that is gone leaves what was good, and says so.
    std::fs::remove_file(home.path("late.txt")).unwrap();
    agent.wait_for_log(SOON, "component is DEGRADED component=\"feed late\"");
    let (text, code) = said(&home, &["feeds", "late"]);
    assert!(text.contains("DEGRADED    late  list, 1 indicators"), "{text}");
    assert!(text.contains("read the file; it must exist"), "{text}");
    assert_eq!(code, Some(1));
    let (text, _) = said(&home, &["explain", LATE]);
    assert!(text.contains("would alert"), "{text}");
    assert!(agent.stop().status.success());
    // The saved sets are there without an agent; its socket is not.
    assert!(said(&home, &["explain", LATE]).0.contains("would alert"));
    assert_eq!(said(&home, &["feeds"]).1, Some(1));
}
