//! Reader: one sink's place in the spool. What memory has no more is read from disk, on a thread
//! that may block.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Stored;
use super::frame::{Frame, HEADER};
use super::scan::{Scan, Step};
use super::segment::Segment;
use super::shared::Shared;

/// How long is waited before a segment that cannot be read is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often it is.
const TRIES: u32 = 3;

/// One sink's place in the spool.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    /// Which sink.
    sink: usize,
    /// Number of the next alert to give.
    at: u64,
    /// Where to go on reading.
    place: Option<Place>,
    readable: watch::Receiver<u64>,
    failures: u32,
}

/// Where in a segment a frame begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    generation: u64,
    offset: u64,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, sink: usize, at: u64) -> Self {
        let readable = shared.readable.subscribe();
        Self { shared, sink, at, place: None, readable, failures: 0 }
    }

    /// Up to `most` alerts, and about `most_bytes` of their JSON, behind those that were given
    /// before; waits until there is one. May be dropped while it waits: nothing is lost.
    pub async fn next(&mut self, most: usize, most_bytes: usize) -> Vec<Stored> {
        loop {
            let at = self.at;
            // The sending end is in `shared`.
            let _news = self.readable.wait_for(|end| *end > at).await.is_ok();
            let stored = match from_memory(&self.shared, self.at, most, most_bytes) {
                Some(fetched) => self.take(fetched),
                None => self.read_disk(most, most_bytes).await,
            };
            if !stored.is_empty() {
                return stored;
            }
        }
    }

    /// Whether `next` gives something at once.
    pub fn has_more(&self) -> bool {
        *self.readable.borrow() > self.at
    }

    /// All alerts before the number `sequence` are settled: delivered, or set aside. The spool's
    /// thread writes it down; a segment behind all cursors goes.
    pub fn settle(&self, sequence: u64) {
        {
            let mut index = self.shared.index();
            let Some(cursor) = index.cursors.get_mut(self.sink) else { return };
            if cursor.next >= sequence {
                return;
            }
            cursor.next = sequence;
            cursor.is_dirty = true;
            let (settled, durable) = (index.settled(), index.durable);
            // What is not on disk is the thread's to forget.
            index.tail.forget_before(settled.min(durable));
        }
        self.nudge();
    }

    /// Alerts that are not settled.
    pub fn waiting(&self) -> u64 {
        let index = self.shared.index();
        index.cursors.get(self.sink).map_or(0, |cursor| index.waiting(cursor.next))
    }

    fn nudge(&self) {
        self.shared.queue().is_nudged = true;
        self.shared.work.notify_all();
    }

    fn take(&mut self, fetched: Fetched) -> Vec<Stored> {
        self.at = self.at.max(fetched.at);
        self.place = fetched.place;
        self.failures = 0;
        fetched.stored
    }

    async fn read_disk(&mut self, most: usize, most_bytes: usize) -> Vec<Stored> {
        let (shared, at, place) = (Arc::clone(&self.shared), self.at, self.place);
        let task = move || from_disk(&shared, at, place, (most, most_bytes));
        let error = match tokio::task::spawn_blocking(task).await {
            Ok(Ok(fetched)) => return self.take(fetched),
            Ok(Err(error)) => error,
            Err(lost) => io::Error::other(lost),
        };
        self.failures += 1;
        tracing::error!(tries = self.failures, %error, "read the spool");
        if self.failures < TRIES {
            tokio::time::sleep(RETRY).await;
        } else {
            self.skip_segment();
        }
        Vec::new()
    }

    /// Goes on behind a segment that cannot be read.
    fn skip_segment(&mut self) {
        self.failures = 0;
        self.place = None;
        let segment = self.shared.index().segment_at(self.at).cloned();
        if let Some(segment) = segment {
            self.shared.stats.spool_alerts_lost_corrupt.add(segment.alerts_from(self.at));
            self.at = segment.end;
        }
    }
}

/// What was read.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) stored: Vec<Stored>,
    /// Number behind the last that was read.
    pub(super) at: u64,
    pub(super) place: Option<Place>,
}

