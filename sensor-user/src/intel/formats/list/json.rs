//! JSON: each object with an address member is an entry, at any depth of the document: in an array,
//! in an object of arrays or of objects by id, or in an enclosing object whose members apply to all
//! entries inside. The address member may be an array, of which each element is an address; and each
//! text of an array that is the whole document is one. JSON lines: the same, one document per line.

use std::borrow::Cow;
use std::fmt;
use std::io::{BufRead, Read};
use std::rc::Rc;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, de};

use super::format::ListField;
use super::json_state::{FieldBinding, WalkState};
use super::row::{ListRow, RowConverter};
use crate::base::json_text::JsonText;
use crate::base::lines::Lines;
use crate::intel::formats::entry::{EntrySink, ReadError};
use crate::intel::formats::json::{
    LenientStr, is_index, parse_document, scalars_as_text, truncated, unexpected_document,
};
use crate::intel::rejects::RejectReason;

/// Maximum number of addresses of an array that are held until the end of their object; when it is
/// reached, they are passed on without the members that follow.
const ADDRESSES_MAX: usize = 65_536;
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
    let missing = if state.is_empty_list() { 0 } else { missing };
    let used = state.row_count.saturating_add(missing);
    if state.row_count == 0 && !state.is_list(missing) {
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
    let mut lines = Lines::new(JsonText::new(input).repairing_utf8());
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
        let outer = ListRow::default();
        let mut walker = ValueWalker::new(&mut state, &outer);
        walker.at = ValuePosition::Listed;
        let walked = walker.deserialize(&mut json);
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

/// Visitor of a value; returns the number of objects in it that should be entries but have no
/// address.
struct ValueWalker<'w, 's, 'de> {
    state: &'w mut WalkState<'s>,
    outer: &'w ListRow<'de>,
    key: &'w str,
    index: u64,
    at: ValuePosition,
}

/// Position of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValuePosition {
    /// It is the document.
    Document,
    /// It is a line, or an element of the array that is the document or a line: a text is an entry.
    Listed,
    /// Member of an object.
    Member,
    /// Element of another array.
    Element,
}

impl<'w, 's, 'de> ValueWalker<'w, 's, 'de> {
    fn new(state: &'w mut WalkState<'s>, outer: &'w ListRow<'de>) -> Self {
        Self { state, outer, key: "", index: 0, at: ValuePosition::Document }
    }

    /// A walker of a member of an object.
    fn member(state: &'w mut WalkState<'s>, outer: &'w ListRow<'de>, key: &'w str) -> Self {
        Self { state, outer, key, index: 0, at: ValuePosition::Member }
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
        self.complete(&mut row);
        self.state.push_row(&row);
        0
    }

    /// Fills the fields of a row that stand outside of its object.
    fn complete(&self, row: &mut ListRow<'de>) {
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
        row.fill_from(self.outer);
    }

