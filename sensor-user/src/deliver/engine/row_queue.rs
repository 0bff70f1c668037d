//! `RowQueue`: rows and agent events that wait for a sink, gathered into batches.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::deliver::SinkConfig;
use crate::deliver::batch::BatchItem;
use crate::deliver::format::Format;
use crate::deliver::item::Item;

/// Receiver of a bounded queue, with the next batch.
#[derive(Debug)]
pub(super) struct RowQueue {
    incoming: mpsc::Receiver<Item>,
    batch: Vec<BatchItem>,
    batch_bytes: usize,
    /// Time at which an incomplete batch is returned; set while the batch is not empty.
    deadline: Option<Instant>,
    wait: Duration,
    items_max: usize,
    bytes_max: usize,
    format: Format,
}

impl RowQueue {
    pub(super) fn new(incoming: mpsc::Receiver<Item>, config: &SinkConfig) -> Self {
        Self {
            incoming,
            batch: Vec::new(),
            batch_bytes: 0,
            deadline: None,
            wait: config.batch_wait,
            items_max: config.batch.max(1),
            bytes_max: config.batch_bytes.max(1),
            format: config.format,
        }
    }

    /// Waits for a batch: complete, at its deadline, or the rest of a closed queue. Returns `None`
    /// once the queue is closed and empty. Dropping the future loses no item.
    pub(super) async fn next(&mut self) -> Option<Vec<BatchItem>> {
        loop {
            if self.batch.len() >= self.items_max || self.batch_bytes >= self.bytes_max {
                return Some(self.take());
            }
            let deadline = self.deadline.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                item = self.incoming.recv() => match item {
                    Some(item) => self.add(item),
                    None if self.batch.is_empty() => return None,
                    None => return Some(self.take()),
                },
                () = tokio::time::sleep_until(deadline), if self.deadline.is_some() => {
                    return Some(self.take());
                }
            }
        }
    }

    fn add(&mut self, item: Item) {
        let line = self.format.line(&item);
        self.batch_bytes = self.batch_bytes.saturating_add(line.len());
        self.batch.push(BatchItem::new(item, 0, line));
        self.deadline.get_or_insert_with(|| Instant::now() + self.wait);
    }

    fn take(&mut self) -> Vec<BatchItem> {
        self.deadline = None;
        self.batch_bytes = 0;
        std::mem::take(&mut self.batch)
    }

    /// Accepts no more items; those in the queue are still returned.
    pub(super) fn close(&mut self) {
        self.incoming.close();
    }

    /// Closes the queue and drops all items. Returns their number.
    pub(super) fn clear(&mut self) -> u64 {
        self.close();
        let mut items = self.take().len() as u64;
        while self.incoming.try_recv().is_ok() {
            items += 1;
        }
        items
    }
}
