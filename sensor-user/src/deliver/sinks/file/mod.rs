//! The sink `file`: lines appended to one file, which may be rotated.
//!
//! Invariants: after a failed write the file has its previous length, so a retried batch leaves no
//! partial line and no duplicate line. A batch of alerts is on the device before it counts as
//! delivered. Rotation renames whole files, the oldest first, so lines are lost only with the file
//! that exceeds the limit. A file that was moved away by another program is created again.

mod config;
mod log_file;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use twox_hash::XxHash3_64;

use self::log_file::{Append, LogFile, append};
use super::Sink;
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, ItemKind, SendOutcome};
use crate::deliver::error::write_error;

pub use config::FileConfig;

/// Maximum time of one write. A file system that does not answer, or a pipe that nobody reads, would
/// otherwise hold the sink forever without a word.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Appends to one file.
#[derive(Debug)]
pub(super) struct FileSink {
    config: Arc<FileConfig>,
    stats: Arc<Stats>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
    state: Mutex<FileState>,
}

/// State of the file between two batches.
#[derive(Debug, Default)]
struct FileState {
    /// Open since the last batch.
    open: Option<LogFile>,
    /// A write that did not end in time, and the hash of its lines.
    late: Option<(Write, u64)>,
}

/// A write on a thread that may block.
type Write = JoinHandle<(Option<LogFile>, io::Result<()>)>;

impl FileSink {
    pub(super) fn new(config: &FileConfig, stats: &Arc<Stats>, clock: &Arc<dyn Clock>) -> Self {
        let (stats, clock) = (Arc::clone(stats), Arc::clone(clock));
        Self {
            config: Arc::new(config.clone()),
            stats,
            clock,
            timeout: WRITE_TIMEOUT,
            state: Mutex::default(),
        }
    }

    /// Waits for a write. Leaves it in `state` if it takes too long.
    async fn finish(
        &self,
        state: &mut FileState,
        mut write: Write,
        hash: u64,
    ) -> Result<(), DeliverError> {
        let failed = |error| write_error(&self.config.path, error);
        match tokio::time::timeout(self.timeout, &mut write).await {
            Ok(ended) => {
                let (file, result) =
                    ended.unwrap_or_else(|lost| (None, Err(io::Error::other(lost))));
                state.open = file;
                result.map_err(failed)
            }
            Err(_elapsed) => {
                state.late = Some((write, hash));
                Err(DeliverError::Unavailable {
                    receiver: format!("write {}", self.config.path.display()),
                    reason: format!(
                        "not done within {} s; does its file system answer, or is the pipe read?",
                        self.timeout.as_secs()
                    ),
                })
            }
        }
    }
}

