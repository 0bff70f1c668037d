//! The file sink: lines appended to one file, which may be rotated.
//!
//! Invariants: after a failed write the file is as long as before it, so a batch that is tried
//! again leaves no half line and no line twice. A batch of alerts is on the device before it counts
//! as delivered. Rotation renames whole files, the oldest first, so no line is lost by it but with
//! the file that is one too many. A file that was moved away by others is made anew.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use nix::sys::statvfs::statvfs;

use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, Content};

/// A file sink's own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileConfig {
    /// The file, absolute.
    pub path: PathBuf,
    /// It is rotated before it would have more bytes.
    pub max_bytes: Option<u64>,
    /// It is rotated before a write when it was made longer ago.
    pub max_age: Option<Duration>,
    /// Rotated files that stay: `path.1`, the latest, to `path.KEEP`.
    pub keep: u32,
}

impl FileConfig {
    /// Rotated files that stay unless set.
    pub const KEEP: u32 = 5;

    /// A file that is never rotated by the agent.
    pub const fn new(path: PathBuf) -> Self {
        Self { path, max_bytes: None, max_age: None, keep: Self::KEEP }
    }

    /// `path.number`.
    fn rotated(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

/// Appends to one file.
#[derive(Debug)]
pub(crate) struct FileSink {
    config: Arc<FileConfig>,
    stats: Arc<Stats>,
    /// The open file, when the last batch left one.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// When it was made, as far as the file system knows.
    made: Option<Timestamp>,
    /// A length to which the file must be cut before anything is appended.
    repair_to: Option<u64>,
}

/// What is to be appended.
struct Lines {
    text: String,
    /// To be on the device before it counts.
    is_kept: bool,
    now: Timestamp,
}

impl FileSink {
    pub(crate) fn new(config: &FileConfig, stats: &Arc<Stats>) -> Self {
        Self { config: Arc::new(config.clone()), stats: Arc::clone(stats), open: None }
    }

    /// Appends the batch. The write runs on a thread that may block.
    pub(crate) async fn send(
        &mut self,
        batch: &Batch,
        clock: &dyn Clock,
    ) -> Result<(), DeliverError> {
        let is_kept = batch.content == Content::Alerts;
        let lines = Lines { text: batch.lines(), is_kept, now: clock.now() };
        let (config, stats) = (Arc::clone(&self.config), Arc::clone(&self.stats));
        let open = self.open.take();
        let task = tokio::task::spawn_blocking(move || append(&config, &stats, open, &lines));
        let (open, result) = match task.await {
            Ok(done) => done,
            Err(lost) => (None, Err(io::Error::other(lost))),
        };
        self.open = open;
        result.map_err(|error| describe(&self.config.path, error))
    }
}

fn append(
    config: &FileConfig,
    stats: &Stats,
    open: Option<Open>,
    lines: &Lines,
) -> (Option<Open>, io::Result<()>) {
    let path = &config.path;
    let open = open.filter(|open| is_current(path, &open.file));
    let mut open = match open.map_or_else(|| Open::at(path), Ok) {
        Ok(open) => open,
        Err(error) => return (None, Err(error)),
    };
    match open.is_due(config, lines) {
        Ok(false) => {}
        Ok(true) => match rotate(config, stats).and_then(|()| Open::at(path)) {
            Ok(next) => open = next,
            Err(error) => return (None, Err(error)),
        },
        Err(error) => return (Some(open), Err(error)),
    }
    let result = open.append(lines);
    (Some(open), result)
}

/// Renames `path.N` to `path.N+1`, the oldest first (which replaces the one too many), then the
/// file itself to `path.1`. Cut short, it goes on where it was the next time: a gap is left alone.
fn rotate(config: &FileConfig, stats: &Stats) -> io::Result<()> {
    let last = config.keep.max(1);
    // Renames stop at the first gap, so that no file moves on before it must.
    let used = (1..=last).take_while(|&number| config.rotated(number).exists()).count();
    let used = u32::try_from(used).unwrap_or(last);
    let is_one_too_many = used == last;
    for number in (1..=used.min(last - 1)).rev() {
        std::fs::rename(config.rotated(number), config.rotated(number + 1))?;
    }
    std::fs::rename(&config.path, config.rotated(1))?;
    stats.files_rotated.increment();
    if is_one_too_many {
        stats.rotated_files_deleted.increment();
    }
    Ok(())
}

impl Open {
    /// Opens, or makes with mode 0600. A last line that some crash left without its end gets one.
    fn at(path: &Path) -> io::Result<Self> {
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_file() && metadata.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        let made = metadata.created().or_else(|_unknown| metadata.modified()).ok();
        let made = made.and_then(|made: SystemTime| Timestamp::try_from(made).ok());
        Ok(Self { file, made, repair_to: None })
    }

    /// Whether the file is to be rotated before `lines` are appended. An empty one never is, so
    /// that a batch which is larger than a file may be has one of its own.
    fn is_due(&mut self, config: &FileConfig, lines: &Lines) -> io::Result<bool> {
        if let Some(length) = self.repair_to {
            self.file.set_len(length)?;
            self.repair_to = None;
        }
        let metadata = self.file.metadata()?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Ok(false);
        }
        let bytes = metadata.len().saturating_add(lines.text.len() as u64);
        let is_full = config.max_bytes.is_some_and(|most| bytes > most);
        let age =
            self.made.and_then(|made| Duration::try_from(lines.now.duration_since(made)).ok());
        let is_old = config.max_age.zip(age).is_some_and(|(most, age)| age > most);
        Ok(is_full || is_old)
    }

    fn append(&mut self, lines: &Lines) -> io::Result<()> {
        let metadata = self.file.metadata()?;
        let written = self.file.write_all(lines.text.as_bytes()).and_then(|()| {
            // A device or a pipe has nothing to be synced.
            if lines.is_kept && metadata.is_file() { self.file.sync_data() } else { Ok(()) }
        });
        written.inspect_err(|_error| {
            // A device or a pipe has no length to go back to.
            if metadata.is_file() && self.file.set_len(metadata.len()).is_err() {
                self.repair_to = Some(metadata.len());
            }
        })
    }
}

/// Whether `path` still names the open file.
fn is_current(path: &Path, file: &File) -> bool {
    match (std::fs::metadata(path), file.metadata()) {
        (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
        _ => false,
    }
}

pub(crate) fn describe(path: &Path, source: io::Error) -> DeliverError {
    let path = path.to_owned();
    match source.raw_os_error().map(nix::errno::Errno::from_raw) {
        Some(full @ (nix::errno::Errno::ENOSPC | nix::errno::Errno::EDQUOT)) => {
            let free = free_space(&path);
            DeliverError::Full { path, reason: full.desc().to_owned(), free }
        }
        _ => DeliverError::Write { path, source },
    }
}

fn free_space(path: &Path) -> String {
    statvfs(path).map_or_else(
        |_unknown| "unknown".to_owned(),
        |device| {
            let bytes = device.blocks_available().saturating_mul(device.fragment_size());
            format!("{} MiB", bytes >> 20)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{FixedClock, SystemClock};
    use crate::deliver::batch::Entry;
    use crate::deliver::item::Item;
    use crate::schema::agent_event::{AgentEvent, Loss};

    /// One line of ten bytes with its end.
    fn batch(number: u32) -> Batch {
        let time = Timestamp::UNIX_EPOCH;
        let notice = AgentEvent::Loss(Loss {
            time_generated: time,
            computer: String::new(),
            agent_id: String::new(),
            first_seen: time,
            last_seen: time,
            reason: String::new(),
            kind: String::new(),
            count: 1,
        });
        let item = Item::AgentEvent(Arc::new(notice));
        Batch::new(Content::Alerts, vec![Entry::new(item, 0, format!("line {number:04}"))])
    }

    fn sink(config: &FileConfig) -> (FileSink, Arc<Stats>) {
        let stats = Arc::new(Stats::default());
        (FileSink::new(config, &stats), stats)
    }

    fn read(config: &FileConfig, number: u32) -> String {
        let path = if number == 0 { config.path.clone() } else { config.rotated(number) };
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_file_is_rotated_before_it_has_too_much() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let config = FileConfig { max_bytes: Some(25), keep: 2, ..FileConfig::new(path) };
        let (mut sink, stats) = sink(&config);
        for number in 0..7 {
            sink.send(&batch(number), &SystemClock).await.unwrap();
        }
        assert_eq!(read(&config, 0), "line 0006\n");
        assert_eq!(read(&config, 1), "line 0004\nline 0005\n");
        assert_eq!(read(&config, 2), "line 0002\nline 0003\n");
        assert_eq!(read(&config, 3), "");
        assert_eq!((stats.files_rotated.value(), stats.rotated_files_deleted.value()), (3, 1));
        // Another sink goes on where this one was.
        drop(sink);
        let (mut next, _) = self::sink(&config);
        next.send(&batch(7), &SystemClock).await.unwrap();
        assert_eq!(read(&config, 0), "line 0006\nline 0007\n");
    }

    #[tokio::test]
    async fn a_line_longer_than_a_file_has_one_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let config =
            FileConfig { max_bytes: Some(5), ..FileConfig::new(folder.path().join("lines")) };
        let (mut sink, _) = sink(&config);
        for number in 0..2 {
            sink.send(&batch(number), &SystemClock).await.unwrap();
        }
        assert_eq!(
            (read(&config, 0), read(&config, 1)),
            ("line 0001\n".into(), "line 0000\n".into())
        );
    }

    #[tokio::test]
    async fn a_file_is_rotated_when_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let hour = Duration::from_hours(1);
        let path = folder.path().join("lines");
        let config = FileConfig { max_age: Some(hour), ..FileConfig::new(path) };
        let (mut sink, stats) = sink(&config);
        sink.send(&batch(0), &SystemClock).await.unwrap();
        sink.send(&batch(1), &SystemClock).await.unwrap();
        assert_eq!(stats.files_rotated.value(), 0);
        let later = FixedClock(SystemClock.now() + 2 * hour);
        sink.send(&batch(2), &later).await.unwrap();
        assert_eq!(read(&config, 1), "line 0000\nline 0001\n");
        assert_eq!((read(&config, 0), stats.files_rotated.value()), ("line 0002\n".into(), 1));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_rotated_waits_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let config = FileConfig { max_bytes: Some(10), keep: 1, ..FileConfig::new(path) };
        let (mut sink, stats) = sink(&config);
        sink.send(&batch(0), &SystemClock).await.unwrap();
        // A folder in the way, which a file cannot replace.
        std::fs::create_dir(config.rotated(1)).unwrap();
        let error = sink.send(&batch(1), &SystemClock).await.unwrap_err().to_string();
        assert!(error.contains("lines"), "{error}");
        assert_eq!((read(&config, 0), stats.files_rotated.value()), ("line 0000\n".into(), 0));
        std::fs::remove_dir(config.rotated(1)).unwrap();
        sink.send(&batch(1), &SystemClock).await.unwrap();
        assert_eq!(
            (read(&config, 0), read(&config, 1)),
            ("line 0001\n".into(), "line 0000\n".into())
        );
    }
}
