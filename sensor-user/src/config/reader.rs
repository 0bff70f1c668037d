//! Reads a TOML table key by key and notes every problem with its line.
//!
//! The tables keep their spans (`DeTable`), so a wrong type or an unknown key is reported at its
//! line and in the words of this program, and reading goes on: one run lists all problems.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::retired;

/// One thing that is wrong in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// `section.key: what is wrong, with the value; the accepted form`.
    pub what: String,
}

/// The problems found so far, and the text that they are in.
#[derive(Debug)]
pub(super) struct Problems<'t> {
    text: &'t str,
    list: Vec<Problem>,
}

impl<'t> Problems<'t> {
    /// No problems yet in `text`.
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, list: Vec::new() }
    }

    /// Notes that `what` is wrong at `line`.
    pub(super) fn note(&mut self, line: usize, what: String) {
        self.list.push(Problem { line, what });
    }

    /// The line, from 1, on which `span` begins.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        memchr::memchr_iter(b'\n', before).count() + 1
    }

    /// All of them, in the order of the file.
    pub(super) fn into_list(mut self) -> Vec<Problem> {
        self.list.sort_by_key(|problem| problem.line);
        self.list
    }
}

/// One section while it is read: `[agent]`, or one `[[feed]]`.
#[derive(Debug)]
pub(super) struct Section<'d, 't> {
    name: &'static str,
    line: usize,
    table: Option<&'d DeTable<'t>>,
    asked: Vec<&'static str>,
    problems: &'d mut Problems<'t>,
}

impl<'d, 't> Section<'d, 't> {
    /// The section `name` whose table is `table`; with `None` every key is absent.
    pub(super) fn new(
        name: &'static str,
        table: Option<(&'d DeTable<'t>, Range<usize>)>,
        problems: &'d mut Problems<'t>,
    ) -> Self {
        let line = table.as_ref().map_or(1, |(_, span)| problems.line(span));
        let table = table.map(|(table, _)| table);
        Self { name, line, table, asked: Vec::new(), problems }
    }

    /// The value of `key`, checked by `parse`, whose error is noted as a problem of that key.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.value(key)?;
        match parse(value.get_ref()) {
            Ok(parsed) => Some(parsed),
            Err(what) => {
                self.note(key, &what);
                None
            }
        }
    }

    /// The items of the array `key`, each checked by `parse`; an item's problem names its index.
    /// `None` where the key is absent or an item is wrong.
    pub(super) fn read_list<T>(
        &mut self,
        key: &'static str,
        item_form: &str,
        parse: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let value = self.value(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.note(key, &format!("is not a list; use a list of {item_form} in [ ]"));
            return None;
        };
        let mut items = Some(Vec::new());
        for (index, item) in array.iter().enumerate() {
            match (parse(item.get_ref()), &mut items) {
                (Ok(parsed), Some(items)) => items.push(parsed),
                (Ok(_), None) => {}
                (Err(what), _) => {
                    items = None;
                    let line = self.problems.line(&item.span());
                    self.problems.note(line, format!("{}.{key}[{index}]: {what}", self.name));
                }
            }
        }
        items
    }

    /// Like `read`, for a key that must be there; `form` says what to set it to.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        form: &str,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        if self.value(key).is_none() {
            self.note(key, &format!("is missing; set it to {form}"));
            return None;
        }
        self.read(key, parse)
    }

    /// Notes a key that has no meaning for this `kind` (nothing where the kind itself is wrong).
    pub(super) fn refuse(&mut self, key: &'static str, kind: &str, owner: &str) {
        if self.value(key).is_some() && !kind.is_empty() {
            self.note(key, &format!("has no meaning for kind {kind:?}, only for {owner}"));
        }
    }

    /// Notes a key that has no meaning beside others of its section; `what` says so.
    pub(super) fn refuse_here(&mut self, key: &'static str, what: &str) {
        if self.value(key).is_some() {
            self.note(key, what);
        }
    }

    /// Whether `key` is there, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// The line of `key`, or of the section where the key is absent.
    pub(super) fn line_of(&self, key: &str) -> usize {
        self.table
            .and_then(|table| table.get_key_value(key))
            .map_or(self.line, |(name, _)| self.problems.line(&name.span()))
    }

    /// Notes that `what` is wrong with `key`.
    pub(super) fn note(&mut self, key: &str, what: &str) {
        let line = self.line_of(key);
        self.problems.note(line, format!("{}.{key}: {what}", self.name));
    }

    /// Notes where only some of `keys` are there; `all` names them.
    pub(super) fn together(&mut self, keys: &[&str], all: &str) {
        let there: Vec<&str> = keys.iter().copied().filter(|key| self.has(key)).collect();
        if let [first, ..] = there.as_slice()
            && there.len() < keys.len()
        {
            self.note(first, &format!("is of no use alone; set {all}"));
        }
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        for (key, _) in table {
            let name = key.get_ref();
            if !self.asked.iter().any(|asked| asked == name) {
                let line = self.problems.line(&key.span());
                let what = if let Some(replacement) = retired::replacement(self.name, name) {
                    format!("{}.{name}: was renamed; use {replacement}", self.name)
                } else {
                    let hint = hint(name, &self.asked);
                    format!("{}: unknown key {name:?}; {hint}", self.name)
                };
                self.problems.note(line, what);
            }
        }
    }

    fn value(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'t>>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.table.and_then(|table| table.get(key))
    }
}

/// `did you mean "interval"?`, or the list of what there is when nothing is near.
pub(super) fn hint(typed: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(typed, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min();
    match near {
        Some((_, name)) => format!("did you mean {name:?}?"),
        None => format!("known are {}", known.join(", ")),
    }
}

/// A line for each of `problems` of the file at `path`.
pub(super) fn lines(path: &Path, problems: &[Problem]) -> String {
    let mut text = String::new();
    for (index, Problem { line, what }) in problems.iter().enumerate() {
        let separator = if index == 0 { "" } else { "\n" };
        let _infallible = write!(text, "{separator}{}:{line}: {what}", path.display());
    }
    text
}
