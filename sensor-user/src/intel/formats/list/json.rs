//! JSON: each object with an address member is an entry, at any depth of the document: in an array,
//! in an object of arrays or of objects by id, or in an enclosing object whose members apply to all
//! entries inside. JSON lines: the same, one document per line.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, Read};

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, de};

use super::format::{ListColumns, ListField};
use super::row::{ListRow, RowConverter};
use crate::base::lines::Lines;
use crate::intel::formats::entry::{EntrySink, ReadError};
use crate::intel::formats::json::{LenientStr, parse_document, truncated, unexpected_document};
use crate::intel::rejects::RejectReason;

/// Maximum length in bytes of the sample of a document that is not a list.
const SAMPLE_MAX: usize = 200;
const EXPECTED: &str = "a list in JSON";

pub(super) fn read(
    input: impl Read,
    rows: RowConverter<'_>,
    first_position: u64,
    entries: &mut dyn EntrySink,
) -> Result<u64, ReadError> {
    let mut state = WalkState::new(rows, entries);
    state.position = first_position;
    let missing =
        parse_document(input, ValueWalker::new(&mut state, &ListRow::default()), EXPECTED)?;
    let used = state.row_count.saturating_add(missing);
    if state.row_count == 0 && state.arrays == 0 && (missing > 0 || !state.sample.is_empty()) {
        return Err(unexpected_document(EXPECTED, &state.sample));
    }
    for _ in 0..missing {
        entries.reject(first_position, RejectReason::NoAddress, "");
    }
    Ok(used)
}

pub(super) fn read_lines(
    input: impl BufRead,
    rows: RowConverter<'_>,
    first_position: u64,
    entries: &mut dyn EntrySink,
) -> Result<u64, ReadError> {
    let mut state = WalkState::new(rows, entries);
    state.is_by_line = true;
    let mut lines = Lines::new(input);
    let mut used = 0;
    while let Some(line) = lines.next_line()? {
        used = line.number;
        state.position = first_position.saturating_add(line.number - 1);
        let Some(bytes) = line.bytes else {
            state.entries.reject(state.position, RejectReason::LineTooLong, "");
            continue;
        };
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let walked = ValueWalker::new(&mut state, &ListRow::default()).deserialize(&mut json);
        match walked.and_then(|missing| json.end().map(|()| missing)) {
            Ok(0) => {}
            Ok(_) => state.entries.reject(state.position, RejectReason::NoAddress, &state.sample),
            Err(error) if error.is_eof() && !line.is_ended => {
                return Err(ReadError::Truncated(format!("in line {}", line.number)));
            }
            Err(error) => {
                let text = String::from_utf8_lossy(bytes);
                state.entries.reject(state.position, RejectReason::from_json(&error), &text);
            }
        }
    }
    Ok(used)
}

/// Field of a member, its rank among the columns of that field, and whether it applies to all
/// entries inside the object.
#[derive(Debug, Clone, Copy)]
struct FieldBinding {
    field: ListField,
    rank: usize,
    is_outer: bool,
}

struct WalkState<'s> {
    rows: RowConverter<'s>,
    entries: &'s mut dyn EntrySink,
    bindings: HashMap<&'s str, Vec<FieldBinding>>,
    position: u64,
    is_by_line: bool,
    row_count: u64,
    arrays: u64,
    sample: String,
}

impl<'s> WalkState<'s> {
    fn new(rows: RowConverter<'s>, entries: &'s mut dyn EntrySink) -> Self {
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
        let sample = String::new();
        Self {
            rows,
            entries,
            bindings,
            position: 0,
            is_by_line: false,
            row_count: 0,
            arrays: 0,
            sample,
        }
    }

    fn add_to_sample(&mut self, key: &str, value: &str) {
        if self.row_count == 0 && self.sample.len() + key.len() + value.len() < SAMPLE_MAX {
            self.sample.push_str(if self.sample.is_empty() { "" } else { ", " });
            self.sample.push_str(key);
            self.sample.push_str(if key.is_empty() { "" } else { ": " });
            self.sample.push_str(value);
        }
    }
}

/// Visitor of a value; returns the number of objects in it that should be entries but have no
/// address.
struct ValueWalker<'w, 's, 'de> {
    state: &'w mut WalkState<'s>,
    outer: &'w ListRow<'de>,
    key: &'w str,
    index: u64,
}

