//! Format: an item as the text that a sink sends.
//!
//! Invariant: one item is one line without a line end inside, whatever text is in it, and its id
//! does not depend on the format.

pub mod text;

mod cef;
mod ecs;
mod facts;
mod ocsf;
#[cfg(test)]
mod tests;

use super::item::Item;

/// In whose words items are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Our own columns: those of the rule and of `VMConnection`, as JSON.
    #[default]
    Native,
    /// Elastic Common Schema, as JSON.
    Ecs,
    /// Open Cybersecurity Schema Framework, as JSON.
    Ocsf,
    /// Common Event Format, which has words for alerts; other items stay native.
    Cef,
}

impl Format {
    /// All of them, as [`Self::WORDS`] names them.
    pub const ALL: [Self; 4] = [Self::Native, Self::Ecs, Self::Ocsf, Self::Cef];
    /// Their names in a configuration.
    pub const WORDS: [&str; 4] = ["native", "ecs", "ocsf", "cef"];

    /// Its name in a configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Ecs => "ecs",
            Self::Ocsf => "ocsf",
            Self::Cef => "cef",
        }
    }

    /// The item as one line. Its id does not depend on the format.
    pub(super) fn line(self, item: &Item) -> String {
        match (self, item) {
            (Self::Ecs, item) => ecs::document(item).to_string(),
            (Self::Ocsf, item) => ocsf::event(item).to_string(),
            (Self::Cef, Item::Alert(alert)) => cef::line(alert),
            (Self::Native | Self::Cef, item) => item.json(),
        }
    }
}
