//! Deliver: alerts and rows leave the host here, and only here.
//!
//! `Outbox` is what the pipeline's thread holds: it never waits. Alerts go to the spool, on disk,
//! before any sink is given them; rows go to a bounded queue in memory of each sink, and are the
//! first to be dropped. `Deliverer` is the other end: one tokio task a sink, with its own place in
//! the spool, so a sink that stalls delays no other. A batch that may succeed later is tried again
//! with the same ids; an alert that cannot is set aside with its reason.
//!
//! The ledger closes, over all sinks. Alerts: put into the spool = delivered + set aside + evicted
//! (size, age) + waiting. Rows: accepted by a queue = delivered + discarded + dropped (sink closed,
//! or left at shutdown); what a full queue refused is counted too.

mod batch;
pub mod engine;
pub mod format;
mod item;
mod sinks;
pub mod spool;
#[cfg(test)]
mod tests;

pub use engine::latency_histogram::Delays;
pub use engine::supervisor::{Deliverer, Delivery, Reloaded, StartError};
pub use sinks::azure::{AzureLogin, LogsIngestionConfig};
pub use sinks::elasticsearch::ElasticsearchConfig;

pub use engine::outbox::{Leftover, Outbox, Pace};
pub use format::Format;
pub use sinks::file::FileConfig;
pub use sinks::http::HttpConfig;
pub use sinks::http_post::ServerConfig;
pub use sinks::kafka::{KafkaConfig, KafkaLogin, KafkaMechanism, PropertyText};
pub use sinks::nats::{NatsConfig, NatsLogin};
pub use sinks::otlp::OtlpConfig;
pub use sinks::parquet::ParquetConfig;

pub use engine::sink_status::SinkReport;
pub use format::text::readable;
pub use sinks::splunk::SplunkConfig;
pub use sinks::syslog::{Framing, SyslogConfig};

use std::path::PathBuf;
use std::time::Duration;

use crate::http::AccessError;

/// Where a sink writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkKind {
    /// JSON lines on standard output.
    Stdout,
    /// A line for people an alert, on standard error.
    Console,
    /// Lines appended to a file.
    File(FileConfig),
    /// Parquet files in a folder, of rows only.
    Parquet(ParquetConfig),
    /// JSON array, or JSON lines, by POST.
    Http(HttpConfig),
    /// Messages to topics of Kafka; only where [`KafkaConfig::IS_BUILT_IN`].
    Kafka(KafkaConfig),
    /// Messages to a stream of NATS.
    Nats(NatsConfig),
    /// Azure Monitor's Logs Ingestion API.
    Azure(Box<LogsIngestionConfig>),
    /// Splunk's HTTP Event Collector.
    Splunk(Box<SplunkConfig>),
    /// `_bulk` of Elasticsearch and `OpenSearch`.
    Elasticsearch(Box<ElasticsearchConfig>),
    /// Log records of OpenTelemetry over HTTP.
    Otlp(Box<OtlpConfig>),
    /// RFC 5424 over TCP or TLS.
    Syslog(SyslogConfig),
}

/// One sink, checked and with its defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkConfig {
    /// Unique name, used in logs and counters.
    pub name: String,
    /// Where it writes.
    pub kind: SinkKind,
    /// Takes alerts.
    pub alerts: bool,
    /// Takes rows, and the agent's notices about itself.
    pub rows: bool,
    /// Takes the notices without the rows.
    pub health: bool,
    /// In whose words.
    pub format: Format,
    /// Rows and notices that wait for this sink at most.
    pub queue: usize,
    /// Items in one request at most.
    pub batch: usize,
    /// Bytes of items in one request at most, as far as one item does not have more.
    pub batch_bytes: usize,
    /// How long a row or notice waits for others to fill its batch.
    pub batch_wait: Duration,
    /// Requests under way at once at most.
    pub concurrency: usize,
}

impl SinkConfig {
    /// Items that wait unless set.
    pub const QUEUE: usize = 10_000;
    /// Items in one request unless set.
    pub const BATCH: usize = 500;
    /// Bytes of items in one request unless set: what every upstream takes.
    pub const BATCH_BYTES: usize = 900 << 10;
    /// How long a row waits unless set.
    pub const BATCH_WAIT: Duration = Duration::from_millis(200);
    /// Requests at once unless set: one, in order.
    pub const CONCURRENCY: usize = 1;

    /// A sink of alerts with what is usual.
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

    /// Asks for the machine's tokens at `url`, where it has some.
    pub(crate) fn ask_machine_at(&mut self, url: Option<&reqwest::Url>) {
        if let SinkKind::Azure(azure) = &mut self.kind
            && let AzureLogin::ManagedIdentity { imds_url, .. } = &mut azure.login
        {
            *imds_url = url.cloned();
        }
    }

