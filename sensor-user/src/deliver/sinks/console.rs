//! The sinks `stdout` and `console`.

use std::fmt;

use async_trait::async_trait;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Mutex;

use super::Sink;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, SendOutcome};
use crate::deliver::format::{Format, console_line};
use crate::deliver::item::Item;

/// Writes lines to standard output or standard error.
#[derive(Debug)]
pub(super) struct StreamSink<S> {
    stream: Mutex<S>,
    name: &'static str,
    line: fn(Format, &Item) -> String,
}

impl StreamSink<tokio::io::Stdout> {
    pub(super) fn stdout() -> Self {
        let stream = Mutex::new(tokio::io::stdout());
        Self { stream, name: "standard output", line: Format::line }
    }
}

impl StreamSink<tokio::io::Stderr> {
    pub(super) fn console() -> Self {
        let stream = Mutex::new(tokio::io::stderr());
        Self { stream, name: "standard error", line: console_item }
    }
}

/// Alerts as lines for a human reader, other items in `format`.
fn console_item(format: Format, item: &Item) -> String {
    match item {
        Item::Alert(alert) => console_line(alert),
        Item::Row(_) | Item::AgentEvent(_) => format.line(item),
    }
}

#[async_trait]
impl<S: AsyncWrite + fmt::Debug + Send + Unpin> Sink for StreamSink<S> {
    fn line(&self, format: Format, item: &Item) -> String {
        (self.line)(format, item)
    }

    /// Writes and flushes the lines. It is unknown which lines arrived before an error; in practice
    /// the only error of a stream is that its reader has exited.
    async fn send(&self, batch: &Batch) -> Result<SendOutcome, DeliverError> {
        let mut stream = self.stream.lock().await;
        let written = async {
            stream.write_all(batch.lines().as_bytes()).await?;
            stream.flush().await
        };
        let written = written.await;
        written.map_err(|source| DeliverError::Stream { stream: self.name, source })?;
        Ok(SendOutcome::default())
    }
}
