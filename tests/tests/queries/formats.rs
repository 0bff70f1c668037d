//! JSON lines and Parquet files of `netsensor` have the same contents for `DuckDB`.

use std::path::Path;

use sensor_tests::{agent_command, query_duckdb};
use serde_json::json;

use super::python;

/// Writes a recording of connections: opened, established, and most closed in a later minute.
fn recording(folder: &Path) {
    let mut lines = Vec::new();
    for number in 1..=600_u64 {
        let remote = format!("198.51.100.{}", number % 40);
        let mut change = |second: u64, event: &str, sent: u64| {
            let time = format!("2026-11-24T10:{:02}:{:02}.5Z", second / 60, second % 60);
            let is = |name: &str| u64::from(event == name);
            let line = json!({
                "TimeGenerated": time, "Event": event, "ConnectionNumber": number,
                "Computer": "web01.example.net", "Direction": "outbound", "Protocol": "tcp",
                "SourceIp": "10.0.0.4", "SourcePort": 40000, "DestinationIp": remote,
                "DestinationPort": 443, "RemoteIp": remote,
                "LinksEstablished": is("established"), "LinksTerminated": is("closed"),
                "LinksFailed": is("failed"), "BytesSent": sent, "BytesReceived": sent * 3,
                "Attribution": "connect", "ProcessName": "curl \u{e9}\"", "ProcessId": 4711,
                "ProcessStartBootNs": 5, "ProcessPath": "/usr/bin/curl", "CommandLine": "curl",
                "UserId": 0, "UserName": "root", "ParentProcessId": 1,
                "ParentProcessName": "init", "CgroupId": 0, "ContainerId": "",
                "NetworkNamespace": 1, "ErrorNumber": 0, "RttUs": number, "DurationNs": 0,
                "Type": "VMConnection",
            });
            lines.push((second, line.to_string()));
        };
        let start = number / 2;
        change(start, "opened", 0);
        if number % 7 == 0 {
            change(start, "failed", 0);
            continue;
        }
        change(start, "established", 0);
        change(start + 70, "active", number);
        if number % 5 != 0 {
            change(start + 150, "closed", 2 * number);
        }
    }
    lines.sort_by_key(|(second, _)| *second);
    let text: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
    std::fs::write(folder.join("recorded.jsonl"), text.join("\n")).unwrap();
    std::fs::write(folder.join("list.txt"), "203.0.113.7\n").unwrap();
}

#[test]
fn a_recording_gives_the_same_rows_as_json_lines_and_as_parquet() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    recording(folder.path());
    std::fs::create_dir(folder.path().join("tables")).unwrap();
    for rows in ["rows.jsonl", "tables"] {
        let words = ["replay", "--live", "--connections", "recorded.jsonl", "--indicators"];
        let words: Vec<&str> = words.into_iter().chain(["list.txt", "--rows", rows]).collect();
        let output =
            agent_command(folder.path(), &words).current_dir(folder.path()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{errors}");
    }
    let schema =
        agent_command(folder.path(), &["schema", "VMConnection", "--format", "sql"]).output();
    let ddl = String::from_utf8(schema.unwrap().stdout).unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let first = [
        ddl,
        format!("COPY VMConnection FROM '{}' (FORMAT json)", path("rows.jsonl")),
        format!(
            "CREATE VIEW columns AS SELECT * FROM read_parquet('{}')",
            path("tables/VMConnection.parquet")
        ),
    ];
    let queries = [
        "SELECT count(*) AS n FROM (FROM VMConnection EXCEPT ALL FROM columns)",
        "SELECT count(*) AS n FROM (FROM columns EXCEPT ALL FROM VMConnection)",
        // The names and types are those of `netsensor schema`.
        "SELECT count(*) AS n FROM (
            (SELECT column_name, column_type FROM (DESCRIBE VMConnection))
            EXCEPT (SELECT column_name, column_type FROM (DESCRIBE columns)))",
        "SELECT sum(LinksEstablished) AS up, sum(LinksTerminated) AS down, sum(LinksFailed) AS no,
            sum(BytesSent) AS sent, sum(BytesReceived) AS received, min(RttMinUs) AS rtt,
            count(DISTINCT ConnectionId) = count(*) AS ids FROM columns",
    ];
    let found = query_duckdb(&python, &first, &queries.map(str::to_owned));
    assert_eq!(found[..3], [json!([{ "n": 0 }]), json!([{ "n": 0 }]), json!([{ "n": 0 }])]);
    let all = 1..=600_u64;
    let up: Vec<u64> = all.filter(|number| number % 7 != 0).collect();
    let down: Vec<u64> = up.iter().copied().filter(|number| number % 5 != 0).collect();
    let sent = up.iter().sum::<u64>() + 2 * down.iter().sum::<u64>();
    let expected = json!([{
        "up": up.len(), "down": down.len(), "no": 600 - up.len(), "sent": sent,
        "received": 3 * sent, "rtt": 1, "ids": true,
    }]);
    assert_eq!(found[3], expected);
}
