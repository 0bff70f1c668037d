//! The whole page, of an agent of which everything is known: every counter is in it, and
//! `docs/metrics.md` lists it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::page;
use super::page::Vitals;
use super::process::ProcessVitals;
use super::process::WorkerVitals;
use super::text::Format;
use crate::base::counters::Stats;
use crate::privsep::WorkerKind;
use crate::telemetry::control::StatusReport;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
const BEGIN: &str = "<!-- metrics: made by the test `every_metric_is_documented` -->\n";
const END: &str = "<!-- end of metrics -->\n";

/// An agent that says everything, each counter with a value of its own.
fn vitals() -> Vitals {
    let time = "2026-11-28T05:00:00Z";
    let counters: BTreeMap<&str, u64> = Stats::default()
        .snapshot()
        .iter()
        .zip(1_000_001..)
        .map(|((name, _), value)| (*name, value))
        .collect();
    let report = serde_json::json!({
        "Type": "NetsensorStatus", "State": "OK", "Version": "1", "ProcessId": 7, "AgentId": "a",
        "Computer": "c", "Started": time, "Kernel": "6", "Object": "o", "Confined": "yes",
        "Components": [{ "Name": "n", "State": "OK", "Reason": "", "Since": time }],
        "Probes": [{ "Name": "p", "On": true, "Reason": "" }],
        "CanarySeen": time, "Ledger": { "Attempted": 1, "Received": 1, "RingFull": 0 },
        "Losses": [{ "Reason": "ring_full", "Kind": "tcp", "Count": 0 }],
        "Tables": [{ "Name": "t", "Entries": 1, "Max": 2 }],
        "History": { "Bytes": 1, "MaxBytes": 2 },
        "Set": { "Indicators": 2, "Hosts": 1, "Networks": 1 },
        "Feeds": [{
            "Name": "f", "Kind": "list", "Location": "", "State": "OK", "Reason": "",
            "Quarantined": false, "Indicators": 1, "LastPull": time, "LastGood": time,
            "Loaded": time, "Failures": 0, "Rejected": { "malformed": 1 }
        }],
        "Delivery": {
            "Spool": { "Bytes": 1, "MaxBytes": 2, "Segments": 1, "Oldest": time, "Error": "" },
            "Sinks": [{
                "Name": "s", "AlertsWaiting": 1, "RowsWaiting": 1, "OldestWaiting": time,
                "LastDelivered": time, "Error": "", "LastError": ""
            }]
        },
        "LastReload": { "Time": time, "Error": "", "WaitsForRestart": [] },
        "Counters": counters
    });
    let report: StatusReport = serde_json::from_value(report).unwrap();
    let worker =
        WorkerVitals { kind: WorkerKind::SocketScan, cpu_seconds: 1.5, resident_bytes: 4096 };
    let process = ProcessVitals { workers: vec![worker], ..ProcessVitals::read() };
    Vitals { report, process }
}

#[test]
fn every_counter_is_told_once() {
    let vitals = vitals();
    let page = page(&vitals, Format::Plain);
    for (name, value) in &vitals.report.counters {
        let end = format!(" {value}");
        assert_eq!(page.lines().filter(|line| line.ends_with(&end)).count(), 1, "{name}");
    }
}

#[test]
fn a_family_is_begun_once_and_is_never_empty() {
    for format in [Format::Plain, Format::OpenMetrics] {
        let page = page(&vitals(), format);
        let mut families: Vec<&str> =
            page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let count = families.len();
        families.sort_unstable();
        families.dedup();
        assert_eq!(families.len(), count);
        assert!(!page.contains("NaN") && !page.contains(" \n"), "{page}");
    }
}

/// A line of the table for each family: name, labels, kind, meaning.
fn table(page: &str) -> String {
    let mut out = "| metric | labels | kind | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|it| it.split_once(' '))
        else {
            continue;
        };
        let kind = lines.next().unwrap().rsplit(' ').next().unwrap();
        let sample = lines.peek().copied().unwrap_or_default();
        let labels = sample.split_once('{').and_then(|(_, it)| it.split_once('}'));
        let labels = labels.map_or_else(String::new, |(labels, _)| {
            let names = labels.split(',').filter_map(|it| it.split('=').next());
            names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        });
        writeln!(out, "| `{name}` | {labels} | {kind} | {help} |").unwrap();
    }
    out
}

/// With `NETSENSOR_WRITE_DOCS=1` it writes the table.
#[test]
fn every_metric_is_documented() {
    let wanted = table(&page(&vitals(), Format::Plain));
    let text = std::fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (there, after) = rest.split_once(END).unwrap();
    if std::env::var_os("NETSENSOR_WRITE_DOCS").is_some() {
        std::fs::write(DOCUMENT, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        there, wanted,
        "stale; NETSENSOR_WRITE_DOCS=1 cargo test -p sensor-user --lib metrics"
    );
}
