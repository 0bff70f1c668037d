//! Replay: has a sink get alerts again, while no agent runs.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::inspect::Survey;
use super::rejected::{read_rejected, rejected_files};
use super::storage::Disk;
use super::{Commit, Spool, SpoolConfig, SpoolError, cursors};
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::base::escape::escaped;
use crate::base::progress::Progress;
use crate::pipeline::dedup::Alert;

/// Alerts that are put into the spool as one.
const COMMIT_MAX: usize = 500;
/// How long the disk may take.
const LIMIT: Duration = Duration::from_mins(1);

/// Why nothing is sent again.
#[derive(Debug, thiserror::Error)]
pub enum SpoolReplayError {
    /// No sink of this name has a place.
    #[error("sink \"{sink}\": has no place in {}; there are {known}", path.display())]
    Sink {
        /// Escaped.
        sink: String,
        /// The spool's folder.
        path: PathBuf,
        /// Those that have one.
        known: String,
    },
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The spool takes nothing.
    #[error("{}: what was put aside is not in the spool: {reason}; it stays where it is", path.display())]
    Spool {
        /// The spool's folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is no spool.
    #[error(transparent)]
    Open(#[from] SpoolError),
}

/// Moves the place of `sink` back to the first alert that was put at `from` or later (to the first
/// of all without a time), so that the next run sends it from there on. Gives the number of that
/// alert, and how many there are from there on.
pub fn rewind(
    dir: &Path,
    sink: &str,
    from: Option<Timestamp>,
    progress: &Progress,
) -> Result<(u64, u64), SpoolReplayError> {
    let failed = |source| SpoolReplayError::Io { path: dir.to_owned(), source };
    let disk = Disk::new(dir);
    let mut all = cursors::load(&disk).map_err(failed)?;
    let known = names(&all);
    let Some((_, cursor)) = all.iter_mut().find(|(name, _)| name == sink) else {
        return Err(no_sink(dir, sink, &known));
    };
    let survey = Survey::of(dir, progress).map_err(failed)?;
    let is_later = |(_, time): &&(u64, Timestamp)| from.is_none_or(|from| *time >= from);
    let first = survey.times.iter().find(is_later).map(|(number, _)| *number);
    // Never ahead: what was not delivered is not skipped.
    *cursor = first.map_or(*cursor, |first| first.min(*cursor));
    let start = *cursor;
    let count = survey.times.iter().filter(|(number, _)| *number >= start).count() as u64;
    cursors::replace(&disk, &all).map_err(failed)?;
    Ok((start, count))
}

/// Puts the alerts that `sink` refused behind those that are there, with the ids that they had.
/// What is no alert stays put aside. Gives the number of each.
pub fn put_again(
    dir: &Path,
    sink: &str,
    config: &SpoolConfig,
    clock: Arc<dyn Clock>,
    progress: &Progress,
) -> Result<(u64, u64), SpoolReplayError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SpoolReplayError::Io { path, source }
    };
    let known = cursors::load(&Disk::new(dir)).map_err(failed(dir))?;
    let sinks: Vec<String> = known.iter().map(|(name, _)| name.clone()).collect();
    if !sinks.iter().any(|name| name == sink) {
        return Err(no_sink(dir, sink, &names(&known)));
    }
    let files = rejected_files(dir, sink);
    let (mut alerts, mut rest) = (Vec::new(), Vec::new());
    for path in &files {
        read_rejected(path, progress, |item| {
            let Ok(item) = item else { return rest.push(None) };
            match serde_json::from_str::<Alert>(item.item.get()) {
                Ok(alert) => alerts.push(Arc::new(alert)),
                Err(_no_alert) => rest.push(serde_json::to_string(&item).ok()),
            }
        })
        .map_err(failed(path))?;
    }
    let (count, others) = (alerts.len() as u64, rest.len() as u64);
    if alerts.is_empty() {
        return Ok((0, others));
    }
    let config = SpoolConfig { queue: alerts.len().max(1), ..config.clone() };
    let (spool, _) = Spool::open(dir, &config, &sinks, clock, &Arc::<Stats>::default())?;
    for commit in alerts.chunks(COMMIT_MAX) {
        spool.put(Commit { alerts: commit.to_vec(), state: None });
    }
    if !spool.close(LIMIT) {
        let reason = spool.status().fault.unwrap_or_else(|| "the disk is too slow".to_owned());
        return Err(SpoolReplayError::Spool { path: dir.to_owned(), reason });
    }
    // They are safe now; the rest takes their place.
    if let Some(path) = files.last() {
        let rest: Vec<String> = rest.into_iter().flatten().collect();
        keep(path, &rest).map_err(failed(path))?;
    }
    for path in files.iter().take(files.len().saturating_sub(1)) {
        std::fs::remove_file(path).map_err(failed(path))?;
    }
    Ok((count, others))
}

/// Has the file at `path` hold `lines` only, or not be there.
fn keep(path: &Path, lines: &[String]) -> io::Result<()> {
    if lines.is_empty() {
        return std::fs::remove_file(path);
    }
    let aside = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    for line in lines {
        writeln!(file, "{line}")?;
    }
    file.sync_data()?;
    std::fs::rename(&aside, path)
}

fn names(all: &[(String, u64)]) -> String {
    let names: Vec<String> = all.iter().map(|(name, _)| escaped(name, 80)).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn no_sink(dir: &Path, sink: &str, known: &str) -> SpoolReplayError {
    let (sink, known) = (escaped(sink, 80), known.to_owned());
    SpoolReplayError::Sink { sink, path: dir.to_owned(), known }
}
