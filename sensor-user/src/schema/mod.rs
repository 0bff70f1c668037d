//! Schema: tables with their columns and row structs. `netsensor schema`, Parquet files and sinks follow
//! these declarations. Also events about the agent itself, and health.
//!
//! Invariant: a table's columns are those that serde writes for a row, in that order.

pub mod agent_event;
mod bound_port_row;
mod computer_row;
mod connection_row;
mod custom;
pub mod health;
pub mod parquet;
mod process_row;
mod table;
mod table_row;

pub use bound_port_row::BoundPortRow;
pub use computer_row::{Azure, ComputerRow, Resource};
pub use connection_row::ConnectionRow;
pub use custom::{EVENT_TIME, custom_column};
pub use process_row::ProcessRow;
pub use table::{Column, ColumnType, Table};
pub use table_row::TableRow;

/// Value of the column `SourceSystem` in all tables.
pub const SOURCE_SYSTEM: &str = "netsensor";

/// All tables.
pub const TABLES: &[&Table] =
    &[&ConnectionRow::TABLE, &BoundPortRow::TABLE, &ProcessRow::TABLE, &ComputerRow::TABLE];

/// Returns the table `name`.
pub fn table(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name).copied()
}

#[cfg(test)]
mod tests;
