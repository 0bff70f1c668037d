//! The command line: arguments, a function a command, screens and exit codes.

pub mod args;
pub mod commands;
pub mod describe;
pub mod explain;
pub mod feeds_screen;
mod logging;
pub mod man;
pub mod outcome;

pub mod schema;
pub mod spool;
pub mod status_screen;
mod worker;
