//! `LogFile`: an open file of lines, and its rotation.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::FileConfig;
use crate::base::counters::Stats;
use crate::base::regular_file;

#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    /// Creation time, or the modification time on file systems without it.
    created: Option<Timestamp>,
    /// Length to which the file must be truncated before the next write.
    repair_to: Option<u64>,
}

/// Lines to append.
pub(super) struct Append {
    pub(super) text: String,
    /// The lines must be on the device before they count as delivered.
    pub(super) sync: bool,
    pub(super) now: Timestamp,
}

/// Appends `lines` to the file, after rotation if it is due. Returns the file if it stays open.
pub(super) fn append(
    config: &FileConfig,
    stats: &Stats,
    open: Option<LogFile>,
    lines: &Append,
) -> (Option<LogFile>, io::Result<()>) {
    let path = &config.path;
    let open = open.filter(|open| is_current(path, &open.file));
    let mut open = match open.map_or_else(|| LogFile::open(path), Ok) {
        Ok(open) => open,
        Err(error) => return (None, Err(error)),
    };
    match open.needs_rotation(config, lines) {
        Ok(false) => {}
        Ok(true) => match rotate(config, stats).and_then(|()| LogFile::open(path)) {
            Ok(next) => open = next,
            Err(error) => return (None, Err(error)),
        },
        Err(error) => return (Some(open), Err(error)),
    }
    let result = open.append(lines);
    (Some(open), result)
}

/// Renames `path.N` to `path.N+1`, the oldest first (which replaces the one over the limit), then the
/// file itself to `path.1`. If it is interrupted, the next rotation continues: a gap stays a gap.
fn rotate(config: &FileConfig, stats: &Stats) -> io::Result<()> {
    let last = config.keep.max(1);
    // Renames stop at the first gap, so that no file moves before it must.
    let used = (1..=last).take_while(|&number| config.rotated(number).exists()).count();
    let used = u32::try_from(used).unwrap_or(last);
    for number in (1..=used.min(last - 1)).rev() {
        std::fs::rename(config.rotated(number), config.rotated(number + 1))?;
    }
    std::fs::rename(&config.path, config.rotated(1))?;
    stats.files_rotated.increment();
    if used == last {
        stats.rotated_files_deleted.increment();
    }
    Ok(())
}

impl LogFile {
    /// Opens the file, or creates it with mode 0600. Ends a last line that a crash left incomplete.
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = regular_file::open_to_append(path)?;
        let metadata = file.metadata()?;
        if metadata.is_file() && metadata.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        let created = metadata.created().or_else(|_unknown| metadata.modified()).ok();
        let created = created.and_then(|created| Timestamp::try_from(created).ok());
        Ok(Self { file, created, repair_to: None })
    }

    /// True if the file must be rotated before `lines` are appended. An empty file is not rotated, so
    /// that a batch over the limit has its own file.
    fn needs_rotation(&mut self, config: &FileConfig, lines: &Append) -> io::Result<bool> {
        if let Some(length) = self.repair_to {
            self.file.set_len(length)?;
            self.repair_to = None;
        }
        let metadata = self.file.metadata()?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Ok(false);
        }
        let bytes = metadata.len().saturating_add(lines.text.len() as u64);
        let is_full = config.max_bytes.is_some_and(|max| bytes > max);
        let age = self.created.map(|created| lines.now.duration_since(created));
        let age = age.and_then(|age| Duration::try_from(age).ok());
        let is_old = config.max_age.zip(age).is_some_and(|(max, age)| age > max);
        Ok(is_full || is_old)
    }

    fn append(&mut self, lines: &Append) -> io::Result<()> {
        let metadata = self.file.metadata()?;
        let written = self.file.write_all(lines.text.as_bytes()).and_then(|()| {
            // A device or a pipe cannot be synced.
            if lines.sync && metadata.is_file() { self.file.sync_data() } else { Ok(()) }
        });
        written.inspect_err(|_error| {
            // A device or a pipe has no length to restore.
            if metadata.is_file() && self.file.set_len(metadata.len()).is_err() {
                self.repair_to = Some(metadata.len());
            }
        })
    }
}

/// True if `path` still refers to the open file.
fn is_current(path: &Path, file: &File) -> bool {
    match (std::fs::metadata(path), file.metadata()) {
        (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
        _ => false,
    }
}
