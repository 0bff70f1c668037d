//! A table's columns as the crates for Arrow and Parquet have them.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowSchemaConverter;
use parquet::schema::printer::print_schema;

use super::ColumnarError;
use crate::schema::{Kind, Table};

/// The columns of `table`, in order.
pub fn arrow_schema(table: &Table) -> SchemaRef {
    let field = |column: &crate::schema::Column| {
        Field::new(column.name, data_type(column.kind), column.nullable)
    };
    Arc::new(Schema::new(table.columns.iter().map(field).collect::<Vec<_>>()))
}

fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::DateTime => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        Kind::Text => DataType::Utf8,
        Kind::Int => DataType::Int32,
        Kind::Long => DataType::Int64,
        Kind::Real => DataType::Float64,
        Kind::Bool => DataType::Boolean,
        Kind::Texts => DataType::List(Arc::new(Field::new("element", DataType::Utf8, false))),
    }
}

/// The Parquet schema of `table`, in Parquet's own notation.
pub fn parquet_schema(table: &Table) -> Result<String, ColumnarError> {
    let schema =
        ArrowSchemaConverter::new().schema_root(table.name).convert(&arrow_schema(table))?;
    let mut text = Vec::new();
    print_schema(&mut text, schema.root_schema());
    Ok(String::from_utf8_lossy(&text).into_owned())
}
