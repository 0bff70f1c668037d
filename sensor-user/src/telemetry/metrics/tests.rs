//! The complete page, of an agent with every optional part: it has every counter, and
//! `docs/metrics.md` lists every metric.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::page::page;
use super::process::{ProcessMetrics, WorkerMetrics};
use super::text::MetricsFormat;
use crate::base::counters::{Declaration, KernelCounters, LOSSES, Stats};
use crate::privsep::WorkerKind;
use crate::telemetry::control::StatusReport;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
const BEGIN: &str = "<!-- metrics: written by the test `every_metric_is_documented` -->\n";
const END: &str = "<!-- end of metrics -->\n";

/// Status of an agent with every optional part, and a different value for each counter.
fn full_report() -> StatusReport {
    let time = "2026-11-28T05:00:00Z";
    let declared = KernelCounters::DECLARATIONS.iter().chain(Stats::DECLARATIONS);
    let counters: BTreeMap<&str, u64> = declared.map(|it| it.name).zip(1_000_001..).collect();
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
    serde_json::from_value(report).unwrap()
}

fn full_page(format: MetricsFormat) -> String {
    let worker =
        WorkerMetrics { kind: WorkerKind::SocketScan, cpu_seconds: 1.5, resident_bytes: 4096 };
    let process = ProcessMetrics { workers: vec![worker], ..ProcessMetrics::read() };
    page(&full_report(), &process, format)
}

#[test]
fn every_counter_is_exposed_once_besides_the_losses() {
    let page = full_page(MetricsFormat::Plain);
    let declared = || KernelCounters::DECLARATIONS.iter().chain(Stats::DECLARATIONS);
    let report = full_report();
    for counter in declared() {
        let end = format!(" {}", report.counters[counter.name]);
        let samples: Vec<&str> = page.lines().filter(|line| line.ends_with(&end)).collect();
        let is_loss = |line: &&&str| line.starts_with("netsensor_losses_total{");
        let losses = samples.iter().filter(is_loss).count();
        assert_eq!(losses, usize::from(counter.labels_in(&LOSSES).is_some()), "{}", counter.name);
        let is_only_loss = counter.family.iter().any(|sample| sample.family == &LOSSES);
        assert_eq!(samples.len() - losses, usize::from(!is_only_loss), "{}", counter.name);
    }
    for sample in declared().flat_map(Declaration::samples) {
        assert_eq!(sample.labels.len(), sample.family.labels.len(), "{sample:?}");
    }
}

#[test]
fn a_family_begins_once_and_is_never_empty() {
    for format in [MetricsFormat::Plain, MetricsFormat::OpenMetrics] {
        let page = full_page(format);
        let mut families: Vec<&str> =
            page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let count = families.len();
        families.sort_unstable();
        families.dedup();
        assert_eq!(families.len(), count);
        assert!(!page.contains("NaN") && !page.contains(" \n"), "{page}");
    }
}

/// The table of all families: name, labels, type, help text.
fn table(page: &str) -> String {
    let mut out = "| metric | labels | type | meaning |\n| --- | --- | --- | --- |\n".to_owned();
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

/// With `NETSENSOR_WRITE_DOCS=1` this writes the table.
#[test]
fn every_metric_is_documented() {
    let wanted = table(&full_page(MetricsFormat::Plain));
    let text = std::fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    if std::env::var_os("NETSENSOR_WRITE_DOCS").is_some() {
        std::fs::write(DOCUMENT, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        written, wanted,
        "stale; NETSENSOR_WRITE_DOCS=1 cargo test -p sensor-user --lib metrics"
    );
}
