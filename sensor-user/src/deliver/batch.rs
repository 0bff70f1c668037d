//! `Batch`: items that a sink sends in one request, already in the sink's format.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::item::Item;
use crate::base::stable_id::stable_id;
use crate::schema::Table;

/// Kind of the items of a batch. Both kinds are queued and retried separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ItemKind {
    Alerts,
    /// Rows and agent events.
    Rows,
}

/// An item in the sink's format.
#[derive(Debug, Clone)]
pub(super) struct BatchItem {
    /// Stable id: `AlertId`, or the id of a row.
    pub(super) id: String,
    pub(super) time: Timestamp,
    /// Formatted item without a line end.
    pub(super) line: String,
    pub(super) item: Item,
    /// Sequence number of an alert in the spool; 0 for other items.
    pub(super) sequence: u64,
}

impl BatchItem {
    pub(super) fn new(item: Item, sequence: u64, line: String) -> Self {
        Self { id: item.id(), time: item.time(), line, item, sequence }
    }
}

/// Items of one kind, in order; never empty.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) kind: ItemKind,
    pub(super) items: Vec<BatchItem>,
}

/// Result of a request that got a response. Items in neither list are delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SendOutcome {
    /// Indices of items to retry, ascending, and the delay that the receiver requests.
    pub(super) retry: Vec<usize>,
    pub(super) retry_after: Option<Duration>,
    /// Reason of the first item to retry.
    pub(super) retry_reason: Option<String>,
    /// Indices of items that the receiver refuses permanently, ascending, with escaped reasons.
    pub(super) rejected: Vec<(usize, String)>,
    /// Number of delivered items that the receiver knew already and did not store again.
    pub(super) already_stored: u64,
}

/// Result of one item that the receiver accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepted {
    /// Stored by this request, as far as the receiver reports it.
    Stored,
    /// The receiver knows the item's id, and stored nothing.
    AlreadyStored,
}

/// Reason why one item is not delivered.
#[derive(Debug)]
pub(super) enum ItemError {
    Retry(String),
    Rejected(String),
}

impl SendOutcome {
    /// Records the result of the item at `index`; indices must ascend.
    pub(super) fn record(&mut self, index: usize, result: Result<Accepted, ItemError>) {
        match result {
            Ok(Accepted::Stored) => {}
            Ok(Accepted::AlreadyStored) => self.already_stored += 1,
            Err(ItemError::Rejected(reason)) => self.rejected.push((index, reason)),
            Err(ItemError::Retry(reason)) => {
                self.retry_reason.get_or_insert(reason);
                self.retry.push(index);
            }
        }
    }

    /// Takes the reason of the first retry, and returns it if all `count` items are to be retried:
    /// then the error concerns the receiver, not the items.
    pub(super) fn failure(&mut self, count: usize) -> Option<String> {
        self.retry_reason.take().filter(|_| self.retry.len() == count)
    }
}

impl Batch {
    pub(super) const fn new(kind: ItemKind, items: Vec<BatchItem>) -> Self {
        Self { kind, items }
    }

    pub(super) const fn len(&self) -> usize {
        self.items.len()
    }

    /// Key that is equal each time that the same items are sent.
    pub(super) fn idempotency_key(&self) -> String {
        let ids: Vec<&str> = self.items.iter().map(|item| item.id.as_str()).collect();
        stable_id(&ids)
    }

    /// The items as lines.
    pub(super) fn lines(&self) -> String {
        self.items.iter().flat_map(|item| [&*item.line, "\n"]).collect()
    }

    /// The items as one JSON array.
    pub(super) fn array(&self) -> String {
        let bytes: usize = self.items.iter().map(|item| item.line.len() + 1).sum();
        let mut array = String::with_capacity(bytes + 2);
        for (index, item) in self.items.iter().enumerate() {
            array.extend([if index == 0 { "[" } else { "," }, &item.line]);
        }
        array.push(']');
        array
    }

    /// Lines and number of the items of each table (`None`: items that are not rows).
    pub(super) fn by_table(&self) -> Vec<(Option<&'static Table>, String, u64)> {
        let mut tables = BTreeMap::new();
        for item in &self.items {
            let table = item.item.table();
            let name = table.map(|table| table.name);
            let (_, lines, count) = tables.entry(name).or_insert((table, String::new(), 0));
            lines.extend([&*item.line, "\n"]);
            *count += 1;
        }
        tables.into_values().collect()
    }

    /// Returns two halves in order, or the batch itself if it has one item.
    pub(super) fn split(mut self) -> Result<(Self, Self), Self> {
        if self.items.len() < 2 {
            return Err(self);
        }
        let second = self.items.split_off(self.items.len() / 2);
        let second = Self { kind: self.kind, items: second };
        Ok((self, second))
    }
}
