//! A line of the log: an event with its fields, as text that is one line whatever it holds.
//!
//! Everything that a terminal might obey is escaped (line ends, ESC, bidirectional controls), and a
//! line has at most [`LINE_MAX`] bytes: then `…`.

use std::fmt::{self, Write as _};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata};

use crate::base::escape::push_visible;

/// Bytes of a line at most, without time and level.
pub(super) const LINE_MAX: usize = 16 << 10;

/// An event of `tracing`.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) metadata: &'static Metadata<'static>,
    message: String,
    /// The message and all fields.
    pub(super) text: String,
    /// The fields one by one.
    pub(super) fields: Vec<(&'static str, String)>,
}

impl Line {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut reader = Reader::default();
        event.record(&mut reader);
        let Reader { message, others, fields } = reader;
        let mut text = message.clone();
        append(&mut text, format_args!("{others}"));
        Self { metadata: event.metadata(), message, text, fields }
    }

    /// Tells of `count` lines of the same place, whatever their values.
    pub(super) fn more_like_it(&self, count: u64) -> Self {
        let message = self.message.clone();
        let text = format!("{message} ({count} more like it in the last minute)");
        Self { metadata: self.metadata, message, text, fields: vec![("more", count.to_string())] }
    }

    /// As it stands on standard error; `repeats` is 0 for the event itself.
    pub(super) fn for_people(&self, time: Timestamp, repeats: u64) -> String {
        let level = self.metadata.level();
        format!("{time:.6} {level:>5} {}\n", self.text_with(repeats))
    }

    /// The text, and how often it was so.
    pub(super) fn text_with(&self, repeats: u64) -> String {
        match repeats {
            0 => self.text.clone(),
            1 => format!("{} (repeated once)", self.text),
            _ => format!("{} (repeated {repeats} times)", self.text),
        }
    }
}

/// Takes an event apart.
#[derive(Default)]
struct Reader {
    message: String,
    /// As `␣name=value`.
    others: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Reader {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            append(&mut self.message, format_args!("{value}"));
        } else {
            append(&mut self.others, format_args!(" {}={value:?}", field.name()));
            self.keep(field, format_args!("{value}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            append(&mut self.message, format_args!("{value:?}"));
        } else {
            append(&mut self.others, format_args!(" {}={value:?}", field.name()));
            self.keep(field, format_args!("{value:?}"));
        }
    }
}

impl Reader {
    fn keep(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let mut text = String::new();
        let used: usize = self.fields.iter().map(|(_, value)| value.len()).sum();
        let mut room = OneLine { out: &mut text, most: LINE_MAX.saturating_sub(used) };
        let _infallible = room.write_fmt(value);
        self.fields.push((field.name(), text));
    }
}

/// Puts `text` behind `out`, escaped, as long as there is room.
fn append(out: &mut String, text: fmt::Arguments<'_>) {
    let _infallible = OneLine { out, most: LINE_MAX }.write_fmt(text);
}

/// Escapes what is written through it. Quotes and backslashes stay: what is escaped already does too.
struct OneLine<'o> {
    out: &'o mut String,
    /// Bytes at which it is cut.
    most: usize,
}

impl fmt::Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.out.len() >= self.most {
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
