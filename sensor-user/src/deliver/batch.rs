//! `Batch`: items that go out together, already as JSON text.

use std::sync::Arc;

use crate::aggregate::TableRow;
use crate::dedup::Alert;
use crate::notice::Notice;
use crate::schema::Table;
use crate::stable_id::stable_id;

/// What a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Alerts,
    Rows,
}

/// What goes the way of rows.
#[derive(Debug, Clone)]
pub(super) enum RowItem {
    Row(Arc<TableRow>),
    /// About the agent itself: in band, so that a reader of rows sees where they have a gap.
    Notice(Arc<Notice>),
}

/// One item: its stable id and its line.
#[derive(Debug, Clone)]
pub(super) struct Item {
    id: String,
    line: String,
    /// `None` for what is no row.
    table: Option<&'static Table>,
}

/// Items of one kind, in order; never empty.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) content: Content,
    items: Vec<Item>,
}

impl Batch {
    pub(super) fn alerts(alerts: &[Arc<Alert>], line: impl Fn(&Alert) -> String) -> Self {
        let item = |alert: &Arc<Alert>| Item {
            id: alert.alert_id.clone(),
            line: line(alert),
            table: None,
        };
        Self { content: Content::Alerts, items: alerts.iter().map(item).collect() }
    }

    pub(super) fn rows(rows: &[RowItem]) -> Self {
        let item = |row: &RowItem| match row {
            RowItem::Row(row) => Item { id: row.id(), line: json(row), table: Some(row.table()) },
            RowItem::Notice(notice) => Item { id: notice.id(), line: json(notice), table: None },
        };
        Self { content: Content::Rows, items: rows.iter().map(item).collect() }
    }

    pub(super) const fn len(&self) -> usize {
        self.items.len()
    }

    /// The same items always give the same key, whenever and however often they are sent.
    pub(super) fn idempotency_key(&self) -> String {
        let ids: Vec<&str> = self.items.iter().map(|item| item.id.as_str()).collect();
        stable_id(&ids)
    }

    /// A line an item.
    pub(super) fn lines(&self) -> String {
        let bytes = self.items.iter().map(|item| item.line.len() + 1).sum();
        self.items.iter().fold(String::with_capacity(bytes), |mut body, item| {
            body.push_str(&item.line);
            body.push('\n');
            body
        })
    }

    /// The lines of each table (`None`: of what is no row), and how many they are.
    pub(super) fn by_table(&self) -> Vec<(Option<&'static Table>, String, u64)> {
        let mut tables: Vec<(Option<&'static Table>, String, u64)> = Vec::new();
        for item in &self.items {
            let known = tables.iter().position(|(table, ..)| *table == item.table);
            let place = known.unwrap_or_else(|| {
                tables.push((item.table, String::new(), 0));
                tables.len() - 1
            });
            if let Some((_, lines, rows)) = tables.get_mut(place) {
                lines.push_str(&item.line);
                lines.push('\n');
                *rows += 1;
            }
        }
        tables
    }

    /// One JSON array.
    pub(super) fn array(&self) -> String {
        let bytes = self.items.iter().map(|item| item.line.len() + 1).sum::<usize>() + 2;
        let mut body = String::with_capacity(bytes);
        for (index, item) in self.items.iter().enumerate() {
            body.push(if index == 0 { '[' } else { ',' });
            body.push_str(&item.line);
        }
        body.push(']');
        body
    }

    /// Two halves in order; `None` where there is one item.
    pub(super) fn split(mut self) -> Result<(Self, Self), Self> {
        if self.items.len() < 2 {
            return Err(self);
        }
        let second = self.items.split_off(self.items.len() / 2);
        let second = Self { content: self.content, items: second };
        Ok((self, second))
    }
}

/// The item's JSON, without a line end inside.
pub(super) fn json(item: &impl serde::Serialize) -> String {
    // Serialisation fails only for maps with keys that are not text, and these types have none.
    serde_json::to_string(item).unwrap_or_default()
}
