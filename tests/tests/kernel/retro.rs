//! Retro alerts: indicators that arrive after the connections that they match.

use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use sensor_tests::{Netns, run};
use serde_json::Value;

use crate::harness::{Home, SOON, Server, skipped, text};

/// An address that is not in the suite's own list.
const LATE: &str = "203.0.113.99";
/// A feed with an interval of one second, at first empty but for a comment.
const FEED: &str = "[rows]\nenabled = false\n[[feed]]\nname = \"late\"\nkind = \"list\"\n\
                    url = \"file:late.txt\"\ninterval = \"1s\"\n";

fn is_late(alert: &Value) -> bool {
    text(alert, "RemoteIp") == LATE && text(alert, "Direction") == "outbound"
}

/// Makes `count` connections with curl.
fn connect(netns: &Netns, port: u16, count: usize) {
    let url = format!("http://{LATE}:{port}/");
    for _ in 0..count {
        // The server sends nothing that curl accepts.
        let mut curl = netns.command("curl");
        curl.args(["--silent", "--max-time", "1", &url]).stdout(Stdio::null());
        curl.status().unwrap();
    }
}

#[test]
fn new_indicators_alert_once_on_the_last_hour_even_after_a_kill() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[LATE]);
    let (_server, port) = Server::peer(&netns, LATE);
    let home = Home::new("", &format!("{FEED}[dedup]\nwindow = \"8s\"\n"));
    std::fs::write(home.path("late.txt"), "# nothing yet\n198.51.100.200\n").unwrap();
    let agent = home.run();
    connect(&netns, port, 3);
    // The agent reads and stores the kernel's records in each iteration, some hundred per second.
    run(Command::new("sleep").arg("1"));
    agent.signal(Signal::SIGKILL);
    agent.wait(SOON);

    let agent = home.run();
    std::fs::write(home.path("late.txt"), format!("198.51.100.200\n{LATE}\n")).unwrap();
    let (alerted_at, alert) = agent.wait_for_alert(SOON, is_late);
    let loaded = agent.wait_for_log(SOON, "feed=\"late\" indicators=2");
    assert!(alerted_at.saturating_duration_since(loaded.at) < Duration::from_secs(1));
    assert_eq!((text(&alert, "AlertKind"), text(&alert, "Feed")), ("retro", "late"));
    assert_eq!(alert["ConnectionCount"], 3);
    assert_eq!((text(&alert, "ProcessName"), &alert["DestinationPort"]), ("curl", &port.into()));
    assert!(text(&alert, "CommandLine").contains(LATE), "{alert}");

    // From now on new connections alert at once; the earlier ones do not alert again.
    connect(&netns, port, 1);
    let (_, alert) = agent.wait_for_alert(SOON, |it| is_late(it) && text(it, "AlertKind") == "new");
    assert_eq!(alert["ConnectionCount"], 1);
    agent.signal(Signal::SIGKILL);
    agent.wait(SOON);
    let agent = home.run();
    agent.wait_for_log(SOON, "feed=\"late\" indicators=2");
    connect(&netns, port, 2);
    // The earlier agent opened the dedup window: no alert is repeated, and later connections are
    // in its summary.
    agent.wait_for_alert(SOON, is_late);
    let alerts: Vec<(String, u64)> = agent
        .alerts()
        .iter()
        .filter(|alert| is_late(alert))
        .map(|it| (text(it, "AlertKind").to_owned(), it["ConnectionCount"].as_u64().unwrap()))
        .collect();
    assert_eq!(alerts, [("summary".to_owned(), 2)]);
    assert!(agent.stop().status.success());
}

/// Output and exit code of `netsensor` with these arguments and the configuration of `home`.
fn query(home: &Home, words: &[&str]) -> (String, Option<i32>) {
    let output = home.command(words).output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

#[test]
fn a_running_agent_reports_its_feeds_and_explains_matches() {
    if skipped() {
        return;
    }
    let home = Home::new("", FEED);
    let entries = "203.0.113.99\nhost\u{1b}[31m.example\n10.0.0.1\n";
    std::fs::write(home.path("late.txt"), entries).unwrap();
    let agent = home.run();
    let (text, code) = query(&home, &["feeds"]);
    assert!(text.contains("OK          late  list, 1 indicators, good "), "{text}");
    assert!(text.contains("rejected: 1 not an address, 1 private or special range"), "{text}");
    assert_eq!(code, Some(0));
    let (text, _) = query(&home, &["feeds", "late", "--rejects"]);
    assert!(text.contains("2: \"host\\u{1b}[31m.example\": not an address"), "{text}");
    assert!(text.contains("3: \"10.0.0.1\": meets the private"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains("test  list"), "{text}");
    let (text, _) = query(&home, &["feeds", "--json"]);
    let json: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!((&json[0]["Name"], &json[0]["State"]), (&"late".into(), &"OK".into()));

    let (text, _) = query(&home, &["explain", LATE]);
    assert!(text.starts_with("203.0.113.99: 1 indicators cover it at "), "{text}");
    assert!(text.contains("feed late (list): 203.0.113.99/32 late:203.0.113.99/32"), "{text}");
    assert!(text.contains("\n    would alert\n"), "{text}");
    let (text, _) = query(&home, &["explain", LATE, "--at", "2100-01-01T00:00:00Z"]);
    assert!(text.contains("would not alert: it has expired"), "{text}");

    // A missing file leaves the last good set in use, and is reported.
    std::fs::remove_file(home.path("late.txt")).unwrap();
    agent.wait_for_log(SOON, "component is DEGRADED component=\"feed late\"");
    let (text, code) = query(&home, &["feeds", "late"]);
    assert!(text.contains("DEGRADED    late  list, 1 indicators"), "{text}");
    assert!(text.contains("read the file; it must exist"), "{text}");
    assert_eq!(code, Some(1));
    let (text, _) = query(&home, &["explain", LATE]);
    assert!(text.contains("would alert"), "{text}");
    assert!(agent.stop().status.success());
    // The saved sets are readable without an agent; its socket is gone.
    assert!(query(&home, &["explain", LATE]).0.contains("would alert"));
    assert_eq!(query(&home, &["feeds"]).1, Some(1));
}
