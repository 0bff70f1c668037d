//! Every JSON row becomes a Parquet row.

use arrow_array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::FileReader as _;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::Field;

use super::*;
use crate::schema::ConnectionRow;
use crate::schema::TABLES;

fn json(rows: &[ConnectionRow]) -> String {
    rows.iter().map(|row| serde_json::to_string(row).unwrap() + "\n").collect()
}

fn row(number: u64) -> ConnectionRow {
    ConnectionRow {
        time_generated: "2026-11-24T10:00:00Z".parse().unwrap(),
        process_name: "curl \"\u{1f600}\\ \n".to_owned(),
        links_live: number,
        remote_latitude: (number % 2 == 1).then_some(47.68),
        severity: (number % 3 == 1).then_some(5),
        process_id: Some(4711),
        ..ConnectionRow::default()
    }
}

#[test]
fn rows_are_read_back_unchanged() {
    let rows: Vec<ConnectionRow> = (0..3000).map(row).collect();
    let mut file = TableFile::new(&ConnectionRow::TABLE).unwrap();
    assert_eq!(file.append(&json(&rows)).unwrap(), 0);
    assert_eq!(file.rows(), 3000);
    assert!(file.memory() > 0);
    let bytes = file.finish().unwrap();
    assert!(bytes.len() < 3000 * 30, "{} bytes", bytes.len());
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    for (read, row) in reader.get_row_iter(None).unwrap().zip(&rows) {
        let read = read.unwrap();
        let column = |name: &str| {
            let mut all = read.get_column_iter();
            all.find_map(|(it, value)| (it == name).then(|| value.clone())).unwrap()
        };
        let micros = row.time_generated.as_microsecond();
        assert_eq!(column("TimeGenerated"), Field::TimestampMicros(micros));
        assert_eq!(column("ProcessName"), Field::Str(row.process_name.clone()));
        assert_eq!(column("LinksLive"), Field::Long(i64::try_from(row.links_live).unwrap()));
        assert_eq!(
            column("RemoteLatitude"),
            row.remote_latitude.map_or(Field::Null, Field::Double)
        );
        assert_eq!(column("Severity"), row.severity.map_or(Field::Null, Field::Int));
        assert_eq!(column("ProcessId"), Field::Int(4711));
        assert_eq!(column("MaliciousIp"), Field::Str(String::new()));
    }
}

#[test]
fn only_a_row_that_does_not_fit_is_skipped() {
    let rows: Vec<ConnectionRow> = (0..10).map(row).collect();
    let mut lines: Vec<String> = json(&rows).lines().map(str::to_owned).collect();
    lines
        .insert(3, json(&[ConnectionRow { bytes_sent: u64::MAX, ..row(0) }]).trim_end().to_owned());
    lines.insert(5, "{\"TimeGenerated\":\"2026-11-24T10:00:00Z\"}".to_owned());
    lines.push("{\"TimeGenerated\":".to_owned());
    lines.push(lines[0].replacen('{', "{\"NoColumn\":1,", 1));
    let mut file = TableFile::new(&ConnectionRow::TABLE).unwrap();
    assert_eq!(file.append(&lines.join("\n")).unwrap(), 4);
    assert_eq!(file.append(&json(&rows)).unwrap(), 0);
    assert_eq!(file.rows(), 20);
    let bytes = bytes::Bytes::from(file.finish().unwrap());
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 20);
}

#[test]
fn every_table_has_a_parquet_schema_with_its_columns() {
    for table in TABLES {
        let text = parquet_schema(table).unwrap();
        assert!(text.starts_with(&format!("message {} {{", table.name)), "{text}");
        for column in table.columns {
            assert!(text.contains(&format!(" {}", column.name)), "{}: {text}", column.name);
        }
    }
    let text = parquet_schema(&ConnectionRow::TABLE).unwrap();
    for line in [
        "  REQUIRED INT64 TimeGenerated (TIMESTAMP(MICROS,true));",
        "  REQUIRED BYTE_ARRAY RemoteIp (STRING);",
        "  REQUIRED INT64 LinksLive;",
        "  OPTIONAL INT32 Severity;",
        "  OPTIONAL DOUBLE RemoteLatitude;",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
