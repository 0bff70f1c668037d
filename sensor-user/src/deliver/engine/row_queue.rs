//! `RowQueue`: rows and notices that wait for a sink, gathered into batches.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::deliver::batch::Entry;
use crate::deliver::format::Format;
use crate::deliver::item::Item;

/// The receiving end of a bounded queue, and the next batch in the making.
#[derive(Debug)]
pub(crate) struct RowQueue {
    incoming: mpsc::Receiver<Item>,
    gathered: Vec<Entry>,
    bytes: usize,
    /// When `gathered` goes out even if it is not full; set while it is not empty.
    due: Option<Instant>,
    wait: Duration,
    most: usize,
    most_bytes: usize,
    format: Format,
}

impl RowQueue {
    pub(crate) fn new(
        incoming: mpsc::Receiver<Item>,
        wait: Duration,
        (most, most_bytes): (usize, usize),
        format: Format,
    ) -> Self {
        let (gathered, bytes, due) = (Vec::new(), 0, None);
        Self { incoming, gathered, bytes, due, wait, most, most_bytes, format }
    }

    /// Waits for a batch: a full one, one that is due, or at the end the rest. `None` when no more
    /// items come and none are left. May be dropped while it waits; nothing is lost then.
    pub(crate) async fn next(&mut self) -> Option<Vec<Entry>> {
        loop {
            if self.gathered.len() >= self.most || self.bytes >= self.most_bytes {
                return Some(self.take());
            }
            let due = self.due.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                item = self.incoming.recv() => match item {
                    Some(item) => self.add(item),
                    None if self.gathered.is_empty() => return None,
                    None => return Some(self.take()),
                },
                () = tokio::time::sleep_until(due), if self.due.is_some() => {
                    return Some(self.take());
                }
            }
        }
    }

    fn add(&mut self, item: Item) {
        let line = self.format.line(&item);
        self.bytes = self.bytes.saturating_add(line.len());
        self.gathered.push(Entry::new(item, 0, line));
        self.due.get_or_insert_with(|| Instant::now() + self.wait);
    }

    fn take(&mut self) -> Vec<Entry> {
        self.due = None;
        self.bytes = 0;
        std::mem::take(&mut self.gathered)
    }

    /// No more items come; those in the queue still do.
    pub(crate) fn close(&mut self) {
        self.incoming.close();
    }

    /// Forgets what waits; how many items that were.
    pub(crate) fn forget(&mut self) -> u64 {
        self.incoming.close();
        let mut items = self.take().len() as u64;
        while self.incoming.try_recv().is_ok() {
            items += 1;
        }
        items
    }
}
