//! `ListFormat`: how a list is written, and which of its columns say what.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::presets;

/// How a list is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
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
pub enum Field {
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

impl Field {
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
pub struct Columns(pub BTreeMap<Field, Vec<String>>);

impl Columns {
    /// The columns of a field; none where it has none.
    pub fn of(&self, field: Field) -> &[String] {
        self.0.get(&field).map_or(&[], Vec::as_slice)
    }

    /// True if no column is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These columns; of one that names nothing, no field.
    pub(super) fn named(columns: &[(Field, &[&str])]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self(columns.iter().map(|(field, names)| (*field, owned(names))).collect())
    }

    /// Whether the columns are numbers, so that the list needs no header.
    pub(super) fn are_numbers(&self) -> bool {
        self.of(Field::Address).iter().all(|column| number(column).is_some())
    }
}

/// A column's number, from 0; `None` for a name.
pub(super) fn number(column: &str) -> Option<usize> {
    column.parse::<usize>().ok()?.checked_sub(1)
}

/// How a list is written, whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListFormat {
    /// How its entries stand in it.
    pub shape: Shape,
    /// What separates the columns of a row; a comma where absent.
    pub separator: Option<char>,
    /// Which columns say what; of no use for a plain list.
    pub columns: Columns,
    /// The same of the objects around an entry, for what the entry does not say itself (JSON).
    pub outer: Columns,
    /// Words of the kind column that mean an address; others are not used. Empty: no such column.
    pub kinds: Vec<String>,
    /// Whether the key of the object around an entry names it (JSON).
    pub is_key_id: bool,
    /// Where an entry says nothing of its threat.
    pub threat_type: String,
    /// Where an entry has no description.
    pub description: String,
    /// Where an entry has no link; `{}` in it stands for [`Field::Url`] of an entry or around it.
    pub url: String,
}

/// What is wrong with the words that name a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatFault {
    /// No such preset.
    #[error("there is no {0:?}; use one of {known}", known = presets::NAMES.join(", "))]
    Preset(String),
    /// No such shape.
    #[error("there is no {0:?}; use plain, csv, json or jsonl")]
    Shape(String),
    /// No such field.
    #[error("there is no {0:?}; use {known}", known = Field::ALL.map(Field::name).join(", "))]
    Field(String),
    /// A column without name.
    #[error("{0}: name a column, or give its number from 1")]
    Column(&'static str),
    /// The address is not named.
    #[error("address is missing; name the column or key that holds the address")]
    NoAddress,
    /// Columns of a list that has none.
    #[error("a plain list has none; set format = \"csv\", \"json\" or \"jsonl\"")]
    PlainColumns,
    /// A separator where there is none.
    #[error("only format = \"csv\" has one; leave it out")]
    Separator,
}

impl FormatFault {
    /// The key of the configuration that it is about.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Preset(_) => "preset",
            Self::Shape(_) => "format",
            Self::Field(_) | Self::Column(_) | Self::NoAddress | Self::PlainColumns => "columns",
            Self::Separator => "separator",
        }
    }
}

impl ListFormat {
    /// The format that a configuration names: a preset, a shape with its columns, or a preset that
    /// is changed by them. `columns` has one or more columns by the name of each field.
    pub fn named(
        preset: Option<&str>,
        shape: Option<&str>,
        separator: Option<char>,
        columns: &BTreeMap<String, Vec<String>>,
    ) -> Result<Self, FormatFault> {
        let mut format = match preset {
            None => Self::default(),
            Some(name) => {
                presets::preset(name).ok_or_else(|| FormatFault::Preset(name.to_owned()))?
            }
        };
        if let Some(shape) = shape {
            format.shape = match shape {
                "plain" => Shape::Plain,
                "csv" => Shape::Csv,
                "json" => Shape::Json,
                "jsonl" => Shape::JsonLines,
                other => return Err(FormatFault::Shape(other.to_owned())),
            };
        }
        for (name, names) in columns {
            let field = Field::ALL.into_iter().find(|field| field.name() == name);
            let field = field.ok_or_else(|| FormatFault::Field(name.clone()))?;
            if names.is_empty() || names.iter().any(|column| column.is_empty() || column == "0") {
                return Err(FormatFault::Column(field.name()));
            }
            format.columns.0.insert(field, names.clone());
        }
        match format.shape {
            Shape::Plain if !columns.is_empty() => return Err(FormatFault::PlainColumns),
            Shape::Plain => {}
            _ if format.columns.of(Field::Address).is_empty() => {
                return Err(FormatFault::NoAddress);
            }
            _ => {}
        }
        if separator.is_some() && format.shape != Shape::Csv {
            return Err(FormatFault::Separator);
        }
        format.separator = separator.or(format.separator);
        Ok(format)
    }
}
