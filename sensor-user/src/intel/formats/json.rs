//! Walking through JSON documents of feeds without a tree of them.
//!
//! Whatever the shape of a value, walking over it is no fault: what does not fit is skipped. Only
//! broken JSON ends a document, and nesting deeper than the parser's limit where it is looked at.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use super::entry::ReadError;

/// Bytes of a text that is joined from several values.
const JOINED_MAX: usize = 4096;
/// Bytes of a text that is kept: one that is said of a million entries must not be long.
const TEXT_MAX: usize = 8192;

/// A value as text: numbers and booleans are written out, those of an array are joined by commas;
/// null, objects and absent values are "".
#[derive(Debug, Default, Clone)]
pub(crate) struct LenientStr<'a>(pub(crate) Cow<'a, str>);

impl LenientStr<'_> {
    /// The text, without blanks around it.
    pub(crate) fn as_str(&self) -> &str {
        self.0.trim()
    }

    /// A copy of the text, or of its beginning.
    pub(crate) fn text(&self) -> String {
        short(self.as_str()).to_owned()
    }

    /// True or false, also as 1 and 0, in any case; `None` for anything else.
    pub(crate) fn flag(&self) -> Option<bool> {
        let text = self.as_str();
        let is = |word: &str| text.eq_ignore_ascii_case(word);
        match () {
            () if is("true") || is("1") => Some(true),
            () if is("false") || is("0") => Some(false),
            () => None,
        }
    }
}

/// The text, or its beginning where it is longer than texts are kept.
pub(crate) fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_MAX)).unwrap_or(text)
}

impl<'de: 'a, 'a> Deserialize<'de> for LenientStr<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(LenientStrVisitor)
    }
}

struct LenientStrVisitor;

impl<'de> Visitor<'de> for LenientStrVisitor {
    type Value = LenientStr<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(LenientStr(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(LenientStr(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Self::Value, E> {
        Ok(LenientStr(Cow::Owned(text)))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(LenientStr(Cow::Borrowed(if value { "true" } else { "false" })))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(LenientStr(Cow::Owned(value.to_string())))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(LenientStr(Cow::Owned(value.to_string())))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(LenientStr(Cow::Owned(value.to_string())))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(LenientStr::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
        let mut joined = String::new();
        while let Some(LenientStr(text)) = values.next_element()? {
            if !text.is_empty() && joined.len() + text.len() < JOINED_MAX {
                joined.push_str(if joined.is_empty() { "" } else { ", " });
                joined.push_str(&text);
            }
        }
        Ok(LenientStr(Cow::Owned(joined)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(LenientStr::default())
    }
}

/// What is done with the members of an object.
pub(crate) trait ObjectVisitor {
    /// The value of `key` is next in `map`, and is to be taken from it.
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;

    /// All members were seen.
    fn end(&mut self) {}
}

/// Walks over one object, or over each object of an array; says how many objects it met.
#[derive(Debug)]
pub(crate) struct EachObject<'m, M>(pub(crate) &'m mut M);

impl<'de, M: ObjectVisitor> DeserializeSeed<'de> for EachObject<'_, M> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<u64, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de, M: ObjectVisitor> Visitor<'de> for EachObject<'_, M> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            self.0.member(&key, &mut map)?;
        }
        self.0.end();
        Ok(1)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<u64, A::Error> {
        let mut count = 0;
        while let Some(met) = values.next_element_seed(EachObject(&mut *self.0))? {
            count += met;
        }
        Ok(count)
    }

    fn visit_bool<E: de::Error>(self, _value: bool) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_u64<E: de::Error>(self, _value: u64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_i64<E: de::Error>(self, _value: i64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_f64<E: de::Error>(self, _value: f64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_str<E: de::Error>(self, _text: &str) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_unit<E: de::Error>(self) -> Result<u64, E> {
        Ok(0)
    }
}

/// Gives the text of each element of an array to a function, so that one that is of a wrong shape
/// can be told and left out. A value that is no array is skipped. True where it was an array.
#[derive(Debug)]
pub(crate) struct EachElement<F>(pub(crate) F);

impl<'de, F: FnMut(&str)> DeserializeSeed<'de> for EachElement<F> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<bool, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de, F: FnMut(&str)> Visitor<'de> for EachElement<F> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut values: A) -> Result<bool, A::Error> {
        while let Some(element) = values.next_element::<Box<RawValue>>()? {
            (self.0)(element.get());
        }
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<bool, A::Error> {
        LenientStrVisitor.visit_map(members).map(|_ignored| false)
    }

    fn visit_bool<E: de::Error>(self, _value: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E: de::Error>(self, _value: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E: de::Error>(self, _value: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E: de::Error>(self, _value: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E: de::Error>(self, _text: &str) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E: de::Error>(self) -> Result<bool, E> {
        Ok(false)
    }
}

/// Walks over a whole document. `what` it should be is told where it is something else.
pub(crate) fn document<'de, S>(input: impl Read, seed: S, what: &str) -> Result<S::Value, ReadError>
where
    S: DeserializeSeed<'de>,
{
    let mut json = serde_json::Deserializer::from_reader(input);
    let value = seed.deserialize(&mut json).map_err(|error| fault(error, what))?;
    json.end().map_err(|error| fault(error, what))?;
    Ok(value)
}

fn fault(error: serde_json::Error, what: &str) -> ReadError {
    if error.is_io() {
        return ReadError::Io(error.into());
    }
    let position = format!("at line {} column {}", error.line(), error.column());
    if error.is_eof() {
        return ReadError::Truncated(position);
    }
    ReadError::Format(format!("the body is not {what}: {error}"))
}

/// Something of a document that is not all of it: `{"error": …}` instead of a list.
pub(crate) fn unexpected_document(what: &str, seen: &str) -> ReadError {
    let seen: String = seen.chars().take(200).collect();
    ReadError::Format(format!("the body is not {what}: it is {seen:?}"))
}

#[cfg(test)]
mod tests {
    use super::{LenientStr, TEXT_MAX, short};

    #[test]
    fn any_value_has_a_text_and_some_are_flags() {
        for (json, text, flag) in [
            ("\" a \"", "a", None),
            ("null", "", None),
            ("true", "true", Some(true)),
            ("\"False\"", "False", Some(false)),
            ("1", "1", Some(true)),
            ("-0.5", "-0.5", None),
            ("[\"a\",null,2,[\"b\"],{\"c\":1}]", "a, 2, b", None),
            ("{\"a\":[{}]}", "", None),
        ] {
            let value: LenientStr<'_> = serde_json::from_str(json).unwrap();
            assert_eq!((value.as_str(), value.flag()), (text, flag), "{json}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_letters() {
        let long = format!("{}é", "x".repeat(TEXT_MAX - 1));
        assert_eq!(short(&long).len(), TEXT_MAX - 1);
        assert_eq!(short("é"), "é");
    }
}
