//! The folder of a parquet sink: which files are in it, and for how long.
//!
//! A file is named by its table and by the time of its first row, UTC, to the millisecond:
//! `VMConnection-20261124T100003.250Z.parquet`. Half written it has a dot before that name and
//! `.tmp` behind it, so that no reader takes it for one. Files with other names are never touched.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{Full, ParquetConfig};
use crate::base::clock::signed;
use crate::base::counters::Stats;
use crate::schema::TABLES;

const SUFFIX: &str = ".parquet";
const HALF_WRITTEN: &str = ".parquet.tmp";
const TIME: &str = "%Y%m%dT%H%M%S.%3fZ";

/// The folder, and how much it may hold.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
    max_bytes: u64,
    max_age: SignedDuration,
    stats: Arc<Stats>,
}

impl Folder {
    /// Removes what is half written. The folder is made when the first file is written.
    pub(super) fn open(config: &ParquetConfig, stats: Arc<Stats>) -> Self {
        let folder = Self {
            path: config.folder.clone(),
            max_bytes: config.max_bytes,
            max_age: signed(config.max_age),
            stats,
        };
        for path in folder.entries(is_half_written) {
            match fs::remove_file(&path) {
                Ok(()) => {
                    folder.stats.parquet_files_torn.increment();
                    let path = path.display();
                    tracing::warn!(%path, "file half written by an agent that ended; removed");
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "remove a half written file");
                }
            }
        }
        folder
    }

    /// Writes a file so that it is there whole or not at all, also after a crash of the machine;
    /// then deletes what is too much.
    pub(super) fn write(&self, full: &Full, now: Timestamp) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let name = self.free_name(full.table, full.began);
        let half = self.path.join(format!(".{name}.tmp"));
        let written = write_whole(&half, &full.bytes)
            .and_then(|()| fs::rename(&half, self.path.join(&name)))
            .and_then(|()| File::open(&self.path)?.sync_all());
        if written.is_err() {
            // Where even that fails, the next start removes it.
            let _gone = fs::remove_file(&half).is_ok();
        }
        written?;
        self.stats.parquet_files_written.increment();
        self.trim(&name, now);
        Ok(())
    }

    /// A name that no file has: that of the time, or of a millisecond soon after.
    fn free_name(&self, table: &str, began: Timestamp) -> String {
        let mut time = began;
        loop {
            let name = format!("{table}-{}{SUFFIX}", time.strftime(TIME));
            let next = time.checked_add(SignedDuration::from_millis(1));
            match next {
                Ok(next) if self.path.join(&name).exists() => time = next,
                Ok(_) | Err(_) => return name,
            }
        }
    }

    /// Deletes the oldest files until the rest is neither too large nor too old, but for `newest`.
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

    fn entries(&self, is_meant: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let meant = entries.filter(|entry| entry.file_name().to_str().is_some_and(&is_meant));
        meant.map(|entry| entry.path()).collect()
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn is_half_written(name: &str) -> bool {
    let inner = name.strip_prefix('.').and_then(|name| name.strip_suffix(HALF_WRITTEN));
    inner.is_some_and(|inner| time_of(&format!("{inner}{SUFFIX}")).is_some())
}

/// The time in the name of one of our files.
fn time_of(name: &str) -> Option<Timestamp> {
    let (table, time) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    TABLES.iter().find(|it| it.name == table)?;
    let civil = strtime::parse(TIME, time).ok()?.to_datetime().ok()?;
    TimeZone::UTC.to_timestamp(civil).ok()
}
