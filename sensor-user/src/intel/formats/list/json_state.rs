//! `WalkState`: the rows and counts of a JSON list while its values are visited.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use super::format::{ListColumns, ListField};
use super::row::{ListRow, RowConverter};
use crate::intel::formats::entry::EntrySink;

/// Maximum length in bytes of the sample of a document that is not a list.
const SAMPLE_MAX: usize = 200;

/// Field of a member, its rank among the columns of that field, and whether it applies to all
/// entries inside the object.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldBinding {
    pub(super) field: ListField,
    pub(super) rank: usize,
    pub(super) is_outer: bool,
}

impl FieldBinding {
    pub(super) fn is_address(&self) -> bool {
        self.field == ListField::Address && !self.is_outer
    }
}

pub(super) struct WalkState<'s> {
    pub(super) rows: RowConverter<'s>,
    pub(super) entries: &'s mut dyn EntrySink,
    pub(super) bindings: HashMap<&'s str, Rc<[FieldBinding]>>,
    pub(super) position: u64,
    pub(super) is_by_line: bool,
    pub(super) row_count: u64,
    pub(super) arrays: u64,
    /// Number of arrays that enclose the value that is read.
    pub(super) depth: u64,
    /// Number of arrays without elements that are in no other array.
    pub(super) empty_arrays: u64,
    /// Number of arrays without elements inside others.
    pub(super) empty_inner: u64,
    /// Number of texts and numbers in arrays that are not read.
    pub(super) unread: u64,
    pub(super) sample: String,
}

impl<'s> WalkState<'s> {
    pub(super) fn new(rows: RowConverter<'s>, entries: &'s mut dyn EntrySink) -> Self {
        let mut bindings: HashMap<&str, Vec<FieldBinding>> = HashMap::new();
        let mut add = |columns: &'s ListColumns, is_outer| {
            for (field, names) in &columns.0 {
                for (rank, name) in names.iter().enumerate() {
                    let binding = FieldBinding { field: *field, rank, is_outer };
                    bindings.entry(name).or_default().push(binding);
                }
            }
        };
        add(&rows.format.columns, false);
        add(&rows.format.outer, true);
        let bindings = bindings.into_iter().map(|(name, all)| (name, all.into())).collect();
        let sample = String::new();
        Self {
            rows,
            entries,
            bindings,
            position: 0,
            is_by_line: false,
            row_count: 0,
            arrays: 0,
            depth: 0,
            empty_arrays: 0,
            empty_inner: 0,
            unread: 0,
            sample,
        }
    }

    /// True for a document without any entry that is a list nevertheless; `missing` objects in it have
    /// no address.
    pub(super) fn is_list(&self, missing: u64) -> bool {
        match self.arrays {
            0 => missing == 0 && self.sample.is_empty(),
            _ => missing > 0 || self.is_empty_list() || self.unread == 0,
        }
    }

    /// Counts an array that has ended.
    pub(super) const fn end_array(&mut self, length: u64) {
        if length > 0 {
            return;
        }
        if self.depth == 0 {
            self.empty_arrays += 1;
        } else {
            self.empty_inner += 1;
        }
    }

    /// Number of values so far that an object encloses instead of being an entry. In an element of an
    /// array, an array of texts is a property.
    pub(super) const fn enclosed(&self, is_element: bool) -> u64 {
        self.row_count + if is_element { self.empty_inner } else { self.arrays }
    }

    /// True for a document without any entry whose list is empty: other objects describe the list.
    pub(super) const fn is_empty_list(&self) -> bool {
        self.row_count == 0 && self.empty_arrays > 0
    }

    /// Converts a row, whose addresses are complete.
    pub(super) fn push_row(&mut self, row: &ListRow<'_>) {
        self.rows.push_row(row, self.position, self.entries);
        self.position += u64::from(!self.is_by_line);
        self.row_count += 1;
    }

    /// Converts a text that is an entry by itself.
    pub(super) fn push_text(&mut self, text: &str, outer: &ListRow<'_>) {
        let mut row = ListRow::default();
        row.set(ListField::Address, Cow::Borrowed(text));
        row.fill_from(outer);
        self.push_row(&row);
    }

    pub(super) fn add_to_sample(&mut self, key: &str, value: &str) {
        if self.row_count == 0 && self.sample.len() + key.len() + value.len() < SAMPLE_MAX {
            self.sample.push_str(if self.sample.is_empty() { "" } else { ", " });
            self.sample.push_str(key);
            self.sample.push_str(if key.is_empty() { "" } else { ": " });
            self.sample.push_str(value);
        }
    }
}
