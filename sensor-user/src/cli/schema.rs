//! `netsensor schema`: definitions of the tables, in the notations of storage and query systems.

use std::fmt::Write as _;

use serde_json::json;

use crate::schema::parquet::{ColumnarError, parquet_schema};
use crate::schema::{Column, ColumnType, EVENT_TIME, Table, custom_column};

/// Notation of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A JSON document.
    Json,
    /// Management commands of Azure Data Explorer, one per table.
    Kql,
    /// Bodies for the Tables API of Log Analytics: custom tables, whose names end in `_CL`.
    Azure,
    /// Stream declarations of data collection rules, for these tables.
    Dcr,
    /// DDL statements of `DuckDB`, one per table.
    Sql,
    /// The schemas of the Parquet files, in Parquet's notation.
    Parquet,
}

/// Definition of `tables`, with a line end.
pub fn print(tables: &[&Table], format: Format) -> Result<String, ColumnarError> {
    Ok(match format {
        Format::Parquet => {
            let each: Result<Vec<String>, _> = tables.iter().map(|it| parquet_schema(it)).collect();
            each?.concat()
        }
        Format::Json => document(&tables.iter().map(|table| listing(table)).collect::<Vec<_>>()),
        Format::Azure => document(&tables.iter().map(|table| custom(table)).collect::<Vec<_>>()),
        Format::Dcr => document(&tables.iter().map(|table| stream(table)).collect::<Vec<_>>()),
        Format::Kql => tables.iter().fold(String::new(), |mut text, table| {
            let columns =
                columns(table, |it| format!("{}: {}", kql_name(it.name), kql(it.column_type)));
            let _infallible = writeln!(text, ".create-merge table {} (\n{columns}\n)", table.name);
            text
        }),
        Format::Sql => tables.iter().fold(String::new(), |mut text, table| {
            let columns = columns(table, |it| {
                let not_null = if it.nullable { "" } else { " NOT NULL" };
                format!("\"{}\" {}{not_null}", it.name, sql(it.column_type))
            });
            let _infallible =
                writeln!(text, "CREATE TABLE IF NOT EXISTS \"{}\" (\n{columns}\n);", table.name);
            text
        }),
    })
}

fn columns(table: &Table, line: impl Fn(&Column) -> String) -> String {
    let lines: Vec<String> = table.columns.iter().map(|it| format!("    {}", line(it))).collect();
    lines.join(",\n")
}

fn listing(table: &Table) -> serde_json::Value {
    let column = |it: &Column| {
        json!({
            "name": it.name,
            "type": kql(it.column_type),
            "nullable": it.nullable,
            "microsoft": it.microsoft,
        })
    };
    json!({ "table": table.name, "columns": table.columns.iter().map(column).collect::<Vec<_>>() })
}

/// Request body that creates a custom table.
fn custom(table: &Table) -> serde_json::Value {
    let name = format!("{}_CL", table.name);
    json!({ "properties": { "schema": { "name": name, "columns": custom_columns(table) } } })
}

/// The stream of a data collection rule that fills the custom table.
fn stream(table: &Table) -> serde_json::Value {
    let name = format!("Custom-{}_CL", table.name);
    json!({ "streamDeclarations": { name: { "columns": custom_columns(table) } } })
}

/// Columns that a custom table can have, and the original time of the row.
fn custom_columns(table: &Table) -> Vec<serde_json::Value> {
    let own =
        table.columns.iter().filter_map(|it| custom_column(it.name).zip(Some(kql(it.column_type))));
    let all = own.chain([(EVENT_TIME, kql(ColumnType::DateTime))]);
    all.map(|(name, kind)| json!({ "name": name, "type": kind })).collect()
}

fn document(tables: &[serde_json::Value]) -> String {
    let value = match tables {
        [one] => one.clone(),
        all => all.into(),
    };
    // Serialisation fails only for maps with keys that are not text.
    let mut text = serde_json::to_string_pretty(&value).unwrap_or_default();
    text.push('\n');
    text
}

/// Names that do not begin with a letter are quoted.
fn kql_name(name: &str) -> String {
    if name.starts_with('_') { format!("['{name}']") } else { name.to_owned() }
}

const fn kql(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::DateTime => "datetime",
        ColumnType::Text => "string",
        ColumnType::Int => "int",
        ColumnType::Long => "long",
        ColumnType::Real => "real",
        ColumnType::Bool => "bool",
        ColumnType::Texts => "dynamic",
    }
}

const fn sql(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::DateTime => "TIMESTAMP WITH TIME ZONE",
        ColumnType::Text => "VARCHAR",
        ColumnType::Int => "INTEGER",
        ColumnType::Long => "BIGINT",
        ColumnType::Real => "DOUBLE",
        ColumnType::Bool => "BOOLEAN",
        ColumnType::Texts => "VARCHAR[]",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::schema::{ConnectionRow, TABLES};

    #[test]
    fn every_format_has_every_column() {
        for table in TABLES {
            for format in [Format::Json, Format::Kql, Format::Sql, Format::Parquet] {
                let text = print(&[table], format).unwrap();
                for column in table.columns {
                    assert!(text.contains(column.name), "{}: {format:?}", column.name);
                }
            }
            let custom = print(&[table], Format::Azure).unwrap();
            assert!(custom.contains(&format!("\"{}_CL\"", table.name)));
            assert!(!custom.contains("\"Type\"") && !custom.contains("\"_"), "{custom}");
            let stream: Value =
                serde_json::from_str(&print(&[table], Format::Dcr).unwrap()).unwrap();
            let custom: Value = serde_json::from_str(&custom).unwrap();
            assert_eq!(
                stream["streamDeclarations"][format!("Custom-{}_CL", table.name)]["columns"],
                custom["properties"]["schema"]["columns"]
            );
        }
        let sql = print(&[&ConnectionRow::TABLE], Format::Sql).unwrap();
        assert!(sql.contains("    \"Severity\" INTEGER,\n"), "{sql}");
        assert!(sql.contains("    \"LinksLive\" BIGINT NOT NULL,\n"), "{sql}");
        assert!(
            print(&[&ConnectionRow::TABLE], Format::Kql)
                .unwrap()
                .contains("    ['_ResourceId']: string,\n")
        );
    }
}
