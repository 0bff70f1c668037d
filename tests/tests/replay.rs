//! `netsensor replay` through the command line: both modes, exit statuses, what is rejected.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

use std::path::Path;
use std::process::Output;

use sensor_tests::command;
use serde_json::{Value, json};
use tempfile::TempDir;

const AT: &str = "2026-11-24T12:00:00Z";

/// A folder with three connection rows (one malformed line between them) and two indicators.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let row = |minute: u32, remote: &str, process: &str| {
        json!({
            "TimeGenerated": format!("2026-11-24T11:{minute:02}:00Z"),
            "Computer": "web01.example.net", "Direction": "outbound", "Protocol": "tcp",
            "ProcessName": process, "SourceIp": "10.0.0.4", "DestinationIp": remote,
            "RemoteIp": remote, "DestinationPort": 443, "LinksEstablished": 2, "LinksFailed": 0,
            "BytesSent": 100, "BytesReceived": 50,
        })
        .to_string()
    };
    let rows = [
        row(10, "203.0.113.7", "first"),
        "{\"TimeGenerated\": \"2026-11-24T11:11:00Z\", \"RemoteIp\": \u{1b}[31m".to_owned(),
        row(20, "203.0.113.7", "first"),
        row(30, "192.0.2.1", "other"),
    ];
    std::fs::write(folder.path().join("rows.jsonl"), rows.join("\n")).unwrap();
    let indicator = json!({
        "IndicatorId": "ti-1", "TimeGenerated": "2026-11-20T00:00:00Z", "Active": true,
        "ExpirationDateTime": "2026-12-20T00:00:00Z", "NetworkIP": "203.0.113.7",
        "ThreatType": "C2",
    });
    std::fs::write(folder.path().join("ti.jsonl"), indicator.to_string()).unwrap();
    std::fs::write(folder.path().join("list.txt"), "203.0.113.0/24\n").unwrap();
    folder
}

fn replay(folder: &Path, more: &[&str]) -> Output {
    let words = ["replay", "--connections", "rows.jsonl", "--indicators", "ti.jsonl", "list.txt"];
    let words: Vec<&str> = words.into_iter().chain(more.iter().copied()).collect();
    command(folder, &words).current_dir(folder).output().unwrap()
}

fn alerts(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn at_gives_one_alert_a_pair_and_exits_with_3_on_a_malformed_line() {
    let folder = folder();
    let output = replay(folder.path(), &["--at", AT]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let alerts = alerts(&output);
    let ids: Vec<&str> = alerts.iter().map(|it| it["IndicatorId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["list.txt:203.0.113.0/24", "ti-1"]);
    assert_eq!(alerts[1]["VMConnection_TimeGenerated"], "2026-11-24T11:20:00Z");
    assert_eq!(alerts[1]["ConnectionCount"], 4);
    assert_eq!(alerts[1]["HostName"], "web01");
    assert_eq!(alerts[1]["ThreatType"], "C2");
    assert!(stderr(&output).starts_with("rows.jsonl:2: "), "{}", stderr(&output));
    assert!(!stderr(&output).contains('\u{1b}'));
}

#[test]
fn an_alert_can_be_the_exit_status() {
    let folder = folder();
    let output = replay(folder.path(), &["--at", AT, "--fail-on-alert"]);
    assert_eq!(output.status.code(), Some(4));
    // An hour later no row is in the window.
    let output = replay(folder.path(), &["--at", "2026-11-24T13:00:00Z", "--fail-on-alert"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(alerts(&output), Vec::<Value>::new());
}

#[test]
fn live_raises_the_first_hit_and_sums_the_rest_up() {
    let folder = folder();
    let output = replay(folder.path(), &["--live"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let alerts = alerts(&output);
    let of = |id: &str| -> Vec<(String, u64)> {
        let fits = alerts.iter().filter(|alert| alert["IndicatorId"] == id);
        fits.map(|it| {
            (it["AlertKind"].as_str().unwrap().to_owned(), it["ConnectionCount"].as_u64().unwrap())
        })
        .collect()
    };
    for id in ["ti-1", "list.txt:203.0.113.0/24"] {
        assert_eq!(of(id), [("new".to_owned(), 2), ("summary".to_owned(), 2)], "{id}");
    }
    assert!(stderr(&output).starts_with("rows.jsonl:2: "), "{}", stderr(&output));
    // The same input, the same bytes.
    assert_eq!(replay(folder.path(), &["--live"]).stdout, output.stdout);
}

#[test]
fn alerts_go_to_a_file_and_a_full_disk_is_named() {
    let folder = folder();
    let output = replay(folder.path(), &["--at", AT, "--out", "alerts.jsonl"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0));
    let written = std::fs::read_to_string(folder.path().join("alerts.jsonl")).unwrap();
    assert_eq!(written.lines().count(), 2);
    for mode in [&["--at", AT][..], &["--live"]] {
        let output = replay(folder.path(), &[mode, &["--out", "/dev/full"]].concat());
        assert_eq!(output.status.code(), Some(1));
        let message = stderr(&output).lines().last().unwrap();
        assert!(message.starts_with("netsensor: write /dev/full"), "{message}");
        assert!(message.contains("No space left on device"), "{message}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let folder = folder();
    std::fs::remove_file(folder.path().join("rows.jsonl")).unwrap();
    for mode in [&["--at", AT][..], &["--live"]] {
        let output = replay(folder.path(), mode);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            stderr(&output),
            "netsensor: read rows.jsonl: No such file or directory (os error 2)\n"
        );
    }
}
