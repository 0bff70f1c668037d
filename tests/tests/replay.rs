//! `netsensor replay` through the command line: both modes, exit statuses, malformed input.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;

use sensor_tests::{agent_command, run_on_pty};
use serde_json::{Value, json};
use tempfile::TempDir;

const AT: &str = "2026-11-24T12:00:00Z";

/// A directory with three connection rows (one malformed line between them) and two feeds.
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
    agent_command(folder, &words).current_dir(folder).output().unwrap()
}

fn alerts(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn at_gives_one_alert_per_pair_and_exits_with_3_on_a_malformed_line() {
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
fn live_raises_the_first_hit_and_summarizes_the_rest() {
    let folder = folder();
    let output = replay(folder.path(), &["--live"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let alerts = alerts(&output);
    let of = |id: &str| -> Vec<(String, u64)> {
        let matching = alerts.iter().filter(|alert| alert["IndicatorId"] == id);
        matching
            .map(|it| {
                (
                    it["AlertKind"].as_str().unwrap().to_owned(),
                    it["ConnectionCount"].as_u64().unwrap(),
                )
            })
            .collect()
    };
    for id in ["ti-1", "list.txt:203.0.113.0/24"] {
        assert_eq!(of(id), [("new".to_owned(), 2), ("summary".to_owned(), 2)], "{id}");
    }
    assert!(stderr(&output).starts_with("rows.jsonl:2: "), "{}", stderr(&output));
    // The same input gives the same bytes.
    assert_eq!(replay(folder.path(), &["--live"]).stdout, output.stdout);
}

#[test]
fn alerts_are_written_to_a_file_and_a_full_disk_is_an_error() {
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

/// Remote address and indicator of each alert that the indicators in `files` raise.
fn alerted(folder: &Path, files: &[&Path], mode: &[&str]) -> Vec<(String, String)> {
    let mut replay =
        agent_command(folder, &["replay", "--connections", "rows.jsonl", "--indicators"]);
    let output = replay.args(files).args(mode).current_dir(folder).output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""), "{files:?}");
    let mut all: Vec<_> = alerts(&output)
        .iter()
        .map(|it| ["RemoteIp", "IndicatorId"].map(|column| it[column].as_str().unwrap().to_owned()))
        .map(|[remote, id]| (remote, id))
        .collect();
    all.sort();
    all
}

/// Responses of a server that ignores `dedup=false`: the deletion of an unknown decision is of its address.
#[test]
fn saved_responses_of_crowdsec_are_applied_in_their_order() {
    let folder = folder();
    let decision = |id: u32, value: &str| {
        json!({ "id": id, "duration": "4h", "origin": "cscli", "scenario": "x", "scope": "Ip",
            "type": "ban", "value": value })
    };
    let (host, other) = ("203.0.113.7", "192.0.2.1");
    // The malformed row would be an error here.
    let rows = std::fs::read_to_string(folder.path().join("rows.jsonl")).unwrap();
    let rows: Vec<&str> = rows.lines().filter(|line| !line.contains('\u{1b}')).collect();
    std::fs::write(folder.path().join("rows.jsonl"), rows.join("\n")).unwrap();
    for (first, second, expected) in [
        (vec![decision(1, host)], json!({ "deleted": [decision(2, host)] }), &[][..]),
        (vec![decision(1, host)], json!({ "deleted": [decision(1, host)] }), &[]),
        (vec![decision(1, host)], json!({ "deleted": [decision(2, other)] }), &["1"]),
        (
            vec![decision(1, host)],
            json!({ "new": [decision(3, host)], "deleted": [decision(2, host)] }),
            &["1", "3"],
        ),
        (
            vec![decision(1, host), decision(2, host)],
            json!({ "deleted": [decision(2, host)] }),
            &["1"],
        ),
        (
            vec![decision(1, host), decision(4, other), decision(5, other)],
            json!({ "deleted": [decision(2, host)] }),
            &["1", "4", "5"],
        ),
    ] {
        let names = ["first.json", "second.json"].map(|name| folder.path().join(name));
        std::fs::write(&names[0], json!({ "new": first, "deleted": null }).to_string()).unwrap();
        std::fs::write(&names[1], second.to_string()).unwrap();
        let files: Vec<&Path> = names.iter().map(PathBuf::as_path).collect();
        let mut ids: Vec<String> =
            alerted(folder.path(), &files, &["--at", AT]).into_iter().map(|(_, id)| id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids, expected, "{second}");
    }
}

/// A private address in the event, which the reader rejects.
const PRIVATE: &str = "10.10.30.110";

/// A MISP event, and the STIX bundle that MISP exports for it.
#[test]
fn stix_misp_and_lists_give_the_same_addresses() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let [misp, stix] = ["misp", "stix"].map(|kind| fixtures.join(kind).join("fallchill.json"));
    let event: Value = serde_json::from_slice(&std::fs::read(&misp).unwrap()).unwrap();
    let attributes = event["Event"]["Attribute"].as_array().unwrap();
    let alone = |it: &&Value| it["type"] == "ip-dst";
    let addresses: Vec<_> =
        attributes.iter().filter(alone).map(|it| it["value"].as_str().unwrap()).collect();
    assert!(addresses.len() == 87);
    let folder = tempfile::tempdir().unwrap();
    let row = |remote: &&str| {
        json!({
            "TimeGenerated": "2026-11-24T11:30:00Z", "Computer": "web01", "RemoteIp": remote,
            "Direction": "outbound", "DestinationIp": remote, "DestinationPort": 443,
        })
        .to_string()
    };
    let rows: Vec<String> = addresses.iter().chain(&["203.0.113.7"]).map(row).collect();
    std::fs::write(folder.path().join("rows.jsonl"), rows.join("\n")).unwrap();
    let list = folder.path().join("list.txt");
    std::fs::write(&list, addresses.join("\n")).unwrap();
    for mode in [&["--at", AT][..], &["--live"]] {
        let found = |files: &[&Path]| alerted(folder.path(), files, mode);
        let remotes = |alerts: &[(String, String)]| {
            alerts.iter().map(|(remote, _)| remote.clone()).collect::<BTreeSet<_>>()
        };
        let is_used = |address: &&&str| **address != PRIVATE;
        let wanted = addresses.iter().filter(is_used).map(|it| (*it).to_owned());
        let wanted: BTreeSet<_> = wanted.collect();
        let of_misp = found(&[&misp]);
        assert_eq!(remotes(&of_misp), wanted);
        let of_stix = found(&[&stix]);
        assert_eq!(remotes(&of_stix), wanted);
        let of_list = found(&[&list]);
        assert_eq!(remotes(&of_list), wanted);
        let id = attributes.iter().find(alone).unwrap()["uuid"].as_str().unwrap();
        assert!(of_misp.iter().any(|(_, it)| it == id));
        assert!(of_stix.iter().any(|(_, it)| *it == format!("indicator--{id}")));
        // An id is reported once, whichever other files are read.
        assert_eq!(found(&[&misp, &misp]), of_misp);
        let all = of_misp.len() + of_stix.len() + of_list.len();
        assert_eq!(found(&[&stix, &list, &misp, &stix]).len(), all);
    }
}

#[test]
fn a_malformed_indicator_is_named_and_a_truncated_document_refused() {
    let folder = folder();
    let object = |id: u32, pattern: &str| {
        json!({
            "type": "indicator", "id": format!("indicator--00000000-0000-4000-8000-00000000000{id}"),
            "created": "2026-11-01T00:00:00Z", "modified": "2026-11-01T00:00:00Z",
            "valid_from": "2026-11-01T00:00:00Z", "pattern_type": "stix", "pattern": pattern,
        })
    };
    let good = object(1, "[ipv4-addr:value = '203.0.113.7']");
    let bundle = json!({
        "type": "bundle", "id": "bundle--1",
        "objects": [good, object(2, "[ipv4-addr:value = \u{1b}")],
    });
    let text = bundle.to_string();
    std::fs::write(folder.path().join("ti.jsonl"), &text).unwrap();
    let output = replay(folder.path(), &["--at", AT]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let prefix = "ti.jsonl:2: the pattern cannot be read: ";
    assert!(stderr(&output).starts_with(prefix), "{}", stderr(&output));
    assert!(!stderr(&output).contains('\u{1b}'));
    assert_eq!(alerts(&output).len(), 2, "one of the list, one of the good indicator");
    std::fs::write(folder.path().join("ti.jsonl"), text.split_at(text.len() / 2).0).unwrap();
    let output = replay(folder.path(), &["--at", AT]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let message = stderr(&output);
    assert!(message.starts_with("netsensor: read ti.jsonl: the body ends early"), "{message}");
}

#[test]
fn a_missing_file_is_named() {
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

/// The terminal output of `netsensor replay`.
fn terminal_output(more: &[&str], variable: (&str, &str)) -> String {
    let folder = folder();
    let words = ["replay", "--at", AT, "--connections", "rows.jsonl", "--indicators", "ti.jsonl"];
    let words: Vec<&str> = words.into_iter().chain(more.iter().copied()).collect();
    let mut command = agent_command(folder.path(), &words);
    command.current_dir(folder.path());
    let (output, text) = run_on_pty(command, variable);
    assert_eq!((output.status.code(), alerts(&output).len()), (Some(3), 1));
    text
}

#[test]
fn a_terminal_shows_a_progress_bar_and_complete_messages() {
    let text = terminal_output(&[], ("LANG", "C"));
    assert!(text.contains("\u{1b}[") && text.contains(" left"), "no bar: {text:?}");
    assert!(text.contains("rows.jsonl:2: "), "{text:?}");
    assert!(text.ends_with("\u{1b}[2K"), "removed at the end: {text:?}");
}

#[test]
fn no_progress_bar_without_a_terminal_or_if_disabled() {
    for (more, variable) in
        [(&["--quiet"][..], ("LANG", "C")), (&[], ("NO_COLOR", "1")), (&[], ("TERM", "dumb"))]
    {
        let text = terminal_output(more, variable);
        assert!(!text.contains('\u{1b}') && !text.contains(" left"), "{variable:?}: {text:?}");
        assert!(text.contains("rows.jsonl:2: "), "{text:?}");
    }
    let folder = folder();
    let piped = replay(folder.path(), &["--at", AT]);
    assert!(!stderr(&piped).contains('\u{1b}') && !stderr(&piped).contains(" left"));
}
