//! The tables are what serde writes, and every format has every column.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Map, Value};

use super::bound_port_row::BoundPortRow;
use super::connection_row::Row;
use super::process_row::ProcessRow;
use super::*;
use crate::schema::ComputerRow;

/// What serde writes of `full`, which has everything, and of `empty`, which has nothing, is what
/// the table says: these columns in this order, of these types, null where they may be.
fn assert_fits(table: &Table, full: &impl Serialize, empty: &impl Serialize) {
    let object = |row: &str| -> Map<String, Value> { serde_json::from_str(row).unwrap() };
    let (full, empty) =
        (serde_json::to_string(full).unwrap(), serde_json::to_string(empty).unwrap());
    let mut place = 0;
    for column in table.columns {
        let key = format!("\"{}\":", column.name);
        let at = full.find(&key).unwrap_or_else(|| panic!("{} is not written", column.name));
        assert!(at > place, "{} is written elsewhere", column.name);
        place = at;
        for (row, may_be_null) in [(object(&full), false), (object(&empty), column.nullable)] {
            let value = &row[column.name];
            let fits = match column.kind {
                _ if may_be_null => value.is_null(),
                Kind::DateTime => {
                    value.as_str().is_some_and(|it| it.parse::<jiff::Timestamp>().is_ok())
                }
                Kind::Text => value.is_string(),
                Kind::Int => value.as_i64().is_some_and(|it| i32::try_from(it).is_ok()),
                Kind::Long => value.is_i64() || value.is_u64(),
                Kind::Real => value.is_f64(),
                Kind::Bool => value.is_boolean(),
                Kind::Texts => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
            };
            assert!(fits, "{} is {value}, not {:?}", column.name, column.kind);
        }
    }
    let names: HashSet<&str> = table.columns.iter().map(|column| column.name).collect();
    assert_eq!(names.len(), table.columns.len(), "each name once");
    let more: Vec<String> = object(&full)
        .into_iter()
        .map(|(name, _)| name)
        .filter(|it| !names.contains(&**it))
        .collect();
    assert_eq!(more, [""; 0], "written, but not in the table");
}

#[test]
fn a_row_of_vm_connection_has_the_columns_of_its_table() {
    let full = Row {
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
        r#type: Row::TYPE.to_owned(),
        ..Row::default()
    };
    assert_fits(&CONNECTION, &full, &Row::default());
    assert_eq!(CONNECTION.name, Row::TYPE);
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
        network_namespace: Some(u32::MAX),
        ..BoundPortRow::default()
    };
    assert_fits(&BOUND_PORT, &port, &BoundPortRow::default());
    let process = ProcessRow {
        start_time: time,
        first_pid: some,
        services: vec![String::new()],
        billed_size: Some(1.5),
        ..ProcessRow::default()
    };
    assert_fits(&PROCESS, &process, &ProcessRow::default());
    let computer = ComputerRow {
        boot_time: time,
        cpus: some,
        cpu_speed: some,
        physical_memory_mb: Some(u64::MAX),
        dns_names: vec![String::new()],
        ..ComputerRow::default()
    };
    assert_fits(&COMPUTER, &computer, &ComputerRow::default());
    assert_eq!((BOUND_PORT.name, PROCESS.name), (BoundPortRow::TYPE, ProcessRow::TYPE));
}
