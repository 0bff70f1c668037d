//! The stdout and readable sinks.

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::deliver::DeliverError;
use crate::deliver::batch::Batch;

/// Writes the batch's lines to `out` and flushes. Lines written before an error are not known to
/// have arrived; the only error that streams have in practice is that nobody reads them.
pub(crate) async fn send(
    out: &mut (impl AsyncWrite + Unpin),
    stream: &'static str,
    batch: &Batch,
) -> Result<(), DeliverError> {
    let lines = batch.lines();
    let written = async {
        out.write_all(lines.as_bytes()).await?;
        out.flush().await
    };
    written.await.map_err(|source| DeliverError::Stream { stream, source })
}
