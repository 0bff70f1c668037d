//! Delivery: the only way by which alerts and rows leave the host.
//!
//! The pipeline puts items into the `Outbox`, which never waits. Alerts go to the spool on disk before
//! any sink receives them. Rows go to a bounded queue in memory of each sink, and are dropped first.
//! The `Deliverer` runs one tokio task per sink, each with its own position in the spool, so that a
//! stalled sink delays no other. A batch that may succeed later is retried with the same ids; an alert
//! that is rejected permanently becomes a dead letter with the reason.
//!
//! The ledger balances, over all sinks. Alerts: put into the spool = delivered + dead-lettered +
//! evicted (size, age) + waiting. Rows: accepted by a queue = delivered + discarded + dropped (sink
//! closed, or left at shutdown); rows that a full queue refuses are counted too.

mod batch;
mod config;
mod engine;
mod error;
mod format;
mod item;
mod sinks;
pub mod spool;

pub use config::{SinkConfig, SinkKind};
pub use engine::{
    Deliverer, Delivery, LatencyHistogram, Leftover, Outbox, Reloaded, RetryPolicy, SinkReport,
    StartError,
};
pub use error::{DeliverError, FailureAction};
pub use format::{Format, console_line};
pub use sinks::azure::{AzureLogin, LogsIngestionConfig};
pub use sinks::elasticsearch::ElasticsearchConfig;
pub use sinks::file::FileConfig;
pub use sinks::http::HttpConfig;
pub use sinks::http_client::ServerConfig;
pub use sinks::kafka::{KafkaConfig, KafkaLogin, KafkaMechanism, PropertyText};
pub use sinks::nats::{NatsConfig, NatsLogin};
pub use sinks::otlp::OtlpConfig;
pub use sinks::parquet::ParquetConfig;
pub use sinks::splunk::SplunkConfig;
pub use sinks::syslog::{Framing, SyslogConfig};
