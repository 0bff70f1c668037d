//! `ListFormat`: how a list is written, and which of its columns say what.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a list is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListShape {
    /// An address or a network a line; `#` and `;` begin comments.
    #[default]
    Plain,
    /// A row a line, with a separator.
    Csv,
    /// Objects in arrays or objects of one JSON document.
    Json,
    /// An object a line.
    JsonLines,
}

/// What a column says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ListField {
    /// The address or network, with or without port. The only one that must be there.
    Address,
    /// Port of that address.
    Port,
    /// Prefix length or netmask of that address.
    PrefixLen,
    /// What is threatened.
    ThreatType,
    /// Text for people.
    Description,
    /// 0 to 100.
    Confidence,
    /// When it was first seen.
    FirstSeen,
    /// When it was last seen.
    LastSeen,
    /// From when on it does not count.
    Expires,
    /// Words, or an array of them.
    Tags,
    /// A link to more.
    Url,
    /// What names the entry in its feed.
    Id,
    /// What the entry is; see [`ListFormat::kinds`].
    Kind,
    /// Traffic light protocol level.
    Tlp,
}

impl ListField {
    /// Number of fields.
    pub(super) const COUNT: usize = 14;

    /// All, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Address,
        Self::Port,
        Self::PrefixLen,
        Self::ThreatType,
        Self::Description,
        Self::Confidence,
        Self::FirstSeen,
        Self::LastSeen,
        Self::Expires,
        Self::Tags,
        Self::Url,
        Self::Id,
        Self::Kind,
        Self::Tlp,
    ];

    /// Its key in `[feed.columns]`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Port => "port",
            Self::PrefixLen => "prefix_len",
            Self::ThreatType => "threat_type",
            Self::Description => "description",
            Self::Confidence => "confidence",
            Self::FirstSeen => "first_seen",
            Self::LastSeen => "last_seen",
            Self::Expires => "expires",
            Self::Tags => "tags",
            Self::Url => "url",
            Self::Id => "id",
            Self::Kind => "kind",
            Self::Tlp => "tlp",
        }
    }
}

/// Which columns say what: names of a header or of JSON keys, or numbers of CSV columns from 1. Of
/// several for one field the first that is there and not empty counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListColumns(pub BTreeMap<ListField, Vec<String>>);

impl ListColumns {
    /// The columns of a field; none where it has none.
    pub fn of(&self, field: ListField) -> &[String] {
        self.0.get(&field).map_or(&[], Vec::as_slice)
    }

    /// True if no column is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These columns; of one that names nothing, no field.
    pub(super) fn from_names(columns: &[(ListField, &[&str])]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self(columns.iter().map(|(field, names)| (*field, owned(names))).collect())
    }

    /// Whether the columns are numbers, so that the list needs no header.
    pub(super) fn are_numbers(&self) -> bool {
        self.of(ListField::Address).iter().all(|column| column_number(column).is_some())
    }
}

/// A column's number, from 0; `None` for a name.
pub(super) fn column_number(column: &str) -> Option<usize> {
    column.parse::<usize>().ok()?.checked_sub(1)
}

/// How a list is written, whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListFormat {
    /// How its entries stand in it.
    pub shape: ListShape,
    /// What separates the columns of a row; a comma where absent.
    pub separator: Option<char>,
    /// Which columns say what; of no use for a plain list.
    pub columns: ListColumns,
    /// The same of the objects around an entry, for what the entry does not say itself (JSON).
    pub outer: ListColumns,
    /// Words of the kind column that mean an address; others are not used. Empty: no such column.
    pub kinds: Vec<String>,
    /// Whether the key of the object around an entry names it (JSON).
    pub is_key_id: bool,
    /// Where an entry says nothing of its threat.
    pub threat_type: String,
    /// Where an entry has no description.
    pub description: String,
    /// Where an entry has no link; `{}` in it stands for [`ListField::Url`] of an entry or around it.
    pub url: String,
}
