//! The configuration file. `Config` is checked, typed and has its defaults; every problem of a file
//! is one line, `path:line: section.key: problem; remedy`.
//!
//! Each key is declared once, where it is read, by [`keys!`](key). The unknown keys and their hints,
//! the output of `netsensor check-config`, the tables in docs/configuration.md and the JSON Schema
//! follow from these declarations.

mod access;
mod document;
mod error;
mod feed;
mod file;
mod form;
mod key;
mod location;
mod model;
mod retired;
mod section;
mod sections;
mod sink;
mod sink_azure;
mod sink_http;
mod sink_kind;
mod sink_paths;
mod sink_stream;
mod source;

pub use document::declarations;
pub use error::ConfigError;
pub use file::SERVICE_FILE;
pub use key::{Key, KeyDefault, SectionKeys};
pub use model::{AgentConfig, AllowConfig, Config, DedupConfig, HealthConfig, RowsConfig};
pub use section::Problem;
pub use source::ConfigSource;

#[cfg(test)]
mod feed_tests;
#[cfg(test)]
mod sink_stream_tests;
#[cfg(test)]
mod sink_tests;
#[cfg(test)]
mod tests;
