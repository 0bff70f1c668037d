//! The parquet sink beside others: its ledger balances, and it delays no other sink.

use std::path::Path;
use std::time::Duration;

use sensor_tests::{
    Collector, RunningSinks, captured_logs, python_with_duckdb, query_duckdb, skip_unless,
};
use sensor_user::deliver::{ParquetConfig, SinkConfig, SinkKind};
use serde_json::json;

use super::{first, http, start, wait_until};

fn parquet(folder: &Path, file_rows: u64, file_age: Duration) -> SinkConfig {
    let kind = SinkKind::Parquet(ParquetConfig {
        folder: folder.to_owned(),
        file_rows,
        file_age,
        max_bytes: ParquetConfig::MAX_BYTES,
        max_age: ParquetConfig::MAX_AGE,
    });
    SinkConfig {
        alerts: false,
        rows: true,
        queue: 1000,
        batch: 10,
        ..SinkConfig::new("tables".to_owned(), kind)
    }
}

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.filter(|entry| entry.as_ref().unwrap().path().extension().unwrap() == "parquet").count()
}

fn rows(running: &RunningSinks, ids: std::ops::Range<u32>) {
    let ids: Vec<String> = ids.map(|id| format!("r{id}")).collect();
    running.rows(&ids.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn every_delivered_row_is_in_exactly_one_file() {
    let python = python_with_duckdb();
    if skip_unless(python.is_some(), "no Python package duckdb; cargo xtask test installs it") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("rows");
    let running = start(&[parquet(&folder, 40, Duration::from_hours(1))]);
    running.report_loss();
    rows(&running, 0..95);
    wait_until("two files", || files(&folder) == 2);
    wait_until("their rows", || running.stats.rows_delivered.value() == 80);
    let (value, left) = running.drain();
    assert_eq!(left, []);
    assert_eq!((value("rows_delivered"), value("parquet_files_written")), (95, 3));
    let all = format!("FROM read_parquet('{}/VMConnection-*.parquet')", folder.display());
    let query = format!("SELECT count(*) AS n, count(DISTINCT ConnectionId) AS ids {all}");
    let found = query_duckdb(&python.unwrap(), &[], &[query]);
    assert_eq!(found, [json!([{ "n": 95, "ids": 95 }])]);
}

#[test]
fn a_file_is_written_at_its_maximum_age() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("rows");
    let running = start(&[parquet(&folder, 1000, Duration::from_millis(50))]);
    rows(&running, 0..3);
    wait_until("a file", || running.stats.rows_delivered.value() == 3);
    assert_eq!(files(&folder), 1);
    drop(running.drain());
}

#[test]
fn unwritable_rows_are_logged_and_counted_without_delay_for_other_sinks() {
    let collector = Collector::start(first(vec![]));
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("rows");
    std::fs::write(&folder, "not a directory").unwrap();
    let blocked = parquet(&folder, 20, Duration::from_hours(1));
    let blocked = SinkConfig { name: "blocked".to_owned(), ..blocked };
    let sinks = [blocked, http("http", &collector, 100)];
    let running = start(&sinks);
    rows(&running, 0..60);
    wait_until("the other sink", || running.stats.rows_delivered.value() == 60);
    let (value, left) = running.drain();
    assert_eq!(
        left.iter().map(|it| (it.sink.as_str(), it.rows)).collect::<Vec<_>>(),
        [("blocked", 60)]
    );
    assert_eq!((value("rows_delivered"), value("rows_dropped_shutdown")), (60, 60));
    assert!(value("deliveries_retried") > 0);
    let lines = captured_logs("sink=\"blocked\"");
    let error = format!("write {}", folder.display());
    assert!(lines.iter().any(|line| line.contains(&error)), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("undelivered rows dropped")), "{lines:?}");
}
