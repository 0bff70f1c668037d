//! List format of a configuration: a preset, a file format with columns, or a preset with changes.

use std::collections::BTreeMap;

use super::format::{ListField, ListFormat, ListShape};
use super::presets;

/// Invalid format of a list in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListFormatError {
    /// The preset is unknown.
    #[error("there is no {0:?}; use one of {known}", known = presets::NAMES.join(", "))]
    Preset(String),
    /// The file format is unknown.
    #[error("there is no {0:?}; use plain, csv, json or jsonl")]
    Shape(String),
    /// The field is unknown.
    #[error("there is no {0:?}; use {known}", known = ListField::ALL.map(ListField::name).join(", "))]
    Field(String),
    /// A column without a name.
    #[error("{0}: name a column, or give its number from 1")]
    Column(&'static str),
    /// No column for the address.
    #[error("address is missing; name the column or key that holds the address")]
    NoAddress,
    /// Columns for a plain list.
    #[error("a plain list has none; set format = \"csv\", \"json\" or \"jsonl\"")]
    PlainColumns,
    /// A separator for another format than CSV.
    #[error("only format = \"csv\" has one; leave it out")]
    Separator,
}

impl ListFormatError {
    /// Returns the configuration key with the error.
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
    /// Builds the format from the keys of a configuration. `columns` has one or more columns by the
    /// name of each field; with a preset, the other keys replace its values.
    pub fn from_config(
        preset: Option<&str>,
        shape: Option<&str>,
        separator: Option<char>,
        columns: &BTreeMap<String, Vec<String>>,
    ) -> Result<Self, ListFormatError> {
        let mut format = match preset {
            None => Self::default(),
            Some(name) => {
                presets::preset(name).ok_or_else(|| ListFormatError::Preset(name.to_owned()))?
            }
        };
        if let Some(shape) = shape {
            format.shape = match shape {
                "plain" => ListShape::Plain,
                "csv" => ListShape::Csv,
                "json" => ListShape::Json,
                "jsonl" => ListShape::JsonLines,
                other => return Err(ListFormatError::Shape(other.to_owned())),
            };
        }
        for (name, names) in columns {
            let field = ListField::ALL.into_iter().find(|field| field.name() == name);
            let field = field.ok_or_else(|| ListFormatError::Field(name.clone()))?;
            if names.is_empty() || names.iter().any(|column| column.is_empty() || column == "0") {
                return Err(ListFormatError::Column(field.name()));
            }
            format.columns.0.insert(field, names.clone());
        }
        match format.shape {
            ListShape::Plain if !columns.is_empty() => return Err(ListFormatError::PlainColumns),
            ListShape::Plain => {}
            _ if format.columns.get(ListField::Address).is_empty() => {
                return Err(ListFormatError::NoAddress);
            }
            _ => {}
        }
        if separator.is_some() && format.shape != ListShape::Csv {
            return Err(ListFormatError::Separator);
        }
        format.separator = separator.or(format.separator);
        Ok(format)
    }
}