#[async_trait]
impl Sink for FileSink {
    /// Appends the batch, on a thread that may block. While an earlier write has not ended, no other one
    /// begins: at most one thread waits for the file.
    async fn send(&self, batch: &Batch) -> Result<SendOutcome, DeliverError> {
        let mut state = self.state.lock().await;
        let (sync, now) = (batch.kind == ItemKind::Alerts, self.clock.now());
        let lines = Append { text: batch.lines(), sync, now };
        let hash = XxHash3_64::oneshot(lines.text.as_bytes());
        if let Some((write, written)) = state.late.take() {
            self.finish(&mut state, write, written).await?;
            // The same batch again, which is written by now.
            if written == hash {
                return Ok(SendOutcome::default());
            }
        }
        let open = state.open.take();
        let (config, stats) = (Arc::clone(&self.config), Arc::clone(&self.stats));
        let write = tokio::task::spawn_blocking(move || append(&config, &stats, open, &lines));
        self.finish(&mut state, write, hash).await?;
        Ok(SendOutcome::default())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use jiff::Timestamp;

    use super::*;
    use crate::base::clock::{FixedClock, SystemClock};
    use crate::deliver::batch::BatchItem;
    use crate::deliver::item::Item;
    use crate::schema::agent_event::{AgentEvent, Loss};

    /// One line of ten bytes with its end.
    fn batch(number: u32) -> Batch {
        let time = Timestamp::UNIX_EPOCH;
        let event = AgentEvent::Loss(Loss {
            time_generated: time,
            computer: String::new(),
            agent_id: String::new(),
            first_seen: time,
            last_seen: time,
            reason: String::new(),
            kind: String::new(),
            count: 1,
        });
        let item = Item::AgentEvent(Arc::new(event));
        Batch::new(ItemKind::Alerts, vec![BatchItem::new(item, 0, format!("line {number:04}"))])
    }

    fn system_clock() -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    fn sink(config: &FileConfig) -> (FileSink, Arc<Stats>) {
        let stats = Arc::new(Stats::default());
        (FileSink::new(config, &stats, &system_clock()), stats)
    }

    fn read(config: &FileConfig, number: u32) -> String {
        let path = if number == 0 { config.path.clone() } else { config.rotated(number) };
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_file_is_rotated_before_it_is_too_large() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let config = FileConfig { max_bytes: Some(25), keep: 2, ..FileConfig::new(path) };
        let (sink, stats) = sink(&config);
        for number in 0..7 {
            sink.send(&batch(number)).await.unwrap();
        }
        assert_eq!(read(&config, 0), "line 0006\n");
        assert_eq!(read(&config, 1), "line 0004\nline 0005\n");
        assert_eq!(read(&config, 2), "line 0002\nline 0003\n");
        assert_eq!(read(&config, 3), "");
        assert_eq!((stats.files_rotated.value(), stats.rotated_files_deleted.value()), (3, 1));
        // Another sink continues the file.
        drop(sink);
        let (next, _) = self::sink(&config);
        next.send(&batch(7)).await.unwrap();
        assert_eq!(read(&config, 0), "line 0006\nline 0007\n");
    }

    #[tokio::test]
    async fn a_line_longer_than_the_limit_has_its_own_file() {
        let folder = tempfile::tempdir().unwrap();
        let config =
            FileConfig { max_bytes: Some(5), ..FileConfig::new(folder.path().join("lines")) };
        let (sink, _) = sink(&config);
        for number in 0..2 {
            sink.send(&batch(number)).await.unwrap();
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
        sink.send(&batch(0)).await.unwrap();
        sink.send(&batch(1)).await.unwrap();
        assert_eq!(stats.files_rotated.value(), 0);
        sink.clock = Arc::new(FixedClock(SystemClock.now() + 2 * hour));
        sink.send(&batch(2)).await.unwrap();
        assert_eq!(read(&config, 1), "line 0000\nline 0001\n");
        assert_eq!((read(&config, 0), stats.files_rotated.value()), ("line 0002\n".into(), 1));
    }

    #[tokio::test]
    async fn a_write_that_does_not_end_is_an_error_and_continues_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (mut sink, _) = sink(&FileConfig::new(path.clone()));
        sink.timeout = Duration::from_millis(200);
        // More than the pipe takes, and nobody reads it.
        let large = |letter: &str| {
            let item = batch(0).items.remove(0).item;
            Batch::new(ItemKind::Alerts, vec![BatchItem::new(item, 0, letter.repeat(1 << 17))])
        };
        let mut errors = Vec::new();
        for _ in 0..2 {
            errors.extend(sink.send(&large("a")).await.err().map(|error| error.to_string()));
        }
        let mut pipe = std::fs::File::open(&path).unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = vec![0; (1 << 17) + 1 + 10];
            pipe.read_exact(&mut text).unwrap();
            String::from_utf8(text).unwrap()
        });
        sink.timeout = Duration::from_secs(30);
        // The write that waited is this batch: it is there once.
        sink.send(&large("a")).await.unwrap();
        sink.send(&batch(1)).await.unwrap();
        // Only now: a failed assertion waits for the writing thread.
        assert_eq!(reader.join().unwrap(), "a".repeat(1 << 17) + "\nline 0001\n");
        assert_eq!(errors.len(), 2);
        assert!(errors.iter().all(|it| it.contains("not done within 0 s; does")), "{errors:?}");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_rotated_waits_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let config = FileConfig { max_bytes: Some(10), keep: 1, ..FileConfig::new(path) };
        let (sink, stats) = sink(&config);
        sink.send(&batch(0)).await.unwrap();
        // A rename cannot replace a directory.
        std::fs::create_dir(config.rotated(1)).unwrap();
        let error = sink.send(&batch(1)).await.unwrap_err().to_string();
        assert!(error.contains("lines"), "{error}");
        assert_eq!((read(&config, 0), stats.files_rotated.value()), ("line 0000\n".into(), 0));
        std::fs::remove_dir(config.rotated(1)).unwrap();
        sink.send(&batch(1)).await.unwrap();
        assert_eq!(
            (read(&config, 0), read(&config, 1)),
            ("line 0001\n".into(), "line 0000\n".into())
        );
    }
}
