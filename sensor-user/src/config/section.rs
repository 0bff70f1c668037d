//! Reads one TOML table key by key, and records every problem with its line.
//!
//! The tables keep their spans (`DeTable`), so a wrong type or an unknown key is reported at its
//! line and in the words of this program, and reading goes on: one run lists all problems.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::form::{BaseDirs, Errors, Form, hint, to_json};
use super::key::{Declaration, Key, KeyDefault, SectionKeys};
use super::retired;

/// One error in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// `section.key: the problem, with the value; the accepted form`.
    pub text: String,
}

/// The problems found so far, and the text of the file.
#[derive(Debug)]
pub(super) struct Problems<'t> {
    text: &'t str,
    list: Vec<Problem>,
}

impl<'t> Problems<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, list: Vec::new() }
    }

    /// Adds a problem at the line on which `span` begins.
    pub(super) fn add(&mut self, span: &Range<usize>, text: String) {
        let line = self.line(span);
        self.list.push(Problem { line, text });
    }

    /// Removes the problems of one key.
    fn remove(&mut self, span: &Range<usize>, key: &str) {
        let line = self.line(span);
        let is_of_key =
            |text: &str| text.strip_prefix(key).is_some_and(|rest| rest.starts_with([':', '[']));
        self.list.retain(|problem| problem.line != line || !is_of_key(&problem.text));
    }

    /// The line, from 1, on which `span` begins.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        memchr::memchr_iter(b'\n', before).count() + 1
    }

    /// All problems, in the order of the file.
    pub(super) fn into_list(mut self) -> Vec<Problem> {
        self.list.sort_by_key(|problem| problem.line);
        self.list
    }
}

/// One section while it is read: `[agent]`, or one `[[feed]]`.
#[derive(Debug)]
pub(super) struct Section<'d, 't> {
    pub(super) keys: SectionKeys,
    /// `None` for a section that the file lacks.
    table: Option<&'d DeTable<'t>>,
    span: Range<usize>,
    dirs: BaseDirs<'d>,
    problems: &'d mut Problems<'t>,
}

impl<'d, 't> Section<'d, 't> {
    pub(super) fn new(
        name: &'static str,
        table: Option<&'d DeTable<'t>>,
        span: Range<usize>,
        dirs: BaseDirs<'d>,
        problems: &'d mut Problems<'t>,
    ) -> Self {
        let keys = SectionKeys { section: name, ..SectionKeys::default() };
        Self { keys, table, span, dirs, problems }
    }

