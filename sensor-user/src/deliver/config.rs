//! Configuration of sinks: what each sink receives, and where it writes.

use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::Duration;

use super::Format;
use super::sinks::azure::{AzureLogin, LogsIngestionConfig};
use super::sinks::elasticsearch::ElasticsearchConfig;
use super::sinks::file::FileConfig;
use super::sinks::http::HttpConfig;
use super::sinks::kafka::KafkaConfig;
use super::sinks::nats::NatsConfig;
use super::sinks::otlp::OtlpConfig;
use super::sinks::parquet::ParquetConfig;
use super::sinks::splunk::SplunkConfig;
use super::sinks::syslog::SyslogConfig;

/// Kind of a sink, with its own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkKind {
    /// JSON lines on standard output.
    Stdout,
    /// One line per alert for human readers, on standard error.
    Console,
    /// Lines appended to a file.
    File(FileConfig),
    /// Parquet files in a directory, rows only.
    Parquet(ParquetConfig),
    /// JSON array or JSON lines by HTTP POST.
    Http(HttpConfig),
    /// Messages to Kafka topics; only if [`KafkaConfig::IS_BUILT_IN`].
    Kafka(KafkaConfig),
    /// Messages to a NATS stream.
    Nats(NatsConfig),
    /// Logs Ingestion API of Azure Monitor.
    Azure(Box<LogsIngestionConfig>),
    /// HTTP Event Collector of Splunk.
    Splunk(Box<SplunkConfig>),
    /// `_bulk` API of Elasticsearch and `OpenSearch`.
    Elasticsearch(Box<ElasticsearchConfig>),
    /// OpenTelemetry log records over HTTP.
    Otlp(Box<OtlpConfig>),
    /// RFC 5424 over TCP or TLS.
    Syslog(SyslogConfig),
}

impl SinkKind {
    /// Path that the sink writes to, with all that is below it. `None` for streams and the network.
    pub fn writable_path(&self) -> Option<&Path> {
        match self {
            Self::File(FileConfig { path, .. }) => {
                // A device or a pipe by itself; a regular file with its directory, for rotation.
                let is_special = std::fs::metadata(path).is_ok_and(|it| {
                    let kind = it.file_type();
                    kind.is_char_device() || kind.is_fifo()
                });
                if is_special { Some(path) } else { path.parent() }
            }
            Self::Parquet(parquet) => Some(&parquet.folder),
            Self::Stdout
            | Self::Console
            | Self::Http(_)
            | Self::Kafka(_)
            | Self::Nats(_)
            | Self::Azure(_)
            | Self::Splunk(_)
            | Self::Elasticsearch(_)
            | Self::Otlp(_)
            | Self::Syslog(_) => None,
        }
    }
}

/// Configuration of one sink, validated and with defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkConfig {
    /// Unique name, used in logs and counters.
    pub name: String,
    /// Kind of the sink, with its own settings.
    pub kind: SinkKind,
    /// True if the sink receives alerts.
    pub alerts: bool,
    /// True if the sink receives rows and agent events.
    pub rows: bool,
    /// True if the sink receives agent events without rows.
    pub health: bool,
    /// Format of the items.
    pub format: Format,
    /// Maximum number of rows and agent events that wait for the sink.
    pub queue: usize,
    /// Maximum number of items in a request.
    pub batch: usize,
    /// Maximum size of the items in a request, bytes; a single larger item is sent alone.
    pub batch_bytes: usize,
    /// Time that a row or agent event waits for more items to fill its batch.
    pub batch_wait: Duration,
    /// Maximum number of concurrent requests.
    pub concurrency: usize,
}

impl SinkConfig {
    /// Default of `queue`.
    pub const QUEUE: usize = 10_000;
    /// Default of `batch`.
    pub const BATCH: usize = 500;
    /// Default of `batch_bytes`: accepted by every receiver.
    pub const BATCH_BYTES: usize = 900 << 10;
    /// Default of `batch_wait`.
    pub const BATCH_WAIT: Duration = Duration::from_millis(200);
    /// Default of `concurrency`: one request at a time, in order.
    pub const CONCURRENCY: usize = 1;

    /// A sink for alerts with the defaults.
    pub const fn new(name: String, kind: SinkKind) -> Self {
        Self {
            name,
            kind,
            alerts: true,
            rows: false,
            health: false,
            format: Format::Native,
            queue: Self::QUEUE,
            batch: Self::BATCH,
            batch_bytes: Self::BATCH_BYTES,
            batch_wait: Self::BATCH_WAIT,
            concurrency: Self::CONCURRENCY,
        }
    }

    /// Sets the URL of the machine's metadata service, for sinks that request tokens there.
    pub(crate) fn set_imds_url(&mut self, url: Option<&reqwest::Url>) {
        if let SinkKind::Azure(azure) = &mut self.kind
            && let AzureLogin::ManagedIdentity { imds_url, .. } = &mut azure.login
        {
            *imds_url = url.cloned();
        }
    }

    /// True if the sink receives agent events. Files of one table cannot contain them.
    pub(crate) const fn takes_agent_events(&self) -> bool {
        (self.rows || self.health) && !matches!(self.kind, SinkKind::Parquet(_))
    }
}
