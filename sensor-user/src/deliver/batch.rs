//! `Batch`: items that go out together, already in the sink's format.

use jiff::Timestamp;

use super::item::Item;
use crate::base::stable_id::stable_id;
use crate::schema::Table;

/// What a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Alerts,
    /// Rows and notices.
    Rows,
}

/// One item, ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Stable: `AlertId`, or the id of a row.
    pub(crate) id: String,
    pub(crate) time: Timestamp,
    /// In the sink's format, without a line end.
    pub(crate) line: String,
    /// What it was made of.
    pub(crate) item: Item,
    /// Where an alert stands in the spool; 0 for others.
    pub(crate) sequence: u64,
}

impl Entry {
    /// `item` as `line`.
    pub(crate) fn new(item: Item, sequence: u64, line: String) -> Self {
        Self { id: item.id(), time: item.time(), line, item, sequence }
    }
}

/// Items of one kind, in order; never empty.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) content: Content,
    entries: Vec<Entry>,
}

/// What became of a batch that was answered: what is in neither list was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Indices of entries to send again, ascending, and the wait that the other side asks for.
    pub(crate) again: Vec<usize>,
    pub(crate) after: Option<std::time::Duration>,
    /// Indices of entries that can never be taken, ascending, and why (escaped).
    pub(crate) rejected: Vec<(usize, String)>,
}

impl Batch {
    pub(crate) const fn new(content: Content, entries: Vec<Entry>) -> Self {
        Self { content, entries }
    }

    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// The same items always give the same key, whenever and however often they are sent.
    pub(crate) fn idempotency_key(&self) -> String {
        let ids: Vec<&str> = self.entries.iter().map(|entry| entry.id.as_str()).collect();
        stable_id(&ids)
    }

    /// A line an item.
    pub(crate) fn lines(&self) -> String {
        let bytes = self.entries.iter().map(|entry| entry.line.len() + 1).sum();
        self.entries.iter().fold(String::with_capacity(bytes), |mut body, entry| {
            body.push_str(&entry.line);
            body.push('\n');
            body
        })
    }

    /// The lines of each table (`None`: of what is no row), and how many they are.
    pub(crate) fn by_table(&self) -> Vec<(Option<&'static Table>, String, u64)> {
        let mut tables: Vec<(Option<&'static Table>, String, u64)> = Vec::new();
        for entry in &self.entries {
            let its = entry.item.table();
            let known = tables.iter().position(|(table, ..)| *table == its);
            let place = known.unwrap_or_else(|| {
                tables.push((its, String::new(), 0));
                tables.len() - 1
            });
            if let Some((_, lines, rows)) = tables.get_mut(place) {
                lines.push_str(&entry.line);
                lines.push('\n');
                *rows += 1;
            }
        }
        tables
    }

    /// One JSON array.
    pub(crate) fn array(&self) -> String {
        let bytes = self.entries.iter().map(|entry| entry.line.len() + 1).sum::<usize>() + 2;
        let mut body = String::with_capacity(bytes);
        for (index, entry) in self.entries.iter().enumerate() {
            body.push(if index == 0 { '[' } else { ',' });
            body.push_str(&entry.line);
        }
        body.push(']');
        body
    }

    /// Two halves in order; the batch itself where it has one item.
    pub(crate) fn split(mut self) -> Result<(Self, Self), Self> {
        if self.entries.len() < 2 {
            return Err(self);
        }
        let second = self.entries.split_off(self.entries.len() / 2);
        let second = Self { content: self.content, entries: second };
        Ok((self, second))
    }
}
