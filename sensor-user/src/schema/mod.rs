//! Schema: which columns each table has, told once. What `netsensor schema` prints, the Parquet
//! files and a test of what is sent all follow these lists.
//!
//! Invariant: a list has the columns that serde writes for a row of the table, in that order.

pub mod agent_event;
mod bound_port_row;
mod computer_row;
mod connection_row;
pub mod health;
pub mod parquet;
mod process_row;
mod table_row;

mod connection;
mod custom;
mod host;

pub use bound_port_row::BoundPortRow;
pub use computer_row::{Azure, ComputerRow, Resource};
pub use connection::CONNECTION;
pub use connection_row::Row;
pub use custom::{EVENT_TIME, custom_column};
pub use host::{BOUND_PORT, COMPUTER, PROCESS};
pub use process_row::ProcessRow;
pub use table_row::TableRow;

/// A table of rows.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name, which is in the `Type` column of each row.
    pub name: &'static str,
    /// Its columns, in order.
    pub columns: &'static [Column],
}

/// A column of a table.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether it may be null. Text never is: it is "" where it is absent.
    pub nullable: bool,
    /// Whether Microsoft's table of that name has it; netsensor added the others.
    pub microsoft: bool,
}

/// What a column holds: the types of Log Analytics, by their names there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `datetime`: an instant, UTC. RFC 3339 in JSON.
    DateTime,
    /// `string`.
    Text,
    /// `int`: 32 bits.
    Int,
    /// `long`: 64 bits.
    Long,
    /// `real`: a double.
    Real,
    /// `bool`.
    Bool,
    /// `dynamic`: here always an array of strings.
    Texts,
}

impl Column {
    const fn of(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, nullable: false, microsoft: true }
    }

    const fn datetime(name: &'static str) -> Self {
        Self::of(name, Kind::DateTime)
    }

    const fn text(name: &'static str) -> Self {
        Self::of(name, Kind::Text)
    }

    const fn int(name: &'static str) -> Self {
        Self::of(name, Kind::Int)
    }

    const fn long(name: &'static str) -> Self {
        Self::of(name, Kind::Long)
    }

    const fn real(name: &'static str) -> Self {
        Self::of(name, Kind::Real)
    }

    const fn truth(name: &'static str) -> Self {
        Self::of(name, Kind::Bool)
    }

    const fn texts(name: &'static str) -> Self {
        Self::of(name, Kind::Texts)
    }

    /// The same, null where it is not known.
    const fn or_null(self) -> Self {
        Self { nullable: true, ..self }
    }

    /// The same, as a column that netsensor added.
    const fn ours(self) -> Self {
        Self { microsoft: false, ..self }
    }
}

/// Every table.
pub const TABLES: &[&Table] = &[&CONNECTION, &BOUND_PORT, &PROCESS, &COMPUTER];

/// The table of that name.
pub fn table(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name).copied()
}

#[cfg(test)]
mod tests;