    /// Declares and reads a key; a missing one has the value `default`.
    pub(super) fn default<T: 'static>(&mut self, key: Declaration<T>, default: T) -> T {
        let shown = KeyDefault::Value(key.form.show(&default, None));
        self.required_if(key, shown, "").unwrap_or(default)
    }

    /// Declares and reads a key; a missing one has the effect that `effect` describes as Markdown.
    pub(super) fn optional<T: 'static>(
        &mut self,
        key: Declaration<T>,
        effect: impl Into<String>,
    ) -> Option<T> {
        self.required_if(key, KeyDefault::Text(effect.into()), "")
    }

    /// Declares and reads a key; a missing one is a problem, to which `remedy` is the solution.
    pub(super) fn required<T: 'static>(&mut self, key: Declaration<T>, remedy: &str) -> Option<T> {
        self.required_if(key, KeyDefault::Required, remedy)
    }

    /// Declares and reads a key, with any treatment of a missing one.
    pub(super) fn required_if<T: 'static>(
        &mut self,
        key: Declaration<T>,
        default: KeyDefault,
        remedy: &str,
    ) -> Option<T> {
        let Declaration { group, name, meaning, reloads, form } = key;
        let written = self.get(name).map(|value| to_json(value.get_ref()));
        if written.is_none() && self.is_required(&default) {
            self.add(name, &format!("is missing; set it to {remedy}"));
        }
        let value = written.as_ref().and_then(|written| self.value(name, written, &form));
        let shown = match (&value, &default) {
            (Some(value), _) => form.show(value, written.as_ref()),
            (None, KeyDefault::Value(value)) => value.clone(),
            _ => Value::Null,
        };
        self.keys.keys.push(Key {
            group,
            name,
            accepts: form.accepts,
            schema: form.schema,
            default,
            reloads,
            meaning: meaning.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "),
            value: shown,
            is_set: written.is_some(),
        });
        value
    }

    /// The valid value of a key; records the problems of an invalid one.
    fn value<T: 'static>(&mut self, name: &str, written: &Value, form: &Form<T>) -> Option<T> {
        let section = self.keys.section;
        let text = written.as_str().unwrap_or_default();
        if let Some(new) = retired::replacement(&format!("{section}.{name} = {text}")) {
            self.add(name, &format!("{text:?} was renamed; use {new}"));
            return None;
        }
        let errors = match form.parse(written, self.dirs) {
            Ok(value) => return Some(value),
            Err(Errors(errors)) => errors,
        };
        let items = self.get(name).and_then(|value| value.get_ref().as_array());
        for (index, problem) in errors {
            match index.and_then(|index| Some((index, items?.get(index)?.span()))) {
                None => self.add(name, &problem),
                Some((index, span)) => {
                    let text = format!("{section}.{name}[{index}]: {problem}");
                    self.problems.add(&span, text);
                }
            }
        }
        None
    }

    fn is_required(&self, default: &KeyDefault) -> bool {
        let is_on =
            |key| self.get(key).is_some_and(|value| value.get_ref().as_bool() != Some(false));
        match default {
            KeyDefault::Required => true,
            KeyDefault::RequiredWith { with } => is_on(with),
            KeyDefault::RequiredWithout { without } => !is_on(without),
            KeyDefault::Value(_) | KeyDefault::Text(_) => false,
        }
    }

    fn get(&self, key: &str) -> Option<&'d Spanned<DeValue<'t>>> {
        self.table.and_then(|table| table.get(key))
    }

    /// True if `key` is set, with a valid value or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Adds a problem with `key`, at its line, or at that of the section if the key is missing.
    pub(super) fn add(&mut self, key: &str, problem: &str) {
        let name = self.table.and_then(|table| table.get_key_value(key));
        let span = name.map_or_else(|| self.span.clone(), |(name, _)| name.span());
        self.problems.add(&span, format!("{}.{key}: {problem}", self.keys.section));
    }

    /// Adds the problem with each of the keys that is set, in place of its other problems.
    pub(super) fn refuse(&mut self, keys: &[&str], problem: &str) {
        for key in keys {
            if let Some((name, _)) = self.table.and_then(|table| table.get_key_value(*key)) {
                let prefix = format!("{}.{key}", self.keys.section);
                self.problems.remove(&name.span(), &prefix);
                self.add(key, problem);
            }
        }
    }

    /// Adds the problem with each key of a group that is set.
    pub(super) fn refuse_group(&mut self, group: &str, problem: &str) {
        let in_group = self.keys.keys.iter().filter(|key| key.group == group && key.is_set);
        let names: Vec<&str> = in_group.map(|key| key.name).collect();
        self.refuse(&names, problem);
    }

    /// Declares that `key` is valid only with `other`; `problem` is the message if it is alone.
    pub(super) fn depends(&mut self, key: &'static str, other: &'static str, problem: &str) {
        self.keys.dependencies.push((key, other));
        if self.has(key) && !self.has(other) {
            self.add(key, problem);
        }
    }

    /// Declares that the keys are valid only together; `all` names them.
    pub(super) fn together(&mut self, keys: &[&'static str], all: &str) {
        for key in keys {
            let others = keys.iter().filter(|other| *other != key);
            self.keys.dependencies.extend(others.map(|other| (*key, *other)));
        }
        let set: Vec<&&str> = keys.iter().filter(|key| self.has(key)).collect();
        if let [first, ..] = set.as_slice()
            && set.len() < keys.len()
        {
            self.add(first, &format!("is of no use alone; set {all}"));
        }
    }

    /// Adds a problem if another section, of those in `lines`, has the same value of `key`.
    pub(super) fn check_unique(&mut self, key: &str, lines: &mut BTreeMap<String, usize>) {
        let name = self.table.and_then(|table| table.get_key_value(key));
        let Some((name, text)) =
            name.and_then(|(name, value)| Some((name, value.get_ref().as_str()?)))
        else {
            return;
        };
        let line = self.problems.line(&name.span());
        let first = *lines.entry(text.to_owned()).or_insert(line);
        if first != line {
            self.add(key, &format!("{text:?} is taken by line {first}; use another name"));
        }
    }

    /// Adds a problem for every key that was not declared. `kinds` returns the kinds of the section
    /// that have a key.
    pub(super) fn finish(self, kinds: impl Fn(&str) -> Vec<&'static str>) -> SectionKeys {
        let section = self.keys.section;
        for (key, _) in self.table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if self.keys.get(name).is_some() {
                continue;
            }
            let kinds: Vec<String> = kinds(name).iter().map(|kind| format!("{kind:?}")).collect();
            let new = retired::replacement(&format!("{section}.{name}"));
            let text = match (new, self.keys.kind, kinds.as_slice()) {
                (Some(new), ..) => format!("{section}.{name}: was renamed; use {new}"),
                (None, _, []) => {
                    let known: Vec<&str> = self.keys.keys.iter().map(|key| key.name).collect();
                    format!("{section}: unknown key {name:?}; {}", hint(name, &known))
                }
                // The problem is the kind.
                (None, None, _) => continue,
                (None, Some(kind), kinds) => format!(
                    "{section}.{name}: has no meaning for kind {kind:?}, only for {}",
                    kinds.join(" or ")
                ),
            };
            self.problems.add(&key.span(), text);
        }
        self.keys
    }
}

/// One line for each of `problems` in the file at `path`.
pub(super) fn lines(path: &Path, problems: &[Problem]) -> String {
    let mut lines = String::new();
    for (index, Problem { line, text }) in problems.iter().enumerate() {
        let separator = if index == 0 { "" } else { "\n" };
        let _infallible = write!(lines, "{separator}{}:{line}: {text}", path.display());
    }
    lines
}
