//! `Key`: the declaration of a configuration key (config key). [`keys!`](keys) declares and reads keys in one
//! step; `check-config`, the reference and the JSON Schema follow from the same declarations.

use serde_json::Value;

use super::form::Form;

/// Declaration of one key, and its value in the configuration that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Table of the reference that has the key.
    pub group: &'static str,
    /// Name of the key in its section.
    pub name: &'static str,
    /// Accepted values, in words.
    pub accepts: String,
    /// Accepted values, as JSON Schema.
    pub schema: Value,
    /// Result of a missing key.
    pub default: KeyDefault,
    /// True if a running agent applies a new value; otherwise a restart does.
    pub reloads: bool,
    /// Description, as Markdown.
    pub meaning: String,
    /// Value in force, without secrets; null for none.
    pub value: Value,
    /// True if the value is from the file.
    pub is_set: bool,
}

/// Result of a missing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyDefault {
    /// An error.
    Required,
    /// An error if `with` is set.
    RequiredWith {
        /// Name of the other key.
        with: &'static str,
    },
    /// An error unless `without` is set.
    RequiredWithout {
        /// Name of the other key.
        without: &'static str,
    },
    /// The same as this value.
    Value(Value),
    /// The behaviour that this Markdown describes.
    Text(String),
}

/// The keys of one section, as declared and with their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SectionKeys {
    /// Name of the section.
    pub section: &'static str,
    /// True for `[[section]]`.
    pub is_list: bool,
    /// Kind of a feed or sink.
    pub kind: Option<&'static str>,
    /// Keys that are valid in this section, with this kind.
    pub keys: Vec<Key>,
    /// Pairs of keys: the first is valid only together with the second.
    pub dependencies: Vec<(&'static str, &'static str)>,
}

impl SectionKeys {
    /// The key `name`.
    pub fn get(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    pub(super) fn set(&mut self, name: &str, value: Value) {
        if let Some(key) = self.keys.iter_mut().find(|key| key.name == name) {
            key.value = value;
        }
    }
}

/// Declaration of a key that becomes a `T`, without the treatment of a missing one.
pub(super) struct Declaration<T> {
    pub(super) group: &'static str,
    pub(super) name: &'static str,
    pub(super) meaning: &'static [&'static str],
    pub(super) reloads: bool,
    pub(super) form: Form<T>,
}

/// Declares keys of a section and reads them, each into a variable of its name.
///
/// The documentation comment of a key is its description in the reference and in the JSON Schema.
/// After `=>` is a method of `Section` for the case that the key is missing.
macro_rules! keys {
    ($section:ident, $group:expr, $reload:ident;
     $($(#[doc = $meaning:literal])+ $key:ident: $form:expr => $missing:ident($($argument:expr),+);)+) => {
        $(let $key = $section.$missing(
            $crate::config::key::Declaration {
                group: $group,
                name: stringify!($key),
                meaning: &[$($meaning),+],
                reloads: $crate::config::key::$reload,
                form: $form,
            },
            $($argument),+
        );)+
    };
}
pub(super) use keys;

/// A running agent applies a new value.
pub(super) const RELOAD: bool = true;
/// A new value takes effect after a restart.
pub(super) const RESTART: bool = false;
