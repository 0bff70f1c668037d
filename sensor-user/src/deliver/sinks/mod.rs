//! Sinks: one folder per protocol, or one file for a small one, all with the same parts.
//!
//! - config: settings of the kind.
//! - encode: items to the bytes of a request.
//! - send (`mod.rs`): one request, or one write. The engine retries, splits and dead-letters.
//! - response: the outcome of each item: delivered, retry or rejected.
//!
//! | sink            | config | encode             | send     | response     | further parts          |
//! | --------------- | ------ | ------------------ | -------- | ------------ | ---------------------- |
//! | `console`       | -      | `console.rs`       | stream   | -            | also the kind `stdout` |
//! | `file`          | yes    | lines of the batch | file     | -            | `log_file`             |
//! | `parquet`       | yes    | `schema::parquet`  | buffered | -            | `directory`            |
//! | `http`          | yes    | `http.rs`          | HTTP     | `http.rs`    |                        |
//! | `elasticsearch` | yes    | yes                | HTTP     | yes          |                        |
//! | `otlp`          | yes    | yes                | HTTP     | yes          |                        |
//! | `splunk`        | yes    | yes                | HTTP     | yes          | `ack`                  |
//! | `azure`         | yes    | yes                | HTTP     | yes          | `token`                |
//! | `syslog`        | yes    | yes                | TCP, TLS | -            | `connection`           |
//! | `nats`          | yes    | yes                | client   | yes          |                        |
//! | `kafka`         | yes    | `producer`         | client   | yes          | `client_log`           |
//!
//! The HTTP sinks share `http_client.rs`, and those with one request per batch the trait `HttpProtocol`
//! of `http.rs`.

pub(super) mod azure;
pub(super) mod create;
pub(super) mod elasticsearch;
pub(super) mod file;
pub(super) mod http;
pub(super) mod http_client;
pub(super) mod kafka;
pub(super) mod nats;
pub(super) mod otlp;
pub(super) mod parquet;
pub(super) mod splunk;
pub(super) mod syslog;

mod console;

use std::fmt;

use async_trait::async_trait;
use tokio::time::Instant;

use super::batch::{Batch, SendOutcome};
use super::item::Item;
use super::{DeliverError, Format};

/// The sending part of a sink; CONTRIBUTING.md lists what a new sink takes. One without serial state sends several batches concurrently.
#[async_trait]
pub(super) trait Sink: fmt::Debug + Send + Sync {
    /// The item as the line that [`Self::send`] sends.
    fn line(&self, format: Format, item: &Item) -> String {
        format.line(item)
    }

    /// Sends the batch once.
    async fn send(&self, batch: &Batch) -> Result<SendOutcome, DeliverError>;

    /// Time of the next flush of a sink that buffers the rows of several batches.
    async fn flush_at(&self) -> Option<Instant> {
        None
    }

    /// Writes the buffered rows whose time has come, or `all` rows.
    async fn flush(&self, _all: bool) -> Result<(), DeliverError> {
        Ok(())
    }

    /// Takes the numbers of buffered rows that were written or refused since the last call: only
    /// these are delivered. `None` for a sink that does not buffer.
    async fn take_flushed(&self) -> Option<FlushedRows> {
        None
    }
}

/// Rows that left the buffer of a sink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FlushedRows {
    pub(super) delivered: u64,
    pub(super) rejected: u64,
}
