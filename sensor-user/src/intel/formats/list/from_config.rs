//! List format of a configuration: a preset, or a shape with columns, or a preset changed by them.

use std::collections::BTreeMap;

use super::format::{ListField, ListFormat, ListShape};
use super::presets;

/// What is wrong with the words that name a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListFormatError {
    /// No such preset.
    #[error("there is no {0:?}; use one of {known}", known = presets::NAMES.join(", "))]
    Preset(String),
    /// No such shape.
    #[error("there is no {0:?}; use plain, csv, json or jsonl")]
    Shape(String),
    /// No such field.
    #[error("there is no {0:?}; use {known}", known = ListField::ALL.map(ListField::name).join(", "))]
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

impl ListFormatError {
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
            _ if format.columns.of(ListField::Address).is_empty() => {
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
