//! Rejected: what a sink refused for good is put aside with the reason, a JSON line an item, so that
//! nothing is lost without a trace and nothing is tried for ever.
//!
//! A file a sink, 16 MiB at most; then it is renamed to `.1`, in the place of the one before.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::base::escape::escaped;
use crate::base::log_throttle::LogThrottle;
use crate::base::progress::Progress;

/// The folder's name, in the spool's.
const FOLDER: &str = "rejected";
/// Bytes of a file at most.
const FILE_MAX: u64 = 16 << 20;
/// Characters of a reason at most.
const REASON_MAX: usize = 1000;
/// Bytes of a line at most, when it is read again.
const LINE_MAX: u64 = 64 << 20;

/// Puts items aside.
#[derive(Debug)]
pub struct Rejected {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
    /// One writes at a time.
    turn: Mutex<()>,
    quiet: LogThrottle,
}

/// An item that was put aside.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RejectedItem {
    /// When.
    pub time: Timestamp,
    /// Which sink refused it.
    pub sink: String,
    /// Why, escaped.
    pub reason: String,
    /// Its id.
    pub id: String,
    /// As it was sent: JSON, or text where it was none.
    pub item: Box<RawValue>,
}

impl Rejected {
    /// Puts aside in `dir`, the spool's folder.
    pub fn new(dir: &Path, clock: Arc<dyn Clock>, stats: Arc<Stats>) -> Self {
        let folder = dir.join(FOLDER);
        Self { folder, clock, stats, turn: Mutex::default(), quiet: LogThrottle::new() }
    }

    /// Puts one item aside. Blocks for a write, and never fails: what cannot be written is logged.
    pub fn add(&self, sink: &str, reason: &str, id: &str, line: &str) {
        let item = RawValue::from_string(line.to_owned())
            .or_else(|_no_json| serde_json::value::to_raw_value(line));
        let Ok(item) = item else { return };
        let rejected = RejectedItem {
            time: self.clock.now(),
            sink: sink.to_owned(),
            reason: escaped(reason, REASON_MAX),
            id: id.to_owned(),
            item,
        };
        match self.append(&path(&self.folder, sink), &rejected) {
            Ok(()) => self.stats.items_dead_lettered.increment(),
            Err(error) => {
                if let Some(count) = self.quiet.admit(1, Instant::now()) {
                    let path = self.folder.display();
                    tracing::error!(sink, %path, count, %error, "put discarded items aside");
                }
            }
        }
    }

    fn append(&self, path: &Path, item: &RejectedItem) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let mut line = serde_json::to_vec(item)?;
        // An item may be JSON over several lines.
        line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        line.push(b'\n');
        let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        if length > 0 && length + line.len() as u64 > FILE_MAX {
            std::fs::rename(path, older(path))?;
        }
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let before = file.metadata()?.len();
        // A line in part would make the next one unreadable.
        file.write_all(&line).inspect_err(|_error| {
            let cut = file.set_len(before);
            tracing::trace!(cut = cut.is_ok(), "a line was not written as a whole");
        })
    }
}

fn path(folder: &Path, sink: &str) -> PathBuf {
    // Names of sinks have no separator; what is put into a path is held to that here too.
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = sink.chars().map(plain).collect();
    folder.join(format!("{name}.jsonl"))
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("jsonl.1")
}

/// The files of `sink` in the spool's folder `dir`, the older first.
pub fn rejected_files(dir: &Path, sink: &str) -> Vec<PathBuf> {
    let path = path(&dir.join(FOLDER), sink);
    [older(&path), path].into_iter().filter(|path| path.is_file()).collect()
}

/// The sinks of which something is put aside in `dir`, in the order of their names.
pub fn rejecting_sinks(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir.join(FOLDER)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut sinks = std::collections::BTreeSet::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let sink = name.strip_suffix(".jsonl.1").or_else(|| name.strip_suffix(".jsonl"));
        sinks.extend(sink.map(str::to_owned));
    }
    Ok(sinks.into_iter().collect())
}

/// Each line of a file of items that were put aside: `Err` says why it is none. `progress` counts
/// its bytes.
pub fn read_rejected(
    path: &Path,
    progress: &Progress,
    mut take: impl FnMut(Result<RejectedItem, serde_json::Error>),
) -> io::Result<()> {
    let mut file = BufReader::new(progress.wrap_file(File::open(path)?));
    let mut line = Vec::new();
    while file.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)? > 0 {
        take(serde_json::from_slice(&line));
        line.clear();
    }
    Ok(())
}
