//! Replay: makes a sink receive alerts again. No agent may run.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::dead_letters::{dead_letter_files, read_dead_letters, replace_dead_letters};
use super::inspect::InspectionReport;
use super::storage::Disk;
use super::{Commit, Spool, SpoolConfig, SpoolError, cursors};
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::base::escape::escaped;
use crate::base::progress::Progress;
use crate::pipeline::dedup::Alert;

/// Alerts of one commit.
const COMMIT_MAX: usize = 500;
/// Time that the disk may take.
const LIMIT: Duration = Duration::from_mins(1);

/// Error of a replay; nothing is sent again.
#[derive(Debug, thiserror::Error)]
pub enum SpoolReplayError {
    /// The spool has no cursor of this name.
    #[error("sink \"{sink}\": has no cursor in {}; known sinks: {known}", path.display())]
    Sink {
        /// Name, escaped.
        sink: String,
        /// Folder of the spool.
        path: PathBuf,
        /// Sinks with a cursor.
        known: String,
    },
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the system.
        #[source]
        source: io::Error,
    },
    /// The spool accepts no alerts.
    #[error("{}: rejected alerts are not in the spool: {reason}; they stay in the dead-letter file", path.display())]
    Spool {
        /// Folder of the spool.
        path: PathBuf,
        /// Reason, with the remedy.
        reason: String,
    },
    /// The spool cannot be opened.
    #[error(transparent)]
    Open(#[from] SpoolError),
}

/// Converts an error of `path`.
fn io_error(path: &Path) -> impl Fn(io::Error) -> SpoolReplayError {
    move |source| SpoolReplayError::Io { path: path.to_owned(), source }
}

/// The cursor of each sink, by its name.
type Cursors = Vec<(String, u64)>;

/// All cursors of the spool, and the position of `sink` among them.
fn load_cursors(dir: &Path, sink: &str) -> Result<(Cursors, usize), SpoolReplayError> {
    let all = cursors::load(&Disk::new(dir)).map_err(io_error(dir))?;
    if let Some(position) = all.iter().position(|(name, _)| name == sink) {
        return Ok((all, position));
    }
    let known: Vec<String> = all.iter().map(|(name, _)| escaped(name, 80)).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(SpoolReplayError::Sink { sink: escaped(sink, 80), path: dir.to_owned(), known })
}

/// Moves the cursor of `sink` back to the first alert at `from` or later, or to the first of all. The
/// next run sends the alerts from there on. Returns the number of that alert, and the count.
pub fn rewind_cursor(
    dir: &Path,
    sink: &str,
    from: Option<Timestamp>,
    progress: &Progress,
) -> Result<(u64, u64), SpoolReplayError> {
    let (mut all, position) = load_cursors(dir, sink)?;
    let times = InspectionReport::read(dir, progress).map_err(io_error(dir))?.times;
    let is_later = |(_, time): &&(u64, Timestamp)| from.is_none_or(|from| *time >= from);
    let first = times.iter().find(is_later).map_or(u64::MAX, |(number, _)| *number);
    let mut start = first;
    if let Some((_, cursor)) = all.get_mut(position) {
        // Never forward: alerts that were not delivered are not skipped.
        start = first.min(*cursor);
        *cursor = start;
    }
    let count = times.iter().filter(|(number, _)| *number >= start).count() as u64;
    cursors::write_all(&Disk::new(dir), &all).map_err(io_error(dir))?;
    Ok((start, count))
}

/// Appends the alerts that `sink` rejected to the spool, with the ids that they had. Other items stay
/// in the dead-letter file. Returns the count of both.
pub fn requeue_dead_letters(
    dir: &Path,
    sink: &str,
    config: &SpoolConfig,
    clock: Arc<dyn Clock>,
    progress: &Progress,
) -> Result<(u64, u64), SpoolReplayError> {
    let (cursors, _) = load_cursors(dir, sink)?;
    let sinks: Vec<String> = cursors.into_iter().map(|(name, _)| name).collect();
    let (mut alerts, mut rest) = (Vec::new(), Vec::new());
    for path in dead_letter_files(dir, sink) {
        read_dead_letters(&path, progress, |item| {
            let Ok(item) = item else { return rest.push(None) };
            match serde_json::from_str::<Alert>(item.item.get()) {
                Ok(alert) => alerts.push(Arc::new(alert)),
                Err(_not_an_alert) => rest.push(serde_json::to_string(&item).ok()),
            }
        })
        .map_err(io_error(&path))?;
    }
    let (count, others) = (alerts.len() as u64, rest.len() as u64);
    if alerts.is_empty() {
        return Ok((0, others));
    }
    let config = SpoolConfig { queue: alerts.len(), ..config.clone() };
    let (spool, _) = Spool::open(dir, &config, &sinks, clock, &Arc::<Stats>::default())?;
    for commit in alerts.chunks(COMMIT_MAX) {
        spool.put(Commit { alerts: commit.to_vec(), state: None });
    }
    if !spool.close(LIMIT) {
        let reason = spool.status().error.unwrap_or_else(|| "the disk is too slow".to_owned());
        return Err(SpoolReplayError::Spool { path: dir.to_owned(), reason });
    }
    // The alerts are on disk.
    let rest: Vec<String> = rest.into_iter().flatten().collect();
    replace_dead_letters(dir, sink, &rest).map_err(io_error(dir))?;
    Ok((count, others))
}
