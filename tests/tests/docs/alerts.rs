//! The columns of an alert, compared with the document on alerts.

use std::collections::BTreeSet;

use sensor_tests::agent_command;

use super::markdown::document;
use super::repository;

#[test]
fn every_column_of_an_alert_is_described() {
    let home = tempfile::tempdir().unwrap();
    let example = |name: &str| repository().join("examples").join(name).display().to_string();
    let (connections, indicators) = (example("recording.jsonl"), example("indicators.jsonl"));
    let arguments =
        ["replay", "--live", "--connections", &connections, "--indicators", &indicators];
    let output = agent_command(home.path(), &arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let first = String::from_utf8(output.stdout).unwrap().lines().next().unwrap().to_owned();
    let alert: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&first).unwrap();
    let columns: BTreeSet<&str> = alert.keys().map(String::as_str).collect();
    let rows = document("docs/alerts.md").rows_under(0, "column");
    let described: BTreeSet<&str> =
        rows.iter().flat_map(|row| &row[0].code).map(String::as_str).collect();
    assert_eq!(described, columns);
}
