//! `ListFormat`: file format of a list, and the fields of its columns.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// File format of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListShape {
    /// Addresses and networks at the start of each line; `#` and `;` begin comments.
    #[default]
    Plain,
    /// One row per line, with a separator.
    Csv,
    /// Objects at any depth of one JSON document.
    Json,
    /// One JSON object per line.
    JsonLines,
}

/// Field of an indicator, or of a list's row, that a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ListField {
    /// Address or network, with or without port. The only required field.
    Address,
    /// Port that qualifies the address.
    Port,
    /// Prefix length or netmask of the address.
    PrefixLen,
    /// Type of the threat.
    ThreatType,
    /// Description for people.
    Description,
    /// Confidence, 0 to 100.
    Confidence,
    /// Time of the first sighting.
    FirstSeen,
    /// Time of the last sighting.
    LastSeen,
    /// First instant at which the entry is not valid any more.
    Expires,
    /// Tags, as text or as an array.
    Tags,
    /// Link to details.
    Url,
    /// Unique id of the entry in its feed.
    Id,
    /// Type of the entry; see [`ListFormat::kinds`].
    Kind,
    /// Level of the Traffic Light Protocol.
    Tlp,
    /// Last address of a range that begins with the address.
    LastAddress,
}

impl ListField {
    pub(super) const COUNT: usize = 15;

    /// All fields, in the order of their discriminants.
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
        Self::LastAddress,
    ];

    /// Returns the field's key in `[feed.columns]`.
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
            Self::LastAddress => "last_address",
        }
    }
}

/// Columns of each field: names of a header, JSON keys, or numbers of CSV columns from 1. The first
/// column of a field that exists and is not empty applies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListColumns(pub BTreeMap<ListField, Vec<String>>);

impl ListColumns {
    /// Returns the columns of a field.
    pub fn get(&self, field: ListField) -> &[String] {
        self.0.get(&field).map_or(&[], Vec::as_slice)
    }

    /// True if no column is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Builds the columns from literals.
    pub(super) fn from_names(columns: &[(ListField, &[&str])]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self(columns.iter().map(|(field, names)| (*field, owned(names))).collect())
    }

    /// True if the address column is a number, so that the list needs no header.
    pub(super) fn are_numbers(&self) -> bool {
        self.get(ListField::Address).iter().all(|column| column_number(column).is_some())
    }
}

/// Returns the index of a column that is given by number, from 0; `None` for a name.
pub(super) fn column_number(column: &str) -> Option<usize> {
    column.parse::<usize>().ok()?.checked_sub(1)
}

/// Format of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListFormat {
    /// File format of the list.
    pub shape: ListShape,
    /// Separator of the columns of a row; a comma by default.
    pub separator: Option<char>,
    /// Columns of each field; unused for a plain list.
    pub columns: ListColumns,
    /// Members of the enclosing objects, for fields that the entry itself does not have (JSON).
    pub outer: ListColumns,
    /// Values of the kind column that mark addresses; entries with others are not used. Empty if
    /// there is no such column.
    pub kinds: Vec<String>,
    /// True if the key of the enclosing object is the id of an entry (JSON).
    pub is_key_id: bool,
    /// Threat type of entries without one.
    pub threat_type: String,
    /// Description of entries without one.
    pub description: String,
    /// Link of entries without one; `{}` in it is replaced by [`ListField::Url`].
    pub url: String,
}
