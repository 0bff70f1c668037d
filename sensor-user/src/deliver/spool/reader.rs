//! Reader: the position of one sink. Alerts that are not in memory are read from disk, on a thread
//! that may block.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::frame::{HEADER, StoredCommit, read_commits};
use super::segment::Segment;
use super::shared::SpoolShared;
use super::{BatchLimit, StoredAlert};
use crate::base::framing::FrameStep;

/// Time before a segment that cannot be read is read again.
const RETRY: Duration = Duration::from_secs(1);
/// Attempts before a segment is skipped.
const ATTEMPTS: u32 = 3;

/// Reader of one sink, as [`super::Spool::reader`] returns it.
#[derive(Debug)]
pub struct SpoolReader {
    shared: Arc<SpoolShared>,
    /// Index of the sink's cursor.
    sink: usize,
    position: ReadPosition,
    readable: watch::Receiver<u64>,
    failures: u32,
}

/// Position of a reader.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadPosition {
    /// Number of the next alert.
    pub(super) next: u64,
    /// Frame to continue at, if known.
    frame: Option<FramePosition>,
}

#[derive(Debug, Clone, Copy)]
struct FramePosition {
    generation: u64,
    offset: u64,
}

impl From<u64> for ReadPosition {
    fn from(next: u64) -> Self {
        Self { next, frame: None }
    }
}

impl SpoolReader {
    pub(super) fn new(shared: Arc<SpoolShared>, sink: usize, next: u64) -> Self {
        let readable = shared.readable.subscribe();
        Self { shared, sink, position: next.into(), readable, failures: 0 }
    }

    /// Returns the next alerts; waits until there is one. Dropping the future loses no alert.
    pub async fn next_batch(&mut self, limit: BatchLimit) -> Vec<StoredAlert> {
        loop {
            let next = self.position.next;
            // The sender is in `shared`, so it is not closed.
            let _not_closed = self.readable.wait_for(|end| *end > next).await.is_ok();
            let batch = match read_memory(&self.shared, next, limit) {
                Some(batch) => Ok(batch),
                None => self.read_disk(limit).await,
            };
            match batch {
                Ok(ReadBatch { alerts, position }) => {
                    self.position = ReadPosition { next: position.next.max(next), ..position };
                    self.failures = 0;
                    if !alerts.is_empty() {
                        return alerts;
                    }
                }
                Err(error) => self.failed(&error).await,
            }
        }
    }

    /// True if `next_batch` returns at once.
    pub fn has_more(&self) -> bool {
        *self.readable.borrow() > self.position.next
    }

    /// Acknowledges all alerts before the number `sequence`: they are delivered, or dead-lettered.
    /// The thread saves the cursor, and removes segments before all cursors.
    pub fn acknowledge(&self, sequence: u64) {
        {
            let mut index = self.shared.index();
            let Some(cursor) = index.cursors.get_mut(self.sink) else { return };
            if cursor.next >= sequence {
                return;
            }
            cursor.next = sequence;
            cursor.is_dirty = true;
            // The thread removes the alerts that are not on disk.
            let until = index.acknowledged().min(index.durable);
            index.tail.remove_before(until);
        }
        self.shared.notify(|queue| queue.has_cursors = true);
    }

    /// Number of alerts that are not acknowledged.
    pub fn pending(&self) -> u64 {
        let index = self.shared.index();
        index.cursors.get(self.sink).map_or(0, |cursor| index.pending(cursor.next))
    }

    async fn read_disk(&self, limit: BatchLimit) -> io::Result<ReadBatch> {
        let (shared, position) = (Arc::clone(&self.shared), self.position);
        let task = tokio::task::spawn_blocking(move || read_disk(&shared, position, limit));
        task.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
    }

    /// Waits after a failed read; skips the segment after the last attempt.
    async fn failed(&mut self, error: &io::Error) {
        self.failures += 1;
        tracing::error!(attempts = self.failures, %error, "spool cannot be read");
        if self.failures < ATTEMPTS {
            return tokio::time::sleep(RETRY).await;
        }
        self.failures = 0;
        self.position.frame = None;
        let segment = self.shared.index().segment_at(self.position.next).cloned();
        if let Some(segment) = segment {
            let lost = segment.alerts_from(self.position.next);
            self.shared.stats.spool_alerts_lost_corrupt.add(lost);
            self.position.next = segment.end;
        }
    }
}

/// Alerts that were read, and the position after them.
#[derive(Debug)]
pub(super) struct ReadBatch {
    pub(super) alerts: Vec<StoredAlert>,
    pub(super) position: ReadPosition,
}

