//! Formats: an item as the text that a sink sends.
//!
//! ECS, OCSF and CEF share one list of facts (`facts/`): each fact is read once, beside its field
//! names in the three formats.
//!
//! Invariant: one item is one line without a line end inside, whatever its text contains, and its
//! id does not depend on the format.

mod cef;
mod console;
mod document;
mod ecs;
mod facts;
mod ocsf;
#[cfg(test)]
mod tests;

pub use console::console_line;

use super::item::Item;

/// Format of the items that a sink sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// The columns of the rule and of `VMConnection`, as JSON.
    #[default]
    Native,
    /// Elastic Common Schema, as JSON.
    Ecs,
    /// Open Cybersecurity Schema Framework, as JSON.
    Ocsf,
    /// Common Event Format for alerts; CEF has no form for other items, which stay native.
    Cef,
}

impl Format {
    /// All formats, in the order of [`Self::WORDS`].
    pub const ALL: [Self; 4] = [Self::Native, Self::Ecs, Self::Ocsf, Self::Cef];
    /// Names of the formats in a configuration.
    pub const WORDS: [&str; 4] = ["native", "ecs", "ocsf", "cef"];

    /// Name of the format in a configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Ecs => "ecs",
            Self::Ocsf => "ocsf",
            Self::Cef => "cef",
        }
    }

    /// Returns the item as one line.
    pub(super) fn line(self, item: &Item) -> String {
        match (self, item) {
            (Self::Ecs, item) => ecs::document(item).to_string(),
            (Self::Ocsf, item) => ocsf::event(item).to_string(),
            (Self::Cef, Item::Alert(alert)) => cef::line(item, alert),
            (Self::Native | Self::Cef, item) => item.json(),
        }
    }
}

/// Appends `character`, escaped for a terminal. A backslash precedes each of the `special`
/// characters of the target format, and the backslashes of the escapes themselves.
pub(super) fn push_escaped(out: &mut String, character: char, special: &[char]) {
    if special.contains(&character) {
        out.extend(['\\', character]);
    } else if matches!(character, '"' | '\'') {
        out.push(character);
    } else {
        for escaped in character.escape_debug() {
            out.extend((escaped == '\\').then_some('\\'));
            out.push(escaped);
        }
    }
}
