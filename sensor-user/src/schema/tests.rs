//! Tables have the columns that serde writes.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Map, Value};

use super::*;

/// Checks that serde writes the columns of `table` in this order and of these types, and that only
/// nullable columns are null. All columns of `full` have a value, all of `empty` are empty.
fn assert_fits(table: &Table, full: &impl Serialize, empty: &impl Serialize) {
    let object = |row: &str| -> Map<String, Value> { serde_json::from_str(row).unwrap() };
    let (full, empty) =
        (serde_json::to_string(full).unwrap(), serde_json::to_string(empty).unwrap());
    let mut offset = 0;
    for column in table.columns {
        let key = format!("\"{}\":", column.name);
        let at = full.find(&key).unwrap_or_else(|| panic!("{} is not written", column.name));
        assert!(at > offset, "{} is out of order", column.name);
        offset = at;
        for (row, may_be_null) in [(object(&full), false), (object(&empty), column.nullable)] {
            let value = &row[column.name];
            let fits = match column.column_type {
                _ if may_be_null => value.is_null(),
                ColumnType::DateTime => {
                    value.as_str().is_some_and(|it| it.parse::<jiff::Timestamp>().is_ok())
                }
                ColumnType::Text => value.is_string(),
                ColumnType::Int => value.as_i64().is_some_and(|it| i32::try_from(it).is_ok()),
                ColumnType::Long => value.is_i64() || value.is_u64(),
                ColumnType::Real => value.is_f64(),
                ColumnType::Bool => value.is_boolean(),
                ColumnType::Texts => {
                    value.as_array().is_some_and(|all| all.iter().all(Value::is_string))
                }
            };
            assert!(fits, "{} is {value}, not {:?}", column.name, column.column_type);
        }
    }
    let names: HashSet<&str> = table.columns.iter().map(|column| column.name).collect();
    assert_eq!(names.len(), table.columns.len(), "a name occurs twice");
    let more: Vec<String> = object(&full)
        .into_iter()
        .map(|(name, _)| name)
        .filter(|it| !names.contains(&**it))
        .collect();
    assert_eq!(more, [""; 0], "written, but not in the table");
}

#[test]
fn a_row_of_vm_connection_has_the_columns_of_its_table() {
    let full = ConnectionRow {
        responses: Some(1),
        response_time_min: Some(2),
        response_time_max: Some(3),
        response_time_sum: Some(5),
        remote_latitude: Some(47.5),
        remote_longitude: Some(-122.5),
        severity: Some(3),
        billed_size: Some(1.5),
        process_id: Some(4_194_304),
        rtt_min_us: Some(7),
        rtt_max_us: Some(8),
        r#type: ConnectionRow::TABLE.name.to_owned(),
        ..ConnectionRow::default()
    };
    assert_fits(&ConnectionRow::TABLE, &full, &ConnectionRow::default());
}

#[test]
fn rows_of_the_host_have_the_columns_of_their_tables() {
    let (some, time) = (Some(4_194_304), Some(jiff::Timestamp::UNIX_EPOCH));
    let port = BoundPortRow {
        is_wildcard_bind: Some(true),
        responses: Some(1),
        response_time_min: Some(2),
        response_time_max: Some(3),
        response_time_sum: Some(5),
        billed_size: Some(1.5),
        network_namespace: Some(u32::MAX.into()),
        ..BoundPortRow::default()
    };
    assert_fits(&BoundPortRow::TABLE, &port, &BoundPortRow::default());
    let process = ProcessRow {
        start_time: time,
        first_pid: some,
        services: vec![String::new()],
        billed_size: Some(1.5),
        ..ProcessRow::default()
    };
    assert_fits(&ProcessRow::TABLE, &process, &ProcessRow::default());
    let computer = ComputerRow {
        boot_time: time,
        cpus: some,
        cpu_speed: some,
        physical_memory_mb: Some(u64::MAX),
        dns_names: vec![String::new()],
        ..ComputerRow::default()
    };
    assert_fits(&ComputerRow::TABLE, &computer, &ComputerRow::default());
}
