//! Streaming access to JSON documents of feeds, without a tree in memory.
//!
//! A value of an unexpected type is skipped and is not an error. Only invalid JSON ends a document,
//! and nesting deeper than the parser's limit in a value that is read. An object whose keys are
//! numbers is a list: PHP writes a list with gaps so.

use std::borrow::Cow;
use std::fmt;
use std::io::{BufReader, Read};

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use super::entry::ReadError;
use crate::base::json_text::JsonText;

/// Maximum length in bytes of a text that is joined from several values.
const JOINED_MAX: usize = 4096;
/// Maximum length of a kept text in bytes, since a million entries may share a text of their
/// document.
const TEXT_MAX: usize = 8192;
/// Maximum length in bytes of an element that is not in an array; further members are left out.
const ELEMENT_MAX: usize = 1 << 20;
const BUFFER_BYTES: usize = 1 << 15;

/// Visitor methods that return `$value` for booleans and numbers, and `$null` (by default `$value`) for
/// null.
macro_rules! skip_scalars {
    ($value:expr) => {
        skip_scalars!($value, null = $value);
    };
    ($value:expr, null = $null:expr) => {
        fn visit_bool<E: de::Error>(self, _value: bool) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_u64<E: de::Error>(self, _value: u64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_i64<E: de::Error>(self, _value: i64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_f64<E: de::Error>(self, _value: f64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok($null)
        }
    };
}

/// Visitor methods that visit the text of booleans and numbers.
macro_rules! scalars_as_text {
    () => {
        fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
            self.visit_borrowed_str(if value { "true" } else { "false" })
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
            self.visit_string(value.to_string())
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
            self.visit_string(value.to_string())
        }

        fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
            self.visit_string(value.to_string())
        }
    };
}

pub(super) use scalars_as_text;
pub(super) use skip_scalars;

/// Any JSON value as text: numbers and booleans are written out, elements of an array are joined by
/// commas; null, objects and absent values are "".
#[derive(Debug, Default, Clone)]
pub(crate) struct LenientStr<'a>(pub(crate) Cow<'a, str>);

impl LenientStr<'_> {
    /// Returns the text without surrounding white space.
    pub(crate) fn as_str(&self) -> &str {
        self.0.trim()
    }

    /// Returns a copy of the text, truncated to the maximum length.
    pub(crate) fn to_text(&self) -> String {
        truncated(self.as_str()).to_owned()
    }

    /// Returns the boolean that the text is, in any case, also as 1 and 0; `None` for other texts.
    pub(crate) fn to_flag(&self) -> Option<bool> {
        let text = self.as_str();
        let is = |word: &str| text.eq_ignore_ascii_case(word);
        match () {
            () if is("true") || is("1") => Some(true),
            () if is("false") || is("0") => Some(false),
            () => None,
        }
    }
}

/// Truncates a text to the maximum length, between characters.
pub(crate) fn truncated(text: &str) -> &str {
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

    scalars_as_text!();

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

/// Visitor of the members of objects.
pub(crate) trait ObjectVisitor {
    /// Reads the value of `key`, which is next in `map`.
    fn visit_member<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error>;

    /// Called after the last member.
    fn end_object(&mut self) {}
}

/// Visits one object, or each object of a list. Returns the number of objects; `None` for a text, a
/// number or a boolean, which is something else than a list without objects.
#[derive(Debug)]
pub(crate) struct EachObject<'m, M>(pub(crate) &'m mut M);

impl<'de, M: ObjectVisitor> DeserializeSeed<'de> for EachObject<'_, M> {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de, M: ObjectVisitor> Visitor<'de> for EachObject<'_, M> {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut count, mut is_list) = (0, true);
        while let Some(LenientStr(key)) = map.next_key::<LenientStr<'de>>()? {
            if is_index(&key) {
                count += map.next_value_seed(EachObject(&mut *self.0))?.unwrap_or(0);
            } else {
                is_list = false;
                self.0.visit_member(&key, &mut map)?;
            }
        }
        if is_list && count > 0 {
            return Ok(Some(count));
        }
        self.0.end_object();
        Ok(Some(count + 1))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
        let mut count = 0;
        while let Some(objects) = values.next_element_seed(EachObject(&mut *self.0))? {
            count += objects.unwrap_or(0);
        }
        Ok(Some(count))
    }

    fn visit_str<E: de::Error>(self, _text: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    skip_scalars!(None, null = Some(0));
}

/// Passes the JSON text of each element of an array to a function, so that an element of a wrong
/// type can be rejected by itself. An object is a list of its values if its keys are numbers, and
/// otherwise the only element. Returns true for an array, an object or null; skips any other value.
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

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<bool, A::Error> {
        let mut only = String::new();
        while let Some(LenientStr(key)) = members.next_key::<LenientStr<'de>>()? {
            if is_index(&key) {
                (self.0)(members.next_value::<Box<RawValue>>()?.get());
                continue;
            }
            let value = members.next_value::<Box<RawValue>>()?;
            if only.len() + key.len() + value.get().len() < ELEMENT_MAX {
                only.push(if only.is_empty() { '{' } else { ',' });
                only.push_str(&serde_json::to_string(&*key).unwrap_or_default());
                only.push(':');
                only.push_str(value.get());
            }
        }
        if !only.is_empty() {
            only.push('}');
            (self.0)(&only);
        }
        Ok(true)
    }

    fn visit_str<E: de::Error>(self, _text: &str) -> Result<bool, E> {
        Ok(false)
    }

    skip_scalars!(false, null = true);
}

/// True for a key that is a number: the index of an element in a list that is written as an object.
pub(crate) fn is_index(key: &str) -> bool {
    (1..=10).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_digit())
}

/// Reads a whole document. `expected` describes it in the error for another one.
pub(crate) fn parse_document<'de, S>(
    input: impl Read,
    seed: S,
    expected: &str,
) -> Result<S::Value, ReadError>
where
    S: DeserializeSeed<'de>,
{
    // The parser reads byte by byte, for which the standard library has a fast path in this type only.
    let input = BufReader::with_capacity(BUFFER_BYTES, JsonText::new(input).repairing_utf8());
    let mut json = serde_json::Deserializer::from_reader(input);
    let value = seed.deserialize(&mut json).map_err(|error| read_error(error, expected))?;
    json.end().map_err(|error| read_error(error, expected))?;
    Ok(value)
}

fn read_error(error: serde_json::Error, expected: &str) -> ReadError {
    if error.is_io() {
        return ReadError::Io(error.into());
    }
    let position = format!("at line {} column {}", error.line(), error.column());
    if error.is_eof() {
        return ReadError::Truncated(position);
    }
    ReadError::Format(format!("the body is not {expected}: {error}"))
}

/// Returns the error for a document without the expected members, such as `{"error": …}`. `sample`
/// is a part of it.
pub(crate) fn unexpected_document(expected: &str, sample: &str) -> ReadError {
    let sample: String = sample.chars().take(200).collect();
    ReadError::Format(format!("the body is not {expected}: it is {sample:?}"))
}

#[cfg(test)]
mod tests {
    use super::{LenientStr, TEXT_MAX, truncated};

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
            assert_eq!((value.as_str(), value.to_flag()), (text, flag), "{json}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = format!("{}é", "x".repeat(TEXT_MAX - 1));
        assert_eq!(truncated(&long).len(), TEXT_MAX - 1);
        assert_eq!(truncated("é"), "é");
    }
}