/// Reads alerts in memory from the number `next` on; `None` if they are on disk only.
pub(super) fn read_memory(shared: &SpoolShared, next: u64, limit: BatchLimit) -> Option<ReadBatch> {
    let index = shared.index();
    if next < index.durable && index.tail.first().is_none_or(|first| first > next) {
        return None;
    }
    let alerts = index.tail.read(next, limit);
    // If there are none, all alerts were acknowledged and removed.
    let end = alerts.last().map_or(index.readable, |last| last.sequence + 1);
    Some(ReadBatch { alerts, position: end.into() })
}

/// Reads alerts on disk from `position` on. Segments without any are skipped.
pub(super) fn read_disk(
    shared: &SpoolShared,
    mut position: ReadPosition,
    limit: BatchLimit,
) -> io::Result<ReadBatch> {
    loop {
        let segment = {
            let index = shared.index();
            let Some(segment) = index.segment_at(position.next) else {
                let end = position.next.max(index.durable);
                return Ok(ReadBatch { alerts: Vec::new(), position: end.into() });
            };
            segment.clone()
        };
        let batch = ReadBatch { alerts: Vec::new(), position };
        let mut read = SegmentRead { shared, segment: &segment, limit, batch };
        match read.run() {
            Ok(true) => return Ok(read.batch),
            Ok(false) => {
                let ReadBatch { alerts, position: end } = read.batch;
                // Alerts that the numbers promise and the segment does not have.
                let lost = segment.alerts_from(end.next);
                if lost > 0 {
                    shared.stats.spool_alerts_lost_corrupt.add(lost);
                    let path = shared.storage.path(&segment.name);
                    tracing::error!(path = %path.display(), lost, "alerts in the spool cannot be read");
                }
                position = segment.end.into();
                if !alerts.is_empty() {
                    return Ok(ReadBatch { alerts, position });
                }
            }
            Err(error) => {
                // Evicted meanwhile, unless the index still has it.
                let current = shared.index().segment_at(position.next).map(|it| it.generation);
                if error.kind() != io::ErrorKind::NotFound || current == Some(segment.generation) {
                    return Err(error);
                }
                position.frame = None;
            }
        }
    }
}

/// Read of one segment.
struct SegmentRead<'s> {
    shared: &'s SpoolShared,
    segment: &'s Segment,
    /// Remaining limit.
    limit: BatchLimit,
    batch: ReadBatch,
}

impl SegmentRead<'_> {
    /// Reads until the limit, then returns true; or to the end of the segment.
    fn run(&mut self) -> io::Result<bool> {
        let Segment { name, generation, bytes, ordinal, .. } = self.segment;
        let frame = self.batch.position.frame.filter(|frame| frame.generation == *generation);
        let start = frame.map_or(HEADER, |frame| frame.offset);
        let mut commits = read_commits(&*self.shared.storage, name, start..*bytes, *ordinal);
        loop {
            match commits.next_step()? {
                FrameStep::End | FrameStep::Zeros(_) => return Ok(false),
                FrameStep::Damage(_) => {}
                FrameStep::Frame(offset, commit) => {
                    if self.add(&commit) {
                        let generation = *generation;
                        self.batch.position.frame = Some(FramePosition { generation, offset });
                        return Ok(true);
                    }
                    if self.batch.position.next >= self.segment.end {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Adds the alerts of a commit; returns true if the limit is reached.
    fn add(&mut self, commit: &StoredCommit<'_>) -> bool {
        if commit.end() <= self.batch.position.next {
            return false;
        }
        for (sequence, line) in commit.lines() {
            if sequence < self.batch.position.next {
                continue;
            }
            if sequence >= self.segment.end {
                return false;
            }
            let ReadBatch { alerts, position } = &mut self.batch;
            let is_full = alerts.len() >= self.limit.alerts || line.len() > self.limit.bytes;
            if is_full && !alerts.is_empty() {
                return true;
            }
            self.limit.bytes = self.limit.bytes.saturating_sub(line.len());
            position.next = sequence + 1;
            match serde_json::from_slice(line) {
                Ok(alert) => {
                    alerts.push(StoredAlert {
                        sequence,
                        alert: Arc::new(alert),
                        bytes: line.len(),
                    });
                }
                Err(error) => {
                    self.shared.stats.spool_alerts_lost_corrupt.increment();
                    let path = self.shared.storage.path(&self.segment.name);
                    let path = path.display();
                    tracing::error!(%path, sequence, %error, "alert in the spool cannot be parsed");
                }
            }
        }
        false
    }
}