/// Alerts from `at` on that are in memory; `None` where they are on disk only.
pub(super) fn from_memory(
    shared: &Shared,
    at: u64,
    most: usize,
    most_bytes: usize,
) -> Option<Fetched> {
    let index = shared.index();
    if at < index.durable && index.tail.first().is_none_or(|first| first > at) {
        return None;
    }
    let stored = index.tail.read(at, most, most_bytes);
    // Nothing from here on is kept any more: all of it was settled.
    let at = stored.last().map_or(index.readable, |last| last.sequence + 1);
    Some(Fetched { stored, at, place: None })
}

/// Alerts from `at` on that are on disk. Where there are none in a segment, it is passed.
pub(super) fn from_disk(
    shared: &Shared,
    mut at: u64,
    mut place: Option<Place>,
    (most, most_bytes): (usize, usize),
) -> io::Result<Fetched> {
    loop {
        let segment = {
            let index = shared.index();
            let Some(segment) = index.segment_at(at) else {
                let at = at.max(index.durable);
                return Ok(Fetched { stored: Vec::new(), at, place: None });
            };
            segment.clone()
        };
        let mut batch =
            Batch { shared, segment: &segment, at, most, most_bytes, stored: Vec::new() };
        match batch.read(place) {
            Ok(Some(place)) => {
                let Batch { at, stored, .. } = batch;
                return Ok(Fetched { stored, at, place: Some(place) });
            }
            Ok(None) => {
                let Batch { at: until, stored, .. } = batch;
                // What the numbers tell of and the segment has not is lost.
                let lost = segment.alerts_from(until);
                if lost > 0 {
                    shared.stats.spool_alerts_lost_corrupt.add(lost);
                    let path = shared.storage.path(&segment.name);
                    tracing::error!(path = %path.display(), lost, "alerts in the spool cannot be read");
                }
                (at, place) = (segment.end, None);
                if !stored.is_empty() {
                    return Ok(Fetched { stored, at, place });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Evicted meanwhile, or else somebody has removed it.
                place = None;
                if shared.index().segment_at(at).is_some_and(|it| it.name == segment.name) {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Alerts of one segment.
#[derive(Debug)]
struct Batch<'s> {
    shared: &'s Shared,
    segment: &'s Segment,
    at: u64,
    most: usize,
    most_bytes: usize,
    stored: Vec<Stored>,
}

impl Batch<'_> {
    /// Reads from `place` on; where to go on, or `None` at the segment's end.
    fn read(&mut self, place: Option<Place>) -> io::Result<Option<Place>> {
        let Segment { name, generation, bytes, ordinal, .. } = self.segment;
        let place = place.filter(|place| place.generation == *generation);
        let offset = place.map_or(HEADER, |place| place.offset);
        let mut scan = Scan::new(&*self.shared.storage, name, (offset, *bytes), *ordinal);
        let mut left = self.most_bytes;
        loop {
            match scan.next()? {
                Step::End | Step::Zeros(_) => return Ok(None),
                Step::Damage(_) => {}
                Step::Frame(offset, frame) => {
                    if self.take(&frame, &mut left) {
                        return Ok(Some(Place { generation: *generation, offset }));
                    }
                    if self.at >= self.segment.end {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Takes the alerts of a frame; true when there is no room for more.
    fn take(&mut self, frame: &Frame<'_>, left: &mut usize) -> bool {
        if frame.end() <= self.at {
            return false;
        }
        for (sequence, line) in frame.lines() {
            if sequence < self.at {
                continue;
            }
            if sequence >= self.segment.end {
                return false;
            }
            let is_full = self.stored.len() >= self.most || line.len() > *left;
            if is_full && !self.stored.is_empty() {
                return true;
            }
            *left = left.saturating_sub(line.len());
            self.at = sequence + 1;
            match serde_json::from_slice(line) {
                Ok(alert) => {
                    let (alert, bytes) = (Arc::new(alert), line.len());
                    self.stored.push(Stored { sequence, alert, bytes });
                }
                Err(error) => {
                    self.shared.stats.spool_alerts_lost_corrupt.increment();
                    let path = self.shared.storage.path(&self.segment.name);
                    let path = path.display();
                    tracing::error!(%path, sequence, %error, "an alert in the spool cannot be read");
                }
            }
        }
        false
    }
}
