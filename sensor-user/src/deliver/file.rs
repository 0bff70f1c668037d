//! The file sink: JSON lines appended to one file.
//!
//! Invariant: after a failed write the file is as long as before it, so a batch that is tried
//! again leaves no half line and no line twice. A file that was moved away (rotated) is made anew.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use super::DeliverError;
use super::batch::Batch;

/// Appends to one file.
#[derive(Debug)]
pub(super) struct FileSink {
    path: PathBuf,
    /// The open file, when the last batch left one.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// A length to which the file must be cut before anything is appended.
    repair_to: Option<u64>,
}

impl FileSink {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    /// Appends the batch. The write runs on a thread that may block.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<(), DeliverError> {
        let lines = batch.lines();
        let path = self.path.clone();
        let open = self.open.take();
        let task = tokio::task::spawn_blocking(move || append(&path, open, &lines));
        let (open, result) = match task.await {
            Ok(done) => done,
            Err(lost) => (None, Err(io::Error::other(lost))),
        };
        self.open = open;
        result.map_err(|error| describe(&self.path, error))
    }
}

fn append(path: &Path, open: Option<Open>, lines: &str) -> (Option<Open>, io::Result<()>) {
    let mut open =
        match open.filter(|open| is_current(path, &open.file)).map_or_else(|| Open::at(path), Ok) {
            Ok(open) => open,
            Err(error) => return (None, Err(error)),
        };
    let result = open.append(lines);
    (Some(open), result)
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
        Ok(Self { file, repair_to: None })
    }

    fn append(&mut self, lines: &str) -> io::Result<()> {
        if let Some(length) = self.repair_to {
            self.file.set_len(length)?;
            self.repair_to = None;
        }
        let metadata = self.file.metadata()?;
        self.file.write_all(lines.as_bytes()).inspect_err(|_error| {
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

pub(super) fn describe(path: &Path, source: io::Error) -> DeliverError {
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
