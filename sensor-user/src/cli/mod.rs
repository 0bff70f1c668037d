//! The command line: arguments, one function per command, text views and exit codes.

pub mod args;
pub mod commands;
mod config_schema;
pub mod describe;
pub mod explain;
pub mod feeds_view;
mod logging;
pub mod man;
pub mod outcome;
pub mod schema;
pub mod spool;
pub mod status_view;
mod worker;
