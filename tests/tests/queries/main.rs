//! The queries of docs/queries, run on Parquet files with a known workload.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

mod expected;
mod formats;
mod workload;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sensor_tests::{python_with_duckdb, query_duckdb, skip_unless};
use serde_json::Value;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

/// Python with `DuckDB`; without it the running test is skipped.
fn python() -> Option<PathBuf> {
    let python = python_with_duckdb();
    if skip_unless(python.is_some(), "no Python package duckdb; cargo xtask test installs it") {
        return None;
    }
    python
}

/// SQL statements that create a view of each table over the Parquet files of a directory.
fn views(folder: &Path, tables: &[&str]) -> Vec<String> {
    let view = |table: &&str| {
        let files = folder.join(format!("{table}*.parquet"));
        format!("CREATE VIEW {table} AS SELECT * FROM read_parquet('{}')", files.display())
    };
    tables.iter().map(view).collect()
}

#[test]
fn each_query_has_the_expected_result() {
    let Some(python) = python() else { return };
    let mut queries = BTreeMap::new();
    for entry in std::fs::read_dir(format!("{DOCS}/queries")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        queries.insert(name, std::fs::read_to_string(&path).unwrap());
    }
    assert!(queries.len() >= 10);
    let described = std::fs::read_to_string(format!("{DOCS}/queries.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tables = workload::write(folder.path());
    let texts: Vec<String> = queries.values().cloned().collect();
    let found = query_duckdb(&python, &views(folder.path(), &tables), &texts);
    assert_eq!(found.len(), queries.len());
    let mut expected_results = expected::results();
    for (name, found) in queries.keys().zip(found) {
        assert!(described.contains(&format!("[{name}](queries/{name}.sql)")), "{name}");
        let expected: Value = expected_results.remove(name.as_str()).unwrap_or_default();
        assert_eq!(found, expected, "{name}: {found}");
    }
    assert!(expected_results.is_empty(), "results without a query: {:?}", expected_results.keys());
}
