//! CSV: one row per line, with columns by the names of a header or by number.
//!
//! The header may be a comment, columns may be quoted, and blanks may surround separators, also
//! next to quoted columns. Exports of known feeds combine all of these, which the CSV crates do not
//! read. A row ends with its line, so that a missing quote loses one row only.

use std::borrow::Cow;
use std::io::BufRead;

use super::format::{ListField, column_number};
use super::row::{ListRow, RowConverter};
use crate::base::lines::{Lines, OTHER_ENDINGS};
use crate::intel::formats::entry::{EntrySink, ReadError};
use crate::intel::rejects::RejectReason;

/// Maximum number of columns of a row; further columns are ignored.
const COLUMNS_MAX: usize = 256;

pub(super) fn read(
    input: impl BufRead,
    rows: RowConverter<'_>,
    first_position: u64,
    entries: &mut dyn EntrySink,
) -> Result<u64, ReadError> {
    let mut header = Header::new(rows);
    let mut lines = Lines::new(input);
    let mut used = 0;
    while let Some(line) = lines.next_line()? {
        used = line.number;
        let position = first_position.saturating_add(line.number - 1);
        let Some(bytes) = line.bytes else {
            entries.reject(position, RejectReason::LineTooLong, "");
            continue;
        };
        let text = String::from_utf8_lossy(bytes);
        // In quotes it may be text.
        let is_whole = text.contains('"') || !text.contains(OTHER_ENDINGS);
        for line in text.split(|letter| !is_whole && OTHER_ENDINGS.contains(&letter)) {
            row(line, &mut header, position, entries)?;
        }
    }
    Ok(used)
}

fn row(
    text: &str,
    header: &mut Header<'_>,
    position: u64,
    entries: &mut dyn EntrySink,
) -> Result<(), ReadError> {
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Ok(());
    }
    let (text, is_comment) = match text.trim_start().trim_start_matches(['#', ';']) {
        rest if rest.len() < text.trim_start().len() => (rest.trim_start(), true),
        _ => (text, false),
    };
    let rows = header.rows;
    match split(text, rows.format.separator.unwrap_or(',')) {
        Some(columns) if header.is_header(&columns, is_comment) => {}
        _ if is_comment => {}
        None => {
            let error = "a quote is not closed in its line".to_owned();
            entries.reject(position, RejectReason::Malformed(error), text);
        }
        Some(_) if header.indexes.is_none() => return Err(header.missing_error(text)),
        Some(columns) => rows.push_row(&header.row(&columns), position, entries),
    }
    Ok(())
}

struct Header<'f> {
    rows: RowConverter<'f>,
    /// Index of each field's columns, from 0; `None` before the header.
    indexes: Option<Vec<(ListField, usize)>>,
    /// True if the next row may be an unneeded header.
    is_first: bool,
}

impl<'f> Header<'f> {
    fn new(rows: RowConverter<'f>) -> Self {
        let columns = &rows.format.columns;
        let indexes = columns.are_numbers().then(|| {
            let numbers = |field| columns.get(field).iter().filter_map(|name| column_number(name));
            let of = |field| numbers(field).map(move |index| (field, index));
            ListField::ALL.into_iter().flat_map(of).collect()
        });
        Self { rows, indexes, is_first: true }
    }

    /// True if the line is the header; then its columns are used from here on.
    fn is_header(&mut self, columns: &[Cow<'_, str>], is_comment: bool) -> bool {
        let Some(indexes) = &self.indexes else {
            return self.set_from(columns);
        };
        // An unneeded header: its address column has no digit or colon, as every address has.
        if is_comment || !std::mem::take(&mut self.is_first) {
            return false;
        }
        let address = indexes.iter().find(|(field, _)| *field == ListField::Address);
        let text = address.and_then(|(_, index)| columns.get(*index));
        text.is_some_and(|text| !text.bytes().any(|byte| byte.is_ascii_digit() || byte == b':'))
    }

    fn set_from(&mut self, columns: &[Cow<'_, str>]) -> bool {
        let format = &self.rows.format.columns;
        let index = |name: &String| {
            let is_it = |column: &Cow<'_, str>| column.trim().eq_ignore_ascii_case(name);
            column_number(name).or_else(|| columns.iter().position(is_it))
        };
        let of =
            |field| format.get(field).iter().filter_map(index).map(move |index| (field, index));
        let indexes: Vec<_> = ListField::ALL.into_iter().flat_map(of).collect();
        let is_header = indexes.iter().any(|(field, _)| *field == ListField::Address);
        if is_header {
            self.indexes = Some(indexes);
            self.is_first = false;
        }
        is_header
    }

    fn row<'a>(&self, columns: &[Cow<'a, str>]) -> ListRow<'a> {
        let mut row = ListRow::default();
        for (field, index) in self.indexes.iter().flatten() {
            if let Some(column) = columns.get(*index)
                && row.get(*field).is_empty()
            {
                row.set(*field, column.clone());
            }
        }
        row
    }

    fn missing_error(&self, line: &str) -> ReadError {
        let line: String = line.chars().take(100).collect();
        let names = self.rows.format.columns.get(ListField::Address).join(" or ");
        ReadError::Format(format!("no header with a column {names} before the row {line:?}"))
    }
}

/// Splits a line into its columns; `None` if a quote is not closed.
fn split(line: &str, separator: char) -> Option<Vec<Cow<'_, str>>> {
    let mut columns = Vec::new();
    let mut rest = Some(line);
    while let Some(text) = rest
        && columns.len() < COLUMNS_MAX
    {
        let is_blank = |letter: char| letter.is_whitespace() && letter != separator;
        let column = text.trim_start_matches(is_blank);
        if let Some(quoted) = column.strip_prefix('"') {
            let (value, after) = unquote(quoted)?;
            columns.push(value);
            rest = after.split_once(separator).map(|(_, rest)| rest);
        } else {
            let (value, after) =
                column.split_once(separator).map_or((column, None), |(it, rest)| (it, Some(rest)));
            columns.push(Cow::Borrowed(value.trim_end()));
            rest = after;
        }
    }
    Some(columns)
}

/// Returns the text up to the closing quote, and the rest; two quotes stand for one.
fn unquote(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let (first, mut rest) = text.split_once('"')?;
    let mut value = Cow::Borrowed(first);
    while let Some(more) = rest.strip_prefix('"') {
        let (part, after) = more.split_once('"')?;
        let value = value.to_mut();
        value.push('"');
        value.push_str(part);
        rest = after;
    }
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_line_is_split_into_its_columns() {
        for (line, columns) in [
            ("a,b", Some(vec!["a", "b"])),
            ("a, \"b,c\" , d ,", Some(vec!["a", "b,c", "d", ""])),
            ("\"a \"\"x\"\"\",\"\"", Some(vec!["a \"x\"", ""])),
            ("\"\"\"\"", Some(vec!["\""])),
            ("", Some(vec![""])),
            ("a,\"b", None),
            ("\"a\"\"", None),
        ] {
            let found = split(line, ',');
            let found: Option<Vec<&str>> =
                found.as_ref().map(|it| it.iter().map(AsRef::as_ref).collect());
            assert_eq!(found, columns, "{line}");
        }
        assert_eq!(split("a\t\tc", '\t').unwrap(), ["a", "", "c"]);
        assert_eq!(split(&",".repeat(10_000), ',').unwrap().len(), super::COLUMNS_MAX);
    }
}
