//! Creates the sink of a configuration.

use std::sync::Arc;

use super::http::HttpSink;
#[cfg(feature = "kafka")]
use super::kafka;
use super::{Sink, azure, console, file, nats, otlp, parquet, splunk, syslog};
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::deliver::{DeliverError, SinkKind};

/// Creates the sink of this kind.
#[cfg_attr(feature = "kafka", expect(clippy::unnecessary_wraps, reason = "fails without kafka"))]
pub(in crate::deliver) fn sink(
    kind: &SinkKind,
    stats: &Arc<Stats>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Sink>, DeliverError> {
    Ok(match kind {
        SinkKind::Stdout => Arc::new(console::StreamSink::stdout()),
        SinkKind::Console => Arc::new(console::StreamSink::console()),
        SinkKind::File(config) => Arc::new(file::FileSink::new(config, stats, clock)),
        SinkKind::Parquet(config) => Arc::new(parquet::ParquetSink::new(config, stats, clock)),
        SinkKind::Http(config) => Arc::new(HttpSink::new(config.clone(), clock)),
        #[cfg(feature = "kafka")]
        SinkKind::Kafka(config) => Arc::new(kafka::KafkaSink::new(config)),
        #[cfg(not(feature = "kafka"))]
        SinkKind::Kafka(_) => {
            let error = "kafka: not in this build; build with --features kafka";
            return Err(DeliverError::Setting(error));
        }
        SinkKind::Nats(config) => Arc::new(nats::NatsSink::new(config)),
        SinkKind::Azure(config) => Arc::new(azure::AzureSink::new(config, stats, clock)),
        SinkKind::Splunk(config) => Arc::new(splunk::SplunkSink::new(config, clock)),
        SinkKind::Elasticsearch(config) => Arc::new(HttpSink::new((**config).clone(), clock)),
        SinkKind::Otlp(config) => {
            Arc::new(HttpSink::new(otlp::OtlpProtocol::new(config, stats), clock))
        }
        SinkKind::Syslog(config) => Arc::new(syslog::SyslogSink::new(config)),
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
