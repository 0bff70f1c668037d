//! `LogLine`: an event with its fields, as one line of text.
//!
//! Characters that control a terminal are escaped (line ends, ESC, bidirectional controls), and a line
//! is truncated to [`LINE_MAX`] bytes, marked with `…`.

use std::fmt::{self, Write as _};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata};

use crate::base::escape::push_visible;

/// Limit of a line in bytes, without time and level.
pub(super) const LINE_MAX: usize = 16 << 10;

/// An event of `tracing` as text.
#[derive(Debug, Clone)]
pub(super) struct LogLine {
    pub(super) metadata: &'static Metadata<'static>,
    message: String,
    /// Message and fields.
    pub(super) text: String,
    /// Names and values of the fields.
    pub(super) fields: Vec<(&'static str, String)>,
}

impl LogLine {
    pub(super) fn from_event(event: &Event<'_>) -> Self {
        let mut visitor = FieldVisitor::default();
        event.record(&mut visitor);
        let FieldVisitor { message, others, fields } = visitor;
        let mut text = message.clone();
        append(&mut text, format_args!("{others}"));
        Self { metadata: event.metadata(), message, text, fields }
    }

    /// Returns the summary of `count` suppressed lines of the same log statement.
    pub(super) fn summary(&self, count: u64) -> Self {
        let message = self.message.clone();
        let text = format!("{message} ({count} more suppressed in the last minute)");
        Self {
            metadata: self.metadata,
            message,
            text,
            fields: vec![("suppressed", count.to_string())],
        }
    }

    /// Returns the line for standard error. `repeats` is 0 for the event itself.
    pub(super) fn to_text(&self, time: Timestamp, repeats: u64) -> String {
        let level = self.metadata.level();
        format!("{time:.6} {level:>5} {}\n", self.text_with(repeats))
    }

    /// Returns the text with the number of repeats.
    pub(super) fn text_with(&self, repeats: u64) -> String {
        match repeats {
            0 => self.text.clone(),
            1 => format!("{} (repeated once)", self.text),
            _ => format!("{} (repeated {repeats} times)", self.text),
        }
    }
}

/// Visitor that collects the fields of an event.
#[derive(Default)]
struct FieldVisitor {
    message: String,
    /// All other fields, each as `␣name=value`.
    others: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for FieldVisitor {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            append(&mut self.message, format_args!("{value}"));
        } else {
            append(&mut self.others, format_args!(" {}={value:?}", field.name()));
            self.push(field, format_args!("{value}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            append(&mut self.message, format_args!("{value:?}"));
        } else {
            append(&mut self.others, format_args!(" {}={value:?}", field.name()));
            self.push(field, format_args!("{value:?}"));
        }
    }
}

impl FieldVisitor {
    fn push(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let mut text = String::new();
        let used: usize = self.fields.iter().map(|(_, value)| value.len()).sum();
        let mut line = OneLine { out: &mut text, max: LINE_MAX.saturating_sub(used) };
        let _infallible = line.write_fmt(value);
        self.fields.push((field.name(), text));
    }
}

/// Appends `text` to `out`, escaped and truncated.
fn append(out: &mut String, text: fmt::Arguments<'_>) {
    let _infallible = OneLine { out, max: LINE_MAX }.write_fmt(text);
}

/// Writer that escapes. Quotes and backslashes stay, so that escaped text is not escaped twice.
struct OneLine<'o> {
    out: &'o mut String,
    /// Limit of `out` in bytes.
    max: usize,
}

impl fmt::Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.out.len() >= self.max {
                if !self.out.ends_with('…') {
                    self.out.push('…');
                }
                return Ok(());
            }
            push_visible(self.out, character);
        }
        Ok(())
    }
}
