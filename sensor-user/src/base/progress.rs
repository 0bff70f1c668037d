//! `Progress`: a progress bar on a terminal, for commands that read whole files. It never blocks.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal as _, LineWriter, Read, Write};
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::environment::Environment;

/// Progress of a command: bytes read of its input, and items found. Clones share one bar.
#[derive(Debug, Clone)]
pub struct Progress(ProgressBar);

impl Default for Progress {
    fn default() -> Self {
        Self::hidden()
    }
}

impl Progress {
    /// A bar that is not shown.
    pub fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// A bar on standard error, shown if that is a terminal and the bar is not disabled (`is_disabled`,
    /// `NO_COLOR`, `TERM=dumb`). Its length is the size of `files`, if all have one.
    pub fn for_files(files: &[&[PathBuf]], is_disabled: bool, environment: &Environment) -> Self {
        let set =
            |variable: &Option<OsString>| variable.as_ref().is_some_and(|text| !text.is_empty());
        let dumb = environment.term.as_ref().is_some_and(|term| term == "dumb");
        if is_disabled || dumb || set(&environment.no_color) || !io::stderr().is_terminal() {
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
        bar.set_style(style.unwrap_or_else(|_invalid_template| ProgressStyle::default_bar()));
        Self(bar)
    }

    /// Returns a reader of `file` that counts the bytes read.
    pub(crate) fn wrap_file(&self, file: File) -> impl Read + use<> {
        self.0.wrap_read(file)
    }

    /// Adds `count` bytes read.
    pub(crate) fn add_bytes(&self, count: u64) {
        self.0.inc(count);
    }

    /// Sets the number of rows found.
    pub(crate) fn set_rows(&self, count: u64) {
        self.set_message(count, "rows");
    }

    /// Sets the number of alerts found.
    pub(crate) fn set_alerts(&self, count: u64) {
        self.set_message(count, "alerts");
    }

    fn set_message(&self, count: u64, items: &str) {
        if !self.0.is_hidden() {
            self.0.set_message(format!("{count} {items}"));
        }
    }

    /// Returns a writer to standard error whose lines and the bar do not overwrite each other.
    pub fn stderr_writer(&self) -> impl Write + use<> {
        // One write per line, because the bar is redrawn after each write.
        LineWriter::new(StderrWriter(self.clone()))
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

struct StderrWriter(Progress);

impl Write for StderrWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.0.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
