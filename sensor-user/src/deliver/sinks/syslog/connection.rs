//! `SyslogConnection`: TCP, with or without TLS.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::SyslogConfig;
use crate::deliver::DeliverError;
use crate::http::AccessError;

/// An open connection.
pub(super) struct SyslogConnection(Box<dyn Stream>);

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

impl SyslogConnection {
    pub(super) async fn open(config: &SyslogConfig) -> Result<Self, DeliverError> {
        let failed = |source| socket_error("connect to", config, source);
        let connecting = TcpStream::connect(&config.address);
        let stream = tokio::time::timeout(config.timeout, connecting)
            .await
            .map_err(|_elapsed| failed(io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let Some(tls) = config.tls.clone() else { return Ok(Self(Box::new(stream))) };
        let client = tokio::task::spawn_blocking(move || tls.client()).await;
        let client = client.map_err(|_stopped| AccessError::Stopped)??;
        let name = config.server_name.as_deref().unwrap_or_else(|| config.host());
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await;
        Ok(Self(Box::new(stream.map_err(failed)?)))
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Flushes, and checks that the peer has not closed the connection.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.0.flush().await?;
        if self.is_closed().await { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }

    /// True if the peer is known to have closed the connection. Data from the peer is discarded: a
    /// syslog server sends none.
    pub(super) async fn is_closed(&mut self) -> bool {
        let mut bytes = [0; 512];
        poll_fn(|context| {
            // Few reads, so that a peer that sends without end delays nothing.
            for _ in 0..16 {
                let mut buffer = ReadBuf::new(&mut bytes);
                match Pin::new(&mut *self.0).poll_read(context, &mut buffer) {
                    Poll::Pending => return Poll::Ready(false),
                    Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                    Poll::Ready(Ok(()) | Err(_)) => return Poll::Ready(true),
                }
            }
            Poll::Ready(false)
        })
        .await
    }
}

pub(super) fn socket_error(
    operation: &'static str,
    config: &SyslogConfig,
    source: io::Error,
) -> DeliverError {
    DeliverError::Io { operation, target: config.address.clone(), source }
}
