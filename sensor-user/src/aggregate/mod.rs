//! Aggregate: Event to Flow at once, and to Row at the end of the minute.
mod flow;
mod row;
pub use flow::{Direction, Flow, Phase, Protocol};
pub use row::Row;
