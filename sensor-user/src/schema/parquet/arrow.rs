//! Arrow and Parquet schemas of a table.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowSchemaConverter;
use parquet::schema::printer::print_schema;

use super::ColumnarError;
use crate::schema::{Column, ColumnType, Table};

/// Returns the Arrow schema of `table`.
pub fn arrow_schema(table: &Table) -> SchemaRef {
    let field =
        |column: &Column| Field::new(column.name, data_type(column.column_type), column.nullable);
    Arc::new(Schema::new(table.columns.iter().map(field).collect::<Vec<_>>()))
}

fn data_type(column_type: ColumnType) -> DataType {
    match column_type {
        ColumnType::DateTime => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        ColumnType::Text => DataType::Utf8,
        ColumnType::Int => DataType::Int32,
        ColumnType::Long => DataType::Int64,
        ColumnType::Real => DataType::Float64,
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Texts => DataType::List(Arc::new(Field::new("element", DataType::Utf8, false))),
    }
}

/// Returns the Parquet schema of `table` in Parquet's notation.
pub fn parquet_schema(table: &Table) -> Result<String, ColumnarError> {
    let schema =
        ArrowSchemaConverter::new().schema_root(table.name).convert(&arrow_schema(table))?;
    let mut text = Vec::new();
    print_schema(&mut text, schema.root_schema());
    Ok(String::from_utf8_lossy(&text).into_owned())
}
