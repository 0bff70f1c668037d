//! Progress: a bar for the person who waits, on a terminal only. It holds nothing up.
//!
//! A command that reads whole files has one.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal as _, LineWriter, Read, Write};
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::environment::Environment;

/// How far a command is: bytes of its input, and what was found in them. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Progress(ProgressBar);

impl Default for Progress {
    fn default() -> Self {
        Self::hidden()
    }
}

impl Progress {
    /// One that nobody sees.
    pub fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// One on standard error where that is a terminal that can show it, and nobody has said
    /// otherwise (`quiet`, `NO_COLOR`, `TERM=dumb`). The length is that of `files`, where all have
    /// one.
    pub fn of_files(files: &[&[PathBuf]], quiet: bool, environment: &Environment) -> Self {
        let set =
            |variable: &Option<OsString>| variable.as_ref().is_some_and(|text| !text.is_empty());
        let dumb = environment.term.as_ref().is_some_and(|term| term == "dumb");
        if quiet || dumb || set(&environment.no_color) || !io::stderr().is_terminal() {
            return Self::hidden();
        }
        let length = files.iter().copied().flatten().try_fold(0_u64, |sum, path| {
            let meta = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
            Some(sum.saturating_add(meta.len()))
        });
        let target = ProgressDrawTarget::stderr();
        let bar = ProgressBar::with_draw_target(length, target);
        let form = match length {
            Some(_) => "{bar:30} {bytes}/{total_bytes} {msg} {eta} left",
            None => "{spinner} {bytes} {msg}",
        };
        let style = ProgressStyle::with_template(form);
        bar.set_style(style.unwrap_or_else(|_not_ours| ProgressStyle::default_bar()));
        Self(bar)
    }

    /// `file`, of which each byte that is read counts.
    pub(crate) fn counted(&self, file: File) -> impl Read + use<> {
        self.0.wrap_read(file)
    }

    /// So many bytes more are read.
    pub(crate) fn bytes(&self, count: u64) {
        self.0.inc(count);
    }

    /// So many rows so far.
    pub(crate) fn rows(&self, count: u64) {
        self.found(count, "rows");
    }

    /// So many alerts so far.
    pub(crate) fn alerts(&self, count: u64) {
        self.found(count, "alerts");
    }

    fn found(&self, count: u64, what: &str) {
        if !self.0.is_hidden() {
            self.0.set_message(format!("{count} {what}"));
        }
    }

    /// Standard error beside the bar: neither breaks a line of the other.
    pub fn beside(&self) -> impl Write + use<> {
        // A line at a time: the bar is drawn anew after each write.
        LineWriter::new(Beside(self.clone()))
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

struct Beside(Progress);

impl Write for Beside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.0.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
