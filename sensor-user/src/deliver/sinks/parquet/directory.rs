//! `Directory`: the files of a parquet sink, and their retention.
//!
//! The name of a file contains its table and the time of its first row, UTC, in milliseconds:
//! `VMConnection-20261124T100003.250Z.parquet`. An incomplete file has a dot before that name and
//! `.tmp` after it, so that no reader opens it. Files with other names are never changed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{CompleteFile, ParquetConfig};
use crate::base::clock::signed;
use crate::base::counters::Stats;
use crate::schema::TABLES;

const SUFFIX: &str = ".parquet";
const INCOMPLETE: &str = ".parquet.tmp";
const TIME: &str = "%Y%m%dT%H%M%S.%3fZ";

/// Directory with its limits.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    path: PathBuf,
    max_bytes: u64,
    max_age: SignedDuration,
    stats: Arc<Stats>,
}

impl Directory {
    /// Removes incomplete files. The directory is created with the first file.
    pub(super) fn open(config: &ParquetConfig, stats: Arc<Stats>) -> Self {
        let directory = Self {
            path: config.folder.clone(),
            max_bytes: config.max_bytes,
            max_age: signed(config.max_age),
            stats,
        };
        for path in directory.entries(is_incomplete) {
            match fs::remove_file(&path) {
                Ok(()) => {
                    directory.stats.parquet_files_torn.increment();
                    let path = path.display();
                    tracing::warn!(%path, "removed an incomplete file of an earlier run");
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "remove an incomplete file");
                }
            }
        }
        directory
    }

    /// Writes a file atomically and durably, then deletes the files over the limits.
    pub(super) fn write(&self, file: &CompleteFile, now: Timestamp) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let name = self.free_name(file.table, file.first_row);
        let temporary = self.path.join(format!(".{name}.tmp"));
        let written = write_synced(&temporary, &file.bytes)
            .and_then(|()| fs::rename(&temporary, self.path.join(&name)))
            .and_then(|()| File::open(&self.path)?.sync_all());
        if written.is_err() {
            // If that fails too, the next start removes it.
            let _gone = fs::remove_file(&temporary).is_ok();
        }
        written?;
        self.stats.parquet_files_written.increment();
        self.trim(&name, now);
        Ok(())
    }

    /// Unused name for the time `first_row`, or for a later millisecond.
    fn free_name(&self, table: &str, first_row: Timestamp) -> String {
        let mut time = first_row;
        loop {
            let name = format!("{table}-{}{SUFFIX}", time.strftime(TIME));
            let next = time.checked_add(SignedDuration::from_millis(1));
            match next {
                Ok(next) if self.path.join(&name).exists() => time = next,
                Ok(_) | Err(_) => return name,
            }
        }
    }

    /// Deletes the oldest files, except `newest`, until the others are within the size and age limits.
    fn trim(&self, newest: &str, now: Timestamp) {
        let mut files: Vec<(Timestamp, u64, PathBuf)> = self
            .entries(|name| name != newest && time_of(name).is_some())
            .into_iter()
            .filter_map(|path| {
                let time = time_of(path.file_name()?.to_str()?)?;
                Some((time, fs::metadata(&path).ok()?.len(), path))
            })
            .collect();
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        bytes += fs::metadata(self.path.join(newest)).map_or(0, |it| it.len());
        for (time, size, path) in files {
            if bytes <= self.max_bytes && now.duration_since(time) <= self.max_age {
                break;
            }
            match fs::remove_file(&path) {
                Ok(()) => {
                    bytes = bytes.saturating_sub(size);
                    self.stats.parquet_files_deleted.increment();
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "remove an old file");
                }
            }
        }
    }

    fn entries(&self, is_selected: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let selected = entries.filter(|it| it.file_name().to_str().is_some_and(&is_selected));
        selected.map(|entry| entry.path()).collect()
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn is_incomplete(name: &str) -> bool {
    let inner = name.strip_prefix('.').and_then(|name| name.strip_suffix(INCOMPLETE));
    inner.is_some_and(|inner| time_of(&format!("{inner}{SUFFIX}")).is_some())
}

/// Time in the name of a file that a parquet sink has written.
fn time_of(name: &str) -> Option<Timestamp> {
    let (table, time) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    TABLES.iter().find(|it| it.name == table)?;
    let civil = strtime::parse(TIME, time).ok()?.to_datetime().ok()?;
    TimeZone::UTC.to_timestamp(civil).ok()
}
