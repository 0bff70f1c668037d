//! Dead letters: items that a sink rejected permanently, with the reason, one JSON line each, so that
//! nothing is lost without a trace, and nothing is retried forever.
//!
//! Each sink has a file of at most 16 MiB. A full file is renamed to `.1`, which replaces the one
//! before.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::storage::{Disk, replace};
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::base::escape::escaped;
use crate::base::log_throttle::LogThrottle;
use crate::base::progress::Progress;
use crate::base::regular_file;

/// Name of the folder in that of the spool.
const FOLDER: &str = "rejected";
/// Bytes of a file at most.
const FILE_MAX: u64 = 16 << 20;
/// Characters of a reason at most.
const REASON_MAX: usize = 1000;
/// Bytes of a line that are read at most.
const LINE_MAX: u64 = 64 << 20;

/// Writer of dead letters.
#[derive(Debug)]
pub struct DeadLetters {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
    /// Serialises the writers.
    writing: Mutex<()>,
    throttle: LogThrottle,
}

/// Rejected item.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeadLetter {
    /// Time of the rejection.
    pub time: Timestamp,
    /// Name of the sink.
    pub sink: String,
    /// Reason, escaped.
    pub reason: String,
    /// Id of the item.
    pub id: String,
    /// Item as it was sent: JSON, or a string if it was not JSON.
    pub item: Box<RawValue>,
}

impl DeadLetters {
    /// Writer in `dir`, the folder of the spool.
    pub fn new(dir: &Path, clock: Arc<dyn Clock>, stats: Arc<Stats>) -> Self {
        let (writing, throttle) = (Mutex::default(), LogThrottle::new());
        Self { folder: dir.join(FOLDER), clock, stats, writing, throttle }
    }

    /// Writes one item. Blocks for the write, and never fails: an error is logged.
    pub fn add(&self, sink: &str, reason: &str, id: &str, line: &str) {
        let item = RawValue::from_string(line.to_owned())
            .or_else(|_not_json| serde_json::value::to_raw_value(line));
        let Ok(item) = item else { return };
        let item = DeadLetter {
            time: self.clock.now(),
            sink: sink.to_owned(),
            reason: escaped(reason, REASON_MAX),
            id: id.to_owned(),
            item,
        };
        match self.append(&self.folder.join(file_name(sink)), &item) {
            Ok(()) => self.stats.items_dead_lettered.increment(),
            Err(error) => {
                if let Some(count) = self.throttle.admit(1, Instant::now()) {
                    let path = self.folder.display();
                    tracing::error!(sink, %path, count, %error, "rejected items cannot be saved");
                }
            }
        }
    }

    fn append(&self, path: &Path, item: &DeadLetter) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let mut line = serde_json::to_vec(item)?;
        // The item may be JSON over several lines.
        line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        line.push(b'\n');
        let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        if length > 0 && length + line.len() as u64 > FILE_MAX {
            std::fs::rename(path, older(path))?;
        }
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let before = file.metadata()?.len();
        // A partial line would make the next one unreadable.
        file.write_all(&line).inspect_err(|_error| {
            let truncated = file.set_len(before);
            tracing::trace!(is_truncated = truncated.is_ok(), "partial line removed");
        })
    }
}

fn file_name(sink: &str) -> String {
    // Names of sinks have no separator; a path is protected here too.
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = sink.chars().map(plain).collect();
    format!("{name}.jsonl")
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("jsonl.1")
}

/// Dead-letter files of `sink` in the spool's folder `dir`, oldest first.
pub fn dead_letter_files(dir: &Path, sink: &str) -> Vec<PathBuf> {
    let path = dir.join(FOLDER).join(file_name(sink));
    [older(&path), path].into_iter().filter(|path| path.is_file()).collect()
}

/// Sinks with dead letters in the spool's folder `dir`, sorted by name.
pub fn dead_letter_sinks(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir.join(FOLDER)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut sinks = BTreeSet::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let sink = name.strip_suffix(".jsonl.1").or_else(|| name.strip_suffix(".jsonl"));
        sinks.extend(sink.map(str::to_owned));
    }
    Ok(sinks.into_iter().collect())
}

/// Reads each line of a dead-letter file; `Err` for an invalid one. `progress` counts the bytes.
pub fn read_dead_letters(
    path: &Path,
    progress: &Progress,
    mut take: impl FnMut(Result<DeadLetter, serde_json::Error>),
) -> io::Result<()> {
    let mut file = BufReader::new(progress.wrap_file(regular_file::open(path)?));
    let mut line = Vec::new();
    while file.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)? > 0 {
        take(serde_json::from_slice(&line));
        line.clear();
    }
    Ok(())
}

/// Replaces the dead-letter files of `sink` by one with `lines`, or by none.
pub(super) fn replace_dead_letters(dir: &Path, sink: &str, lines: &[String]) -> io::Result<()> {
    let mut files = dead_letter_files(dir, sink);
    if !lines.is_empty() {
        let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
        replace(&Disk::new(&dir.join(FOLDER)), &file_name(sink), text.as_bytes())?;
        files.retain(|path| path.extension().is_some_and(|it| it == "1"));
    }
    files.iter().try_for_each(std::fs::remove_file)
}
