//! Suite `rule`: `replay --at` against the original detection rule.
//!
//! `vectors` has the known properties of the rule one by one, `properties` compares random input
//! with a reference model, `files` has the kinds of input, `malformed` has invalid input.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends with a panic")]

mod files;
mod malformed;
mod properties;
mod vectors;

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use sensor_user::base::progress::Progress;
use sensor_user::pipeline::dedup::Alert;
use sensor_user::replay::{AtOptions, AtSummary, RowChecks, at};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// The complete output of the rule.
#[derive(Debug)]
struct RuleOutput {
    alerts: Vec<Alert>,
    summary: AtSummary,
    rejects: String,
}

/// The time at which the rule runs.
fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

/// A time some minutes before `now` (after it, if negative).
fn ago(minutes: i64) -> String {
    (now() - SignedDuration::from_mins(minutes)).to_string()
}

/// A row of `ThreatIntelligenceIndicator`: `columns` over those of an active indicator of
/// 203.0.113.5, generated a day ago.
fn indicator(columns: Value) -> Value {
    let row = json!({
        "IndicatorId": "indicator-1",
        "TimeGenerated": ago(24 * 60),
        "Active": true,
        "ExpirationDateTime": ago(-30 * 24 * 60),
        "NetworkIP": "203.0.113.5",
        "NetworkDestinationIP": "",
        "NetworkSourceIP": "",
        "EmailSourceIpAddress": "",
        "ConfidenceScore": 80.0,
        "Description": "command and control",
        "ThreatType": "C2",
        "Type": "ThreatIntelligenceIndicator",
    });
    over(row, columns)
}

/// A row of `VMConnection`: `columns` over those of a connection to 203.0.113.5 ten minutes ago.
fn connection(columns: Value) -> Value {
    let row = json!({
        "TimeGenerated": ago(10),
        "Computer": "web01.corp.example.com",
        "Direction": "outbound",
        "ProcessName": "curl",
        "SourceIp": "10.0.0.5",
        "DestinationIp": "203.0.113.5",
        "DestinationPort": 443,
        "RemoteIp": "203.0.113.5",
        "Protocol": "tcp",
        "LinksEstablished": 1,
        "LinksFailed": 0,
        "BytesSent": 100,
        "BytesReceived": 200,
        "Type": "VMConnection",
    });
    over(row, columns)
}

fn connection_to(remote: &str) -> Value {
    connection(json!({ "RemoteIp": remote, "DestinationIp": remote }))
}

fn over(row: Value, columns: Value) -> Value {
    let (Value::Object(mut row), Value::Object(columns)) = (row, columns) else {
        return Value::Null;
    };
    row.extend(columns);
    Value::Object(row.into_iter().collect::<Map<_, _>>())
}

fn lines(rows: &[Value]) -> String {
    rows.iter().flat_map(|row| [row.to_string(), "\n".to_owned()]).collect()
}

/// Files in the test's own directory.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Removes the directory's name from a text.
    fn without_folder(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// Runs the rule at `now` on these files: one hour of rows, 14 days of indicators.
fn run_rule(files: &Files, indicators: &[&Path], connections: &[&Path]) -> RuleOutput {
    let options = AtOptions {
        connections: connections.iter().map(|path| path.to_path_buf()).collect(),
        indicators: indicators.iter().map(|path| path.to_path_buf()).collect(),
        at: now(),
        lookback: SignedDuration::from_hours(1),
        indicator_lookback: SignedDuration::from_hours(14 * 24),
        checks: RowChecks::Hits,
        progress: Progress::hidden(),
    };
    let (mut out, mut rejects) = (Vec::new(), Vec::new());
    let summary = at::run(&options, &mut out, &mut rejects).unwrap();
    let out = String::from_utf8(out).unwrap();
    let alerts: Vec<Alert> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(summary.alerts, alerts.len() as u64);
    RuleOutput {
        alerts,
        summary,
        rejects: files.without_folder(&String::from_utf8(rejects).unwrap()),
    }
}

/// The alerts for these rows.
fn alerts(indicators: &[Value], connections: &[Value]) -> Vec<Alert> {
    let files = Files::new();
    let indicators = files.write("indicators.json", lines(indicators));
    let connections = files.write("connections.json", lines(connections));
    let output = run_rule(&files, &[&indicators], &[&connections]);
    assert_eq!(output.summary.rows_rejected, 0, "{}", output.rejects);
    output.alerts
}

/// True if one indicator alerts on one connection.
fn alerts_on(indicator_columns: Value, connection: Value) -> bool {
    let alerts = alerts(&[indicator(indicator_columns)], &[connection]);
    assert!(alerts.len() <= 1, "{alerts:?}");
    !alerts.is_empty()
}
