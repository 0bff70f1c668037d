//! `Transport`: what a sink's kind does with a batch. One file a protocol; the engine (`sink.rs`)
//! decides what is tried again, split or set aside, so a transport only sends once and says what
//! came of it.

pub(super) mod azure;
pub(super) mod console;
pub(super) mod elasticsearch;
pub(super) mod file;
pub(super) mod http;
pub(super) mod http_post;
pub(super) mod kafka;
pub(super) mod last_error;
pub(super) mod nats;
pub(super) mod otlp;
pub(super) mod parquet;
pub(super) mod splunk;
pub(super) mod syslog;

use std::sync::Arc;

use tokio::io::{Stderr, Stdout};
use tokio::sync::Mutex;

use super::batch::{Batch, Sent};
use super::{DeliverError, SinkKind};
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use azure::AzureSink;
use elasticsearch::ElasticsearchSink;
use file::FileSink;
use http::HttpSink;
#[cfg(feature = "kafka")]
use kafka::KafkaSink;
use nats::NatsSink;
use otlp::OtlpSink;
use parquet::ParquetSink;
use splunk::SplunkSink;
use syslog::SyslogSink;

/// Where a sink writes, opened as far as it is before the first batch. What is serial by its nature
/// stands behind a lock; the rest takes several batches at once.
#[derive(Debug)]
pub(super) enum Transport {
    Stdout(Mutex<Stdout>),
    Console(Mutex<Stderr>),
    File(Mutex<FileSink>),
    Parquet(Mutex<Box<ParquetSink>>),
    #[cfg(feature = "kafka")]
    Kafka(Box<KafkaSink>),
    Nats(Box<NatsSink>),
    Http(Box<HttpSink>),
    Azure(Box<AzureSink>),
    Splunk(Box<SplunkSink>),
    Elasticsearch(Box<ElasticsearchSink>),
    Otlp(Box<OtlpSink>),
    Syslog(Mutex<Box<SyslogSink>>),
}

impl Transport {
    pub(super) fn new(kind: &SinkKind, stats: &Arc<Stats>) -> Result<Self, DeliverError> {
        Ok(match kind {
            SinkKind::Stdout => Self::Stdout(Mutex::new(tokio::io::stdout())),
            SinkKind::Console => Self::Console(Mutex::new(tokio::io::stderr())),
            SinkKind::File(config) => Self::File(Mutex::new(FileSink::new(config, stats))),
            #[cfg(feature = "kafka")]
            SinkKind::Kafka(config) => Self::Kafka(Box::new(KafkaSink::new(config))),
            #[cfg(not(feature = "kafka"))]
            SinkKind::Kafka(_) => return Err(DeliverError::NotBuiltIn("kafka")),
            SinkKind::Nats(config) => Self::Nats(Box::new(NatsSink::new(config))),
            SinkKind::Http(config) => Self::Http(Box::new(HttpSink::new(config))),
            SinkKind::Azure(config) => Self::Azure(Box::new(AzureSink::new(config, stats)?)),
            SinkKind::Splunk(config) => Self::Splunk(Box::new(SplunkSink::new(config))),
            SinkKind::Elasticsearch(config) => {
                Self::Elasticsearch(Box::new(ElasticsearchSink::new(config)))
            }
            SinkKind::Otlp(config) => Self::Otlp(Box::new(OtlpSink::new(config, stats))),
            SinkKind::Syslog(config) => Self::Syslog(Mutex::new(Box::new(SyslogSink::new(config)))),
            SinkKind::Parquet(config) => {
                Self::Parquet(Mutex::new(Box::new(ParquetSink::new(config.clone(), stats))))
            }
        })
    }

    /// Whether it can be made, without touching what another one may be writing to.
    pub(super) fn check(kind: &SinkKind, stats: &Arc<Stats>) -> Result<(), DeliverError> {
        match kind {
            SinkKind::File(_) | SinkKind::Parquet(_) => Ok(()),
            other => Self::new(other, stats).map(drop),
        }
    }

    /// Sends the batch once.
    pub(super) async fn send(
        &self,
        batch: &Batch,
        clock: &dyn Clock,
    ) -> Result<Sent, DeliverError> {
        match self {
            Self::Stdout(out) => {
                console::send(&mut *out.lock().await, "standard output", batch).await?;
            }
            Self::Console(out) => {
                console::send(&mut *out.lock().await, "standard error", batch).await?;
            }
            Self::File(file) => file.lock().await.send(batch, clock).await?,
            Self::Parquet(parquet) => parquet.lock().await.send(batch, clock).await?,
            Self::Syslog(syslog) => syslog.lock().await.send(batch).await?,
            #[cfg(feature = "kafka")]
            Self::Kafka(kafka) => return kafka.send(batch).await,
            Self::Nats(nats) => return nats.send(batch).await,
            Self::Http(http) => return http.send(batch, clock).await,
            Self::Azure(azure) => return azure.send(batch, clock).await,
            Self::Splunk(splunk) => return splunk.send(batch, clock).await,
            Self::Elasticsearch(elastic) => return elastic.send(batch, clock).await,
            Self::Otlp(otlp) => return otlp.send(batch, clock).await,
        }
        Ok(Sent::default())
    }
}