    /// Whether it is told what the agent says of itself. Files of a table have no place for that.
    pub(crate) const fn takes_notices(&self) -> bool {
        (self.rows || self.health) && !matches!(self.kind, SinkKind::Parquet(_))
    }
}

/// What to do with a batch that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Keep it and try again, not before `after` where the other side named a time.
    Retry {
        /// `Retry-After`, as a delay from now.
        after: Option<Duration>,
    },
    /// It is too large: halve it and try both.
    Split,
    /// One item may spoil it: find that one by halving, where that is worth it.
    Isolate,
    /// Nobody reads this sink any more.
    Closed,
}

/// Why a batch was not taken, or a sink not started.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// The server cannot be asked: its secrets, certificates or headers.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// No answer: connection refused or reset, name not found, time limit.
    #[error("post {url}")]
    Post {
        /// Where to.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// An answer that is not a success.
    #[error("post {url}: the answer is {status}{}", Said(text))]
    Status {
        /// Where to.
        url: String,
        /// HTTP status.
        status: u16,
        /// Beginning of the answer's body, escaped; may be "".
        text: String,
        /// Delay that `Retry-After` asks for.
        retry_after: Option<Duration>,
    },
    /// An answer that says that something else must be put right first.
    #[error("post {url}: the answer is {status}{}; {hint}", Said(text))]
    Held {
        /// Where to.
        url: String,
        /// HTTP status.
        status: u16,
        /// Beginning of the answer's body, escaped; may be "".
        text: String,
        /// What to look at.
        hint: &'static str,
        /// Delay that `Retry-After` asks for.
        retry_after: Option<Duration>,
    },
    /// It was taken, but not told to be safe in time.
    #[error("{url}: no acknowledgement within {limit:?}{}; is the indexer behind?", Said(text))]
    Unacknowledged {
        /// Where it is asked for.
        url: String,
        /// How long it was waited for.
        limit: Duration,
        /// What the collector says of itself, escaped, where it is not well; else "".
        text: String,
    },
    /// An answer that is a success, but not in the words of the protocol.
    #[error("post {url}: {what}{}", Said(text))]
    Odd {
        /// Where to.
        url: String,
        /// What is wrong with it, and what to look at.
        what: &'static str,
        /// Beginning of the answer's body, escaped; may be "".
        text: String,
    },
    /// It would be larger than the server takes, and is not sent.
    #[error("a request of {bytes} bytes; the server takes {most}")]
    TooLarge {
        /// It would have.
        bytes: usize,
        /// It may have.
        most: usize,
    },
    /// Something that is configured cannot be used.
    #[error("{0}")]
    Setting(&'static str),
    /// The device under a file is full.
    #[error("write {}: {reason}; free space {free}", path.display())]
    Full {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        reason: String,
        /// Free bytes for people.
        free: String,
    },
    /// A file cannot be opened or written.
    #[error("write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A connection cannot be made, or breaks.
    #[error("{doing} {server}")]
    Socket {
        /// What was tried: `connect to`, `send to`.
        doing: &'static str,
        /// With whom, as configured.
        server: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A sink that this build does not have.
    #[error("{0}: not in this build; build with --features {0}")]
    NotBuiltIn(&'static str),
    /// A server does not take what is sent to it, for now.
    #[error("{server}: {what}")]
    Peer {
        /// With whom, as configured.
        server: String,
        /// What it, or the way to it, says; and what to do.
        what: String,
    },
    /// Standard output or standard error cannot be written.
    #[error("write {stream}")]
    Stream {
        /// Which.
        stream: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl DeliverError {
    /// What to do with the batch.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Status { status: 413, .. } | Self::TooLarge { .. } => Verdict::Split,
            Self::Status { status: 400 | 422, .. } => Verdict::Isolate,
            // Also where only the operator can help (401, 403, 404, a redirection): what the spool
            // holds goes out when the configuration or the other side is put right.
            Self::Status { retry_after, .. } => Verdict::Retry { after: *retry_after },
            Self::Stream { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe => {
                Verdict::Closed
            }
            Self::Held { retry_after, .. } => Verdict::Retry { after: *retry_after },
            Self::Access(_)
            | Self::Post { .. }
            | Self::Odd { .. }
            | Self::Unacknowledged { .. }
            | Self::Setting(_)
            | Self::Full { .. }
            | Self::Write { .. }
            | Self::Socket { .. }
            | Self::NotBuiltIn(_)
            | Self::Peer { .. }
            | Self::Stream { .. } => Verdict::Retry { after: None },
        }
    }
}

/// `: text`, or nothing.
struct Said<'a>(&'a str);

impl std::fmt::Display for Said<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(out, ": {}", self.0) }
    }
}

/// The message of an error and of its causes, `a: b: c`, for a log line; made visible.
fn chain(error: &dyn std::error::Error) -> String {
    crate::base::escape::visible(&crate::base::error_chain::chain(error))
}
