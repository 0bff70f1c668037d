//! The syslog sink: RFC 5424 over TCP or TLS (RFC 5425), framed by a count of octets or by line ends
//! (RFC 6587).
//!
//! The protocol has no acknowledgement: what a server had not read when its connection broke is
//! lost without a word. So the sink looks whether the other side has closed before and after it
//! sends, and after a broken connection it sends the last batch once more, before the next one. What
//! arrives twice has the same id. A server that takes more than the last batch with it loses the rest.

mod message;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::deliver::DeliverError;
use crate::deliver::batch::Batch;
use crate::http::{AccessError, TlsConfig};

/// How one message ends and the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// The message's length in octets before it.
    #[default]
    Octets,
    /// A line end after it.
    Newline,
}

/// A syslog sink's own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogConfig {
    /// `host:port`.
    pub address: String,
    /// TLS; `None`: bare TCP.
    pub tls: Option<TlsConfig>,
    /// The name that the server's certificate must have, in place of the host of `address`.
    pub server_name: Option<String>,
    /// How messages are told apart.
    pub framing: Framing,
    /// 0 to 23.
    pub facility: u8,
    /// `APP-NAME`.
    pub app_name: String,
    /// `HOSTNAME`, in place of the item's `Computer`.
    pub hostname: Option<String>,
    /// Name of the structured data.
    pub sd_id: String,
    /// Limit of a connect, and of sending a batch.
    pub timeout: Duration,
}

impl SyslogConfig {
    /// `local0`.
    pub const FACILITY: u8 = 16;
    /// `APP-NAME` unless set.
    pub const APP_NAME: &str = "netsensor";
    /// Name of the structured data unless set; 32473 is the enterprise number of documentation
    /// (RFC 5612), since this program has none of its own.
    pub const SD_ID: &str = "netsensor@32473";
    /// Limit unless set.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// Bare TCP to `address`, with what is usual.
    pub fn new(address: String) -> Self {
        Self {
            address,
            tls: None,
            server_name: None,
            framing: Framing::Octets,
            facility: Self::FACILITY,
            app_name: Self::APP_NAME.to_owned(),
            hostname: None,
            sd_id: Self::SD_ID.to_owned(),
            timeout: Self::TIMEOUT,
        }
    }

    /// The host of `address`, without brackets.
    fn host(&self) -> &str {
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

/// Sends to one server over one connection.
pub(crate) struct SyslogSink {
    config: SyslogConfig,
    stream: Option<Box<dyn Stream>>,
    /// What was sent last over a connection that was well then.
    last: Vec<u8>,
}

/// TCP, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

impl SyslogSink {
    pub(crate) fn new(config: &SyslogConfig) -> Self {
        Self { config: config.clone(), stream: None, last: Vec::new() }
    }

    pub(crate) async fn send(&mut self, batch: &Batch) -> Result<(), DeliverError> {
        let bytes = self.framed(batch);
        let sent = match tokio::time::timeout(self.config.timeout, self.deliver(&bytes)).await {
            Ok(sent) => sent,
            Err(_elapsed) => Err(self.broken("send to", io::ErrorKind::TimedOut.into())),
        };
        if sent.is_ok() {
            self.last = bytes;
        }
        sent
    }

    fn framed(&self, batch: &Batch) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in batch.entries() {
            let message = message::message(&self.config, entry);
            match self.config.framing {
                Framing::Octets => {
                    bytes.extend(format!("{} ", message.len()).into_bytes());
                    bytes.extend(message.into_bytes());
                }
                Framing::Newline => {
                    bytes.extend(message.into_bytes());
                    bytes.push(b'\n');
                }
            }
        }
        bytes
    }

    /// Keeps the connection where all went well. Where it did not, half a message may have gone
    /// out, and nothing can follow that.
    async fn deliver(&mut self, bytes: &[u8]) -> Result<(), DeliverError> {
        if let Some(stream) = &mut self.stream
            && is_closed(stream).await
        {
            self.stream = None;
        }
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connected_again().await?,
        };
        let sent = async {
            stream.write_all(bytes).await?;
            stream.flush().await?;
            if is_closed(&mut stream).await {
                Err(io::ErrorKind::ConnectionReset.into())
            } else {
                Ok(())
            }
        };
        let sent: io::Result<()> = sent.await;
        sent.map_err(|source| self.broken("send to", source))?;
        self.stream = Some(stream);
        Ok(())
    }

    /// A new connection, over which the last batch has gone once more.
    async fn connected_again(&self) -> Result<Box<dyn Stream>, DeliverError> {
        let mut stream = self.connect().await?;
        let sent = stream.write_all(&self.last).await;
        sent.map_err(|source| self.broken("send to", source))?;
        Ok(stream)
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, DeliverError> {
        let failed = |source| self.broken("connect to", source);
        let connecting = TcpStream::connect(&self.config.address);
        let stream = tokio::time::timeout(self.config.timeout, connecting)
            .await
            .map_err(|_elapsed| failed(io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let Some(tls) = self.config.tls.clone() else { return Ok(Box::new(stream)) };
        let client = tokio::task::spawn_blocking(move || tls.client()).await;
        let client = client.map_err(|_ended| AccessError::Stopped)??;
        let name = self.config.server_name.as_deref().unwrap_or_else(|| self.config.host());
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await;
        Ok(Box::new(stream.map_err(failed)?))
    }

    fn broken(&self, doing: &'static str, source: io::Error) -> DeliverError {
        DeliverError::Socket { doing, server: self.config.address.clone(), source }
    }
}

/// Whether the other side has closed, as far as is known here by now. What it says is not read: a
/// syslog server says nothing.
async fn is_closed(stream: &mut Box<dyn Stream>) -> bool {
    let mut bytes = [0; 512];
    poll_fn(|context| {
        // A few reads, so that one that talks without end holds nothing up.
        for _ in 0..16 {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Pending => return Poll::Ready(false),
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(Ok(()) | Err(_)) => return Poll::Ready(true),
            }
        }
        Poll::Ready(false)
    })
    .await
}

impl fmt::Debug for SyslogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyslogSink").field("config", &self.config).finish_non_exhaustive()
    }
}
