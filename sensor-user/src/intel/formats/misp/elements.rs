//! Elements of the small lists of an attribute or event: tags, models of decay.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::intel::formats::json::{LenientStr, is_index};

/// Returns the elements of an array that `parse` accepts.
pub(super) fn elements<'l, T>(
    list: Option<&'l RawValue>,
    parse: impl Fn(&'l str) -> Option<T>,
) -> Vec<T> {
    let all: Vec<&RawValue> = match list.map(|list| serde_json::from_str(list.get())) {
        Some(Ok(elements)) => elements,
        // Written as an object with numbers as keys, or a single element.
        Some(Err(_not_an_array)) => {
            let members = list.and_then(|list| {
                serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(list.get()).ok()
            });
            match (members, list) {
                (Some(members), Some(list)) if !members.keys().all(|key| is_index(key)) => {
                    vec![list]
                }
                (Some(members), _) => members.into_values().collect(),
                (None, _) => Vec::new(),
            }
        }
        None => Vec::new(),
    };
    all.into_iter().filter_map(|element| parse(element.get())).collect()
}

#[derive(Deserialize)]
struct Tag<'a> {
    #[serde(borrow)]
    name: LenientStr<'a>,
}

/// Returns the name of a tag, which may be the whole element; `None` for another value.
pub(super) fn tag_name(text: &str) -> Option<String> {
    match serde_json::from_str::<Tag<'_>>(text) {
        Ok(tag) => Some(tag.name.to_text()),
        Err(_not_an_object) => serde_json::from_str(text).ok(),
    }
}
