//! Format: an item as the text that a sink sends.

use super::item::Item;

/// In whose words items are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Our own columns: those of the rule and of `VMConnection`, as JSON.
    #[default]
    Native,
}

impl Format {
    /// The item as one line. Its id does not depend on the format.
    pub(super) fn line(self, item: &Item) -> String {
        match self {
            Self::Native => item.json(),
        }
    }
}
