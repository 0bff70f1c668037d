//! The sinks `stdout` and `console`.

use std::fmt;

use async_trait::async_trait;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Mutex;

use super::Sink;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, SendOutcome};
use crate::deliver::format::console_line;
use crate::deliver::item::Item;

/// Writes lines to standard output or standard error.
#[derive(Debug)]
pub(super) struct StreamSink<S> {
    stream: Mutex<S>,
    name: &'static str,
    encode: fn(&Batch) -> String,
}

impl StreamSink<tokio::io::Stdout> {
    pub(super) fn stdout() -> Self {
        let stream = Mutex::new(tokio::io::stdout());
        Self { stream, name: "standard output", encode: Batch::lines }
    }
}

impl StreamSink<tokio::io::Stderr> {
    pub(super) fn console() -> Self {
        let stream = Mutex::new(tokio::io::stderr());
        Self { stream, name: "standard error", encode: console_lines }
    }
}

fn console_lines(batch: &Batch) -> String {
    let lines = batch.items.iter().map(|item| match &item.item {
        Item::Alert(alert) => console_line(alert) + "\n",
        Item::Row(_) | Item::AgentEvent(_) => format!("{}\n", item.line),
    });
    lines.collect()
}

#[async_trait]
impl<S: AsyncWrite + fmt::Debug + Send + Unpin> Sink for StreamSink<S> {
    /// Writes and flushes the lines. It is unknown which lines arrived before an error; in practice
    /// the only error of a stream is that its reader has exited.
    async fn send(&self, batch: &Batch) -> Result<SendOutcome, DeliverError> {
        let mut stream = self.stream.lock().await;
        let written = async {
            stream.write_all((self.encode)(batch).as_bytes()).await?;
            stream.flush().await
        };
        let written = written.await;
        written.map_err(|source| DeliverError::Stream { stream: self.name, source })?;
        Ok(SendOutcome::default())
    }
}
