//! The sink `parquet`: rows of each table, buffered in memory and written as one file.
//!
//! Invariants. A file appears under its name when it is complete, and never changes. Rows count as
//! delivered when they are in such a file; until then they wait, as in a queue. A file that cannot be
//! written is retried, and no more rows are accepted meanwhile. The directory stays within its size
//! and age limits: the oldest file is deleted first (counted).

mod config;
mod directory;

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::directory::Directory;
use super::{FlushedRows, Sink};
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, SendOutcome};
use crate::deliver::error::{log_text, write_error};
use crate::schema::Table;
use crate::schema::parquet::{ColumnarError, TableFile};

pub use config::ParquetConfig;

/// Size in memory at which a file is complete, whatever its number of rows is.
const MEMORY_MAX: usize = 64 << 20;
/// Delay before the retry of a failed write.
const RETRY: Duration = Duration::from_secs(1);

/// Writes files into one directory.
#[derive(Debug)]
pub(super) struct ParquetSink {
    clock: Arc<dyn Clock>,
    buffer: Mutex<Buffer>,
}

#[derive(Debug)]
struct Buffer {
    config: ParquetConfig,
    directory: Directory,
    open: BTreeMap<&'static str, OpenFile>,
    /// Files to write, at most one per table.
    complete: VecDeque<CompleteFile>,
    /// Time of the next retry after a failed write, if no batch arrives before.
    retry_at: Option<Instant>,
    flushed: FlushedRows,
}

/// A file that still accepts rows.
#[derive(Debug)]
struct OpenFile {
    file: TableFile,
    since: Instant,
    first_row: Timestamp,
}

/// A file whose bytes no longer change.
#[derive(Debug, Clone)]
struct CompleteFile {
    table: &'static str,
    first_row: Timestamp,
    rows: u64,
    bytes: Arc<Vec<u8>>,
}

impl ParquetSink {
    /// Removes incomplete files that a killed agent left in the directory.
    pub(super) fn new(config: &ParquetConfig, stats: &Arc<Stats>, clock: &Arc<dyn Clock>) -> Self {
        let buffer = Buffer {
            config: config.clone(),
            directory: Directory::open(config, Arc::clone(stats)),
            open: BTreeMap::new(),
            complete: VecDeque::new(),
            retry_at: None,
            flushed: FlushedRows::default(),
        };
        Self { clock: Arc::clone(clock), buffer: Mutex::new(buffer) }
    }
}

#[async_trait]
impl Sink for ParquetSink {
    /// Buffers a batch after it has written the complete files. On an error the batch is not buffered.
    async fn send(&self, batch: &Batch) -> Result<SendOutcome, DeliverError> {
        let (mut buffer, now) = (self.buffer.lock().await, self.clock.now());
        buffer.write_complete(now).await?;
        for (table, lines, rows) in batch.by_table() {
            let Some(table) = table else {
                buffer.flushed.rejected += rows;
                continue;
            };
            match buffer.append(table, &lines, now) {
                Ok(refused) => buffer.flushed.rejected += refused,
                Err(error) => {
                    buffer.open.remove(table.name);
                    buffer.reject(table.name, &error, rows);
                }
            }
        }
        let max = buffer.config.file_rows;
        buffer.close(|it| it.file.rows() >= max || it.file.memory() >= MEMORY_MAX).await;
        Ok(SendOutcome::default())
    }

    async fn flush_at(&self) -> Option<Instant> {
        let buffer = self.buffer.lock().await;
        let file_age = buffer.config.file_age;
        let oldest = buffer.open.values().map(|open| open.since + file_age).min();
        if buffer.complete.is_empty() {
            oldest
        } else {
            buffer.retry_at.or_else(|| Some(Instant::now()))
        }
    }

    async fn flush(&self, all: bool) -> Result<(), DeliverError> {
        let mut buffer = self.buffer.lock().await;
        let (now, age) = (Instant::now(), buffer.config.file_age);
        buffer.close(|open| all || open.since + age <= now).await;
        buffer.write_complete(self.clock.now()).await
    }

    async fn take_flushed(&self) -> Option<FlushedRows> {
        Some(std::mem::take(&mut self.buffer.lock().await.flushed))
    }
}

impl Buffer {
    fn append(
        &mut self,
        table: &'static Table,
        lines: &str,
        now: Timestamp,
    ) -> Result<u64, ColumnarError> {
        let open = match self.open.entry(table.name) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(OpenFile {
                file: TableFile::new(table)?,
                since: Instant::now(),
                first_row: now,
            }),
        };
        open.file.append(lines)
    }

    /// Completes the open files for which `is_complete` is true.
    async fn close(&mut self, is_complete: impl Fn(&OpenFile) -> bool) {
        let closed: Vec<_> = self.open.extract_if(.., |_, open| is_complete(open)).collect();
        for (table, OpenFile { file, first_row, .. }) in closed {
            let rows = file.rows();
            // Compression takes time.
            let task = tokio::task::spawn_blocking(move || file.finish());
            match task.await {
                Ok(Ok(bytes)) if rows > 0 => {
                    let bytes = Arc::new(bytes);
                    self.complete.push_back(CompleteFile { table, first_row, rows, bytes });
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => self.reject(table, &error, rows),
                Err(error) => self.reject(table, &error, rows),
            }
        }
    }

    fn reject(&mut self, table: &str, error: &dyn Error, rows: u64) {
        self.flushed.rejected += rows;
        tracing::error!(table, rows, error = %log_text(error), "rows are in no file");
    }

    async fn write_complete(&mut self, now: Timestamp) -> Result<(), DeliverError> {
        while let Some(file) = self.complete.front().cloned() {
            let (directory, rows) = (self.directory.clone(), file.rows);
            let task = tokio::task::spawn_blocking(move || directory.write(&file, now));
            if let Err(error) = task.await.unwrap_or_else(|lost| Err(io::Error::other(lost))) {
                self.retry_at = Some(Instant::now() + RETRY);
                return Err(write_error(&self.config.folder, error));
            }
            self.retry_at = None;
            self.complete.pop_front();
            self.flushed.delivered += rows;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
