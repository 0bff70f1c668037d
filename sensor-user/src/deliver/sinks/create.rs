//! Creates the sink of a configuration.

use std::sync::Arc;

#[cfg(feature = "kafka")]
use super::kafka;
use super::{Sink, azure, console, elasticsearch, file, http, nats, otlp, parquet, splunk, syslog};
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::deliver::{DeliverError, SinkKind};

/// Creates the sink of this kind.
#[cfg_attr(feature = "kafka", expect(clippy::unnecessary_wraps, reason = "fails without kafka"))]
pub(in crate::deliver) fn sink(
    kind: &SinkKind,
    stats: &Arc<Stats>,
    clock: &Arc<dyn Clock>,
) -> Result<Box<dyn Sink>, DeliverError> {
    Ok(match kind {
        SinkKind::Stdout => Box::new(console::StreamSink::stdout()),
        SinkKind::Console => Box::new(console::StreamSink::console()),
        SinkKind::File(config) => Box::new(file::FileSink::new(config, stats, clock)),
        SinkKind::Parquet(config) => Box::new(parquet::ParquetSink::new(config, stats, clock)),
        SinkKind::Http(config) => Box::new(http::HttpSink::new(config, clock)),
        #[cfg(feature = "kafka")]
        SinkKind::Kafka(config) => Box::new(kafka::KafkaSink::new(config)),
        #[cfg(not(feature = "kafka"))]
        SinkKind::Kafka(_) => return Err(DeliverError::NotBuiltIn("kafka")),
        SinkKind::Nats(config) => Box::new(nats::NatsSink::new(config)),
        SinkKind::Azure(config) => Box::new(azure::AzureSink::new(config, stats, clock)),
        SinkKind::Splunk(config) => Box::new(splunk::SplunkSink::new(config, clock)),
        SinkKind::Elasticsearch(config) => {
            Box::new(elasticsearch::ElasticsearchSink::new(config, clock))
        }
        SinkKind::Otlp(config) => Box::new(otlp::OtlpSink::new(config, stats, clock)),
        SinkKind::Syslog(config) => Box::new(syslog::SyslogSink::new(config)),
    })
}

/// Checks that the sink can be created. Leaves files alone, which another sink may still write to.
pub(in crate::deliver) fn check(
    kind: &SinkKind,
    stats: &Arc<Stats>,
    clock: &Arc<dyn Clock>,
) -> Result<(), DeliverError> {
    match kind {
        SinkKind::File(_) | SinkKind::Parquet(_) => Ok(()),
        other => sink(other, stats, clock).map(drop),
    }
}