    fn scalar(self, text: &str) {
        match self.at {
            ValuePosition::Listed => return self.state.push_text(text, self.outer),
            ValuePosition::Element => self.state.unread += 1,
            ValuePosition::Document | ValuePosition::Member => {}
        }
        self.state.add_to_sample(self.key, text);
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
        let is_element = matches!(self.at, ValuePosition::Listed | ValuePosition::Element);
        while let Some(LenientStr(key)) = map.next_key::<LenientStr<'de>>()? {
            is_empty = false;
            let Some(bindings) = self.state.bindings.get(&*key) else {
                let state = &mut *self.state;
                let before = state.enclosed(is_element);
                let walk = ValueWalker::member(state, &inside, &key);
                let missing = map.next_value_seed(walk)?;
                is_leaf &= missing == 0 && before == self.state.enclosed(is_element);
                inner += missing;
                continue;
            };
            let bindings = Rc::clone(bindings);
            let (value, addresses) = if bindings.iter().any(FieldBinding::is_address) {
                let before = self.state.row_count;
                let mut found = Vec::new();
                let state = &mut *self.state;
                let (known, outer) = (&row, &inside);
                let values = AddressValues { state, found: &mut found, known, outer, key: &key };
                inner += map.next_value_seed(values)?;
                is_leaf &= before == self.state.row_count;
                (found.first().cloned().unwrap_or_default(), found)
            } else {
                let LenientStr(value) = map.next_value()?;
                (value, Vec::new())
            };
            if value.trim().is_empty() {
                continue;
            }
            let mut addresses = Some(addresses);
            for binding in &*bindings {
                let (target, ranks) = match (binding.is_outer, &mut ranks) {
                    (false, [own, _]) => (&mut row, own),
                    (true, [_, outer]) => (&mut inside, outer),
                };
                let rank = ranks.get_mut(binding.field as usize);
                let Some(rank) = rank.filter(|rank| binding.rank < **rank) else { continue };
                *rank = binding.rank;
                if binding.is_address() {
                    target.set_addresses(addresses.take().unwrap_or_default());
                    continue;
                }
                // An outer text is copied to every entry inside, so it is kept short.
                let is_long = binding.is_outer && truncated(&value).len() < value.len();
                let value =
                    if is_long { truncated(&value).to_owned().into() } else { value.clone() };
                target.set(binding.field, value);
            }
        }
        Ok(self.end(row, is_leaf && !is_empty, inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<u64, A::Error> {
        self.state.arrays += 1;
        self.state.depth += 1;
        let at = match self.at {
            ValuePosition::Document | ValuePosition::Listed => ValuePosition::Listed,
            ValuePosition::Member | ValuePosition::Element => ValuePosition::Element,
        };
        let (mut missing, mut index) = (0, 0);
        loop {
            let state = &mut *self.state;
            let (outer, key) = (self.outer, self.key);
            let walk = ValueWalker { state, outer, key, index, at };
            let Some(inner) = values.next_element_seed(walk)? else { break };
            missing += inner;
            index += 1;
        }
        self.state.depth -= 1;
        self.state.end_array(index);
        Ok(missing)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        self.scalar(text);
        Ok(0)
    }

    scalars_as_text!();

    fn visit_unit<E: de::Error>(self) -> Result<u64, E> {
        if self.at != ValuePosition::Listed {
            self.state.add_to_sample(self.key, "null");
        }
        Ok(0)
    }
}

/// Visitor of the value of an address member: a text, or an array of texts; objects in it are walked
/// as everywhere. Returns the number of objects that should be entries but have no address.
struct AddressValues<'w, 's, 'de> {
    state: &'w mut WalkState<'s>,
    found: &'w mut Vec<Cow<'de, str>>,
    /// The row, as far as it is read.
    known: &'w ListRow<'de>,
    outer: &'w ListRow<'de>,
    key: &'w str,
}

impl<'s, 'de> AddressValues<'_, 's, 'de> {
    fn add(&mut self, text: Cow<'de, str>) {
        if text.trim().is_empty() {
            return;
        }
        self.found.push(text);
        if self.found.len() >= ADDRESSES_MAX {
            let mut row = self.known.clone();
            let id = match row.get(ListField::Id) {
                "" => String::new(),
                id => format!("{id}/{}", self.state.row_count),
            };
            row.set(ListField::Id, id.into());
            row.set_addresses(std::mem::take(self.found));
            row.fill_from(self.outer);
            self.state.push_row(&row);
        }
    }

    /// The same visitor, for a value inside this one.
    fn inner<'i>(&'i mut self) -> AddressValues<'i, 's, 'de> {
        let AddressValues { state, found, known, outer, key } = self;
        AddressValues { state, found, known, outer, key }
    }
}

impl<'de> DeserializeSeed<'de> for AddressValues<'_, '_, 'de> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<u64, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AddressValues<'_, '_, 'de> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E: de::Error>(mut self, text: &'de str) -> Result<u64, E> {
        self.add(Cow::Borrowed(text));
        Ok(0)
    }

    fn visit_str<E: de::Error>(mut self, text: &str) -> Result<u64, E> {
        self.add(Cow::Owned(text.to_owned()));
        Ok(0)
    }

    scalars_as_text!();

    fn visit_unit<E: de::Error>(self) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut values: A) -> Result<u64, A::Error> {
        self.state.arrays += 1;
        let (mut missing, mut count) = (0, 0_u64);
        while let Some(inner) = values.next_element_seed(self.inner())? {
            missing += inner;
            count += 1;
        }
        self.state.end_array(count);
        Ok(missing)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<u64, A::Error> {
        let mut missing = 0;
        while let Some(LenientStr(key)) = map.next_key::<LenientStr<'de>>()? {
            let is_address = |all: &Rc<[FieldBinding]>| all.iter().any(FieldBinding::is_address);
            missing += if is_index(&key) || self.state.bindings.get(&*key).is_some_and(is_address) {
                map.next_value_seed(self.inner())?
            } else {
                map.next_value_seed(ValueWalker::member(self.state, self.outer, &key))?
            };
        }
        Ok(missing)
    }
}
