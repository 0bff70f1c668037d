//! Properties with one or more texts: a text, an array of texts, or one member of the objects of an
//! array. Other values are skipped, so that an unexpected property does not invalidate its object.

use std::fmt;

use serde::de;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::columns::JsonStr;
use super::super::json::skip_scalars;

/// Maximum number of texts of a property.
const KEPT_MAX: usize = 64;

/// Deserializes a text, or the texts of an array.
pub(super) fn texts<'de: 'a, 'a, D: Deserializer<'de>>(
    input: D,
) -> Result<Vec<JsonStr<'a>>, D::Error> {
    TextList { member: "" }.deserialize(input)
}

/// Deserializes `url` of each external reference (section 2.5).
pub(super) fn urls<'de: 'a, 'a, D: Deserializer<'de>>(
    input: D,
) -> Result<Vec<JsonStr<'a>>, D::Error> {
    TextList { member: "url" }.deserialize(input)
}

/// Deserializes `tlp` of a marking's definition (section 7.2.1.4).
pub(super) fn levels<'de: 'a, 'a, D: Deserializer<'de>>(
    input: D,
) -> Result<Vec<JsonStr<'a>>, D::Error> {
    TextList { member: "tlp" }.deserialize(input)
}

/// Seed for the texts of a value; of an object, those of `member`.
#[derive(Clone, Copy)]
struct TextList {
    member: &'static str,
}

impl<'de> DeserializeSeed<'de> for TextList {
    type Value = Vec<JsonStr<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TextList {
    type Value = Vec<JsonStr<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(vec![JsonStr::from(text)])
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(vec![JsonStr::from(text.to_owned())])
    }

    skip_scalars!(Vec::new());

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(texts) = items.next_element_seed(self)? {
            let room = KEPT_MAX.saturating_sub(found.len());
            found.extend(texts.into_iter().take(room));
        }
        Ok(found)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(name) = members.next_key::<JsonStr<'de>>()? {
            if !self.member.is_empty() && name.as_str() == self.member {
                found = members.next_value_seed(Self { member: "" })?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}
