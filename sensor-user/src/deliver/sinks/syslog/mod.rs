//! The sink `syslog`: RFC 5424 over TCP or TLS (RFC 5425), framed by octet counts or line ends
//! (RFC 6587).
//!
//! The protocol has no acknowledgement: messages that a server had not read when its connection broke
//! are lost without an error. So the sink checks before and after it sends whether the peer has
//! closed, and after a broken connection it sends the last batch once more before the next one.
//! Duplicates have the same id. A server that loses more than the last batch loses the rest.

mod config;
mod connection;
mod encode;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;

use async_trait::async_trait;
use tokio::sync::Mutex;

use self::connection::{SyslogConnection, socket_error};
use super::Sink;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, SendOutcome};

pub use config::{Framing, SyslogConfig};

/// Sends to one server over one connection.
pub(super) struct SyslogSink {
    config: SyslogConfig,
    state: Mutex<SyslogState>,
}

#[derive(Default)]
struct SyslogState {
    connection: Option<SyslogConnection>,
    /// Last batch that was sent without an error.
    last: Vec<u8>,
}

impl SyslogSink {
    pub(super) fn new(config: &SyslogConfig) -> Self {
        Self { config: config.clone(), state: Mutex::default() }
    }

    /// Keeps the connection only on success: after an error it may have transmitted half a message,
    /// and nothing can follow that.
    async fn write(&self, state: &mut SyslogState, bytes: &[u8]) -> Result<(), DeliverError> {
        let failed = |source| socket_error("send to", &self.config, source);
        if let Some(connection) = &mut state.connection
            && connection.is_closed().await
        {
            state.connection = None;
        }
        let mut connection = if let Some(connection) = state.connection.take() {
            connection
        } else {
            let mut connection = SyslogConnection::open(&self.config).await?;
            connection.write(&state.last).await.map_err(failed)?;
            connection
        };
        connection.write(bytes).await.map_err(failed)?;
        connection.flush().await.map_err(failed)?;
        state.connection = Some(connection);
        Ok(())
    }
}

#[async_trait]
impl Sink for SyslogSink {
    async fn send(&self, batch: &Batch) -> Result<SendOutcome, DeliverError> {
        let mut state = self.state.lock().await;
        let bytes = encode::frames(&self.config, batch);
        let written = tokio::time::timeout(self.config.timeout, self.write(&mut state, &bytes));
        let timed_out = || socket_error("send to", &self.config, io::ErrorKind::TimedOut.into());
        written.await.unwrap_or_else(|_elapsed| Err(timed_out()))?;
        state.last = bytes;
        Ok(SendOutcome::default())
    }
}

impl fmt::Debug for SyslogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyslogSink").field("config", &self.config).finish_non_exhaustive()
    }
}
