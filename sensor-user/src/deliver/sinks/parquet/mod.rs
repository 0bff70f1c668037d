//! The parquet sink: rows of each table gathered in memory, then written as one file.
//!
//! Invariants. A file appears under its name when it is whole, and is never changed. Rows count as
//! delivered when they are in such a file; until then they wait, as in a queue. A file that cannot
//! be written is tried again, and nothing more is taken in meanwhile. The folder has no more bytes
//! and no older files than it may: the oldest is deleted first (counted).

mod folder;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use self::folder::Folder;
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::deliver::DeliverError;
use crate::deliver::batch::Batch;
use crate::schema::Table;
use crate::schema::parquet::{ColumnarError, TableFile};

/// A file is full at this size in memory, however few rows it has.
const FULL_BYTES: usize = 64 << 20;

/// Wait before a file that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What a parquet sink is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetConfig {
    /// Where the files are; for this sink alone.
    pub folder: PathBuf,
    /// Rows of one file at most.
    pub file_rows: u64,
    /// Time from the first row of a file until it is written.
    pub file_age: Duration,
    /// Bytes of all files at most.
    pub max_bytes: u64,
    /// Files whose first row is older are deleted.
    pub max_age: Duration,
}

impl ParquetConfig {
    /// Rows of one file unless set.
    pub const FILE_ROWS: u64 = 100_000;
    /// Age of a file unless set.
    pub const FILE_AGE: Duration = Duration::from_mins(10);
    /// Bytes of all files unless set.
    pub const MAX_BYTES: u64 = 1 << 30;
    /// Age of the oldest file unless set.
    pub const MAX_AGE: Duration = Duration::from_hours(30 * 24);
}

/// Rows that are settled: in a whole file, or in none for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) delivered: u64,
    pub(crate) rejected: u64,
}

/// Writes files into one folder.
#[derive(Debug)]
pub(crate) struct ParquetSink {
    config: ParquetConfig,
    folder: Folder,
    open: BTreeMap<&'static str, Open>,
    /// Files that are to be written, one a table at most.
    full: VecDeque<Full>,
    /// When one that could not be written is tried again, where no batch comes before.
    retry_at: Option<Instant>,
    settled: Settled,
}

#[derive(Debug)]
struct Open {
    file: TableFile,
    began: Instant,
    began_wall: Timestamp,
}

/// A file whose bytes do not change any more.
#[derive(Debug, Clone)]
struct Full {
    table: &'static str,
    began: Timestamp,
    rows: u64,
    bytes: Arc<Vec<u8>>,
}

impl ParquetSink {
    /// Removes what a killed agent left half written in the folder.
    pub(crate) fn new(config: ParquetConfig, stats: &Arc<Stats>) -> Self {
        let folder = Folder::open(&config, Arc::clone(stats));
        Self {
            config,
            folder,
            open: BTreeMap::new(),
            full: VecDeque::new(),
            retry_at: None,
            settled: Settled::default(),
        }
    }

    /// Takes a batch in, once the files that were full are written. On an error it took nothing.
    pub(crate) async fn send(
        &mut self,
        batch: &Batch,
        clock: &dyn Clock,
    ) -> Result<(), DeliverError> {
        self.write_full(clock).await?;
        for (table, lines, rows) in batch.by_table() {
            let Some(table) = table else {
                self.settled.rejected += rows;
                continue;
            };
            match self.append(table, &lines, clock.now()) {
                Ok(refused) => self.settled.rejected += refused,
                Err(error) => {
                    self.open.remove(table.name);
                    self.refuse(table.name, &error, rows);
                }
            }
        }
        let most = self.config.file_rows;
        self.close(|open| open.file.rows() >= most || open.file.memory() >= FULL_BYTES).await;
        Ok(())
    }

    /// When there is something to write that waits for time alone.
    pub(crate) fn due(&self) -> Option<Instant> {
        let oldest = self.open.values().map(|open| open.began + self.config.file_age).min();
        if self.full.is_empty() { oldest } else { self.retry_at.or_else(|| Some(Instant::now())) }
    }

    /// Writes what is due; at the end, everything.
    pub(crate) async fn write_due(
        &mut self,
        clock: &dyn Clock,
        at_the_end: bool,
    ) -> Result<(), DeliverError> {
        let (now, age) = (Instant::now(), self.config.file_age);
        self.close(|open| at_the_end || open.began + age <= now).await;
        self.write_full(clock).await
    }

    /// What is settled since this was last asked.
    pub(crate) fn take_settled(&mut self) -> Settled {
        std::mem::take(&mut self.settled)
    }

    fn append(
        &mut self,
        table: &'static Table,
        lines: &str,
        now: Timestamp,
    ) -> Result<u64, ColumnarError> {
        let open = match self.open.entry(table.name) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(none) => none.insert(Open {
                file: TableFile::new(table)?,
                began: Instant::now(),
                began_wall: now,
            }),
        };
        open.file.append(lines)
    }

    /// Turns the open files that `is_full` names into bytes.
    async fn close(&mut self, is_full: impl Fn(&Open) -> bool) {
        let names: Vec<&'static str> =
            self.open.iter().filter(|(_, open)| is_full(open)).map(|(name, _)| *name).collect();
        for table in names {
            let Some(open) = self.open.remove(table) else { continue };
            let (began, rows) = (open.began_wall, open.file.rows());
            // Compressing takes its time.
            let task = tokio::task::spawn_blocking(move || open.file.finish());
            match task.await {
                Ok(Ok(bytes)) if rows > 0 => {
                    self.full.push_back(Full { table, began, rows, bytes: Arc::new(bytes) });
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => self.refuse(table, &error, rows),
                Err(error) => self.refuse(table, &error, rows),
            }
        }
    }

    fn refuse(&mut self, table: &str, error: &dyn std::error::Error, rows: u64) {
        self.settled.rejected += rows;
        tracing::error!(table, rows, error = %crate::deliver::chain(error), "rows are in no file");
    }

    async fn write_full(&mut self, clock: &dyn Clock) -> Result<(), DeliverError> {
        while let Some(full) = self.full.front().cloned() {
            let (folder, now) = (self.folder.clone(), clock.now());
            let rows = full.rows;
            let task = tokio::task::spawn_blocking(move || folder.write(&full, now));
            let written = task.await.unwrap_or_else(|lost| Err(std::io::Error::other(lost)));
            if let Err(error) = written {
                self.retry_at = Some(Instant::now() + RETRY);
                return Err(super::file::describe(&self.config.folder, error));
            }
            self.retry_at = None;
            self.full.pop_front();
            self.settled.delivered += rows;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