impl<'w, 's, 'de> ValueWalker<'w, 's, 'de> {
    fn new(state: &'w mut WalkState<'s>, outer: &'w ListRow<'de>) -> Self {
        Self { state, outer, key: "", index: 0 }
    }

    fn end(self, mut row: ListRow<'de>, is_leaf: bool, inner: u64) -> u64 {
        let kinds = &self.state.rows.format.kinds;
        if row.get(ListField::Address).is_empty() {
            let kind = row.get(ListField::Kind);
            // An object of another kind is not an entry: it describes the list itself.
            let is_entry = kind.is_empty() || kinds.is_empty() || kinds.iter().any(|it| it == kind);
            if is_leaf && is_entry {
                return 1;
            }
            return inner;
        }
        if self.state.rows.format.is_key_id && !self.key.is_empty() {
            let id: Cow<'de, str> = match self.index {
                0 => Cow::Owned(self.key.to_owned()),
                index => Cow::Owned(format!("{}/{index}", self.key)),
            };
            for field in [ListField::Id, ListField::Url] {
                if row.get(field).is_empty() {
                    row.set(field, id.clone());
                }
            }
        }
        let state = self.state;
        state.rows.push_row(&row.filled_from(self.outer), state.position, state.entries);
        state.position += u64::from(!state.is_by_line);
        state.row_count += 1;
        0
    }
}

impl<'de> DeserializeSeed<'de> for ValueWalker<'_, '_, 'de> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<u64, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueWalker<'_, '_, 'de> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        let (mut row, mut inside) = (ListRow::default(), self.outer.clone());
        let mut ranks = [[usize::MAX; ListField::COUNT]; 2];
        let (mut is_empty, mut is_leaf, mut inner) = (true, true, 0);
        while let Some(LenientStr(key)) = map.next_key::<LenientStr<'de>>()? {
            is_empty = false;
            let Some(bindings) = self.state.bindings.get(&*key) else {
                let state = &mut *self.state;
                let before = state.arrays + state.row_count;
                let walk = ValueWalker { state, outer: &inside, key: &key, index: 0 };
                let missing = map.next_value_seed(walk)?;
                is_leaf &= missing == 0 && before == self.state.arrays + self.state.row_count;
                inner += missing;
                continue;
            };
            let LenientStr(value) = map.next_value()?;
            for binding in bindings {
                let (target, ranks) = match (binding.is_outer, &mut ranks) {
                    (false, [own, _]) => (&mut row, own),
                    (true, [_, outer]) => (&mut inside, outer),
                };
                if let Some(rank) = ranks.get_mut(binding.field as usize)
                    && binding.rank < *rank
                    && !value.trim().is_empty()
                {
                    *rank = binding.rank;
                    // An outer text is copied to every entry inside, so it is kept short.
                    let is_long = binding.is_outer && truncated(&value).len() < value.len();
                    let value =
                        if is_long { truncated(&value).to_owned().into() } else { value.clone() };
                    target.set(binding.field, value);
                }
            }
        }
        Ok(self.end(row, is_leaf && !is_empty, inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<u64, A::Error> {
        self.state.arrays += 1;
        let (mut missing, mut index) = (0, 0);
        loop {
            let state = &mut *self.state;
            let walk = ValueWalker { state, outer: self.outer, key: self.key, index };
            let Some(inner) = values.next_element_seed(walk)? else { return Ok(missing) };
            missing += inner;
            index += 1;
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        self.state.add_to_sample(self.key, text);
        Ok(0)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<u64, E> {
        self.state.add_to_sample(self.key, if value { "true" } else { "false" });
        Ok(0)
    }

    fn visit_u64<E: de::Error>(self, _value: u64) -> Result<u64, E> {
        self.state.add_to_sample(self.key, "a number");
        Ok(0)
    }

    fn visit_i64<E: de::Error>(self, _value: i64) -> Result<u64, E> {
        self.state.add_to_sample(self.key, "a number");
        Ok(0)
    }

    fn visit_f64<E: de::Error>(self, _value: f64) -> Result<u64, E> {
        self.state.add_to_sample(self.key, "a number");
        Ok(0)
    }

    fn visit_unit<E: de::Error>(self) -> Result<u64, E> {
        self.state.add_to_sample(self.key, "null");
        Ok(0)
    }
}
