//! `Stream`: changes and agent events as JSON lines, for readers of the control socket.
//!
//! Invariants. There are at most `READERS_MAX` readers, each with at most `LINES_MAX` pending lines. A
//! line that does not fit is lost for that reader, counted, and reported to it at that position of the
//! stream. Without readers nothing is serialized.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::base::counters::Stats;
use crate::pipeline::aggregate::Change;
use crate::pipeline::aggregate::RecordedChange;
use crate::schema::agent_event::{AgentEvent, AgentIdentity, Loss};

/// Limit of connected readers.
pub const READERS_MAX: usize = 8;
/// Limit of the pending lines of a reader.
const LINES_MAX: usize = 1024;

/// Output of the pipeline to all readers. Cheap to clone; no call waits.
#[derive(Debug, Clone)]
pub struct Stream {
    shared: Arc<StreamState>,
}

#[derive(Debug)]
struct StreamState {
    identity: AgentIdentity,
    /// Number of `readers`, read without the lock.
    count: AtomicUsize,
    readers: Mutex<Vec<StreamReader>>,
    stats: Arc<Stats>,
}

#[derive(Debug)]
struct StreamReader {
    lines: mpsc::Sender<Arc<str>>,
    /// Lines lost since the last report to the reader.
    lost: Option<LostLines>,
}

#[derive(Debug, Clone, Copy)]
struct LostLines {
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Stream {
    /// A stream without readers.
    pub fn new(identity: AgentIdentity, stats: Arc<Stats>) -> Self {
        let (count, readers) = (AtomicUsize::new(0), Mutex::default());
        Self { shared: Arc::new(StreamState { identity, count, readers, stats }) }
    }

    /// Sends a change to all readers.
    pub fn send_change(&self, change: &Change, now: Timestamp) {
        if self.has_readers() {
            self.send(&RecordedChange::from(change), now);
        }
    }

    /// Sends an agent event to all readers.
    pub fn send_event(&self, event: &AgentEvent, now: Timestamp) {
        if self.has_readers() {
            self.send(event, now);
        }
    }

    /// Reports lost lines to readers that have room again, and removes disconnected readers.
    pub fn tick(&self) {
        if self.has_readers() {
            self.retain_readers(StreamReader::report_lost);
        }
    }

    /// Adds a reader and returns its lines; `None` if there are too many readers.
    pub(super) fn join(&self) -> Option<mpsc::Receiver<Arc<str>>> {
        let mut readers = self.readers();
        readers.retain(|reader| !reader.lines.is_closed());
        let (lines, lines_out) = mpsc::channel(LINES_MAX);
        let joined = readers.len() < READERS_MAX;
        if joined {
            readers.push(StreamReader { lines, lost: None });
        }
        self.shared.count.store(readers.len(), Ordering::Release);
        joined.then_some(lines_out)
    }

    fn has_readers(&self) -> bool {
        self.shared.count.load(Ordering::Acquire) > 0
    }

    fn send(&self, item: &impl Serialize, now: Timestamp) {
        let Ok(mut line) = serde_json::to_string(item) else { return };
        line.push('\n');
        let line: Arc<str> = line.into();
        self.retain_readers(|reader, shared| reader.send(&line, shared, now));
    }

    /// Calls `call` for each reader, and removes those for which it returns false: they have
    /// disconnected.
    fn retain_readers(&self, call: impl Fn(&mut StreamReader, &StreamState) -> bool) {
        let mut readers = self.readers();
        readers.retain_mut(|reader| call(reader, &self.shared));
        self.shared.count.store(readers.len(), Ordering::Release);
    }

    fn readers(&self) -> std::sync::MutexGuard<'_, Vec<StreamReader>> {
        self.shared.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamReader {
    fn send(&mut self, line: &Arc<str>, shared: &StreamState, now: Timestamp) -> bool {
        if !self.report_lost(shared) {
            return false;
        }
        if self.lost.is_none() {
            match self.lines.try_send(Arc::clone(line)) {
                Ok(()) => return true,
                Err(TrySendError::Closed(_)) => return false,
                Err(TrySendError::Full(_)) => {}
            }
        }
        shared.stats.stream_lines_dropped_reader_slow.increment();
        let lost = self.lost.get_or_insert(LostLines { count: 0, first: now, last: now });
        (lost.count, lost.last) = (lost.count + 1, now);
        true
    }

    /// Reports lost lines at their position of the stream. Until the report fits, all further lines
    /// are lost too. Returns false if the reader has disconnected.
    fn report_lost(&mut self, shared: &StreamState) -> bool {
        let Some(LostLines { count, first: first_seen, last: last_seen }) = self.lost else {
            return !self.lines.is_closed();
        };
        let event = AgentEvent::Loss(Loss {
            time_generated: last_seen,
            computer: shared.identity.computer.clone(),
            agent_id: shared.identity.agent_id.clone(),
            first_seen,
            last_seen,
            reason: "reader_slow".to_owned(),
            kind: "stream".to_owned(),
            count,
        });
        let Ok(line) = serde_json::to_string(&event) else { return true };
        match self.lines.try_send(format!("{line}\n").into()) {
            Ok(()) => {
                self.lost = None;
                true
            }
            Err(error) => matches!(error, TrySendError::Full(_)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::agent_event::HealthChange;
    use crate::schema::health::HealthState;

    fn event(component: usize) -> AgentEvent {
        AgentEvent::Health(HealthChange {
            time_generated: Timestamp::UNIX_EPOCH,
            computer: String::new(),
            agent_id: String::new(),
            component: component.to_string(),
            state: HealthState::Ok,
            reason: String::new(),
            agent_state: HealthState::Ok,
        })
    }

    fn at(second: usize) -> Timestamp {
        Timestamp::from_second(i64::try_from(second).unwrap()).unwrap()
    }

    /// Reads up to `max` lines: components of health changes, and counts of losses.
    fn read(lines: &mut mpsc::Receiver<Arc<str>>, max: usize) -> Vec<(String, u64)> {
        let mut read = Vec::new();
        while read.len() < max {
            let Ok(line) = lines.try_recv() else { break };
            assert!(line.ends_with("}\n"), "{line}");
            read.push(match serde_json::from_str(&line).unwrap() {
                AgentEvent::Health(change) => (change.component, 0),
                AgentEvent::Loss(loss) => (
                    format!("{}-{}", loss.first_seen.as_second(), loss.last_seen.as_second()),
                    loss.count,
                ),
            });
        }
        read
    }

    #[test]
    fn a_slow_reader_receives_its_losses_at_their_position() {
        let stats = Arc::new(Stats::default());
        let stream = Stream::new(AgentIdentity::default(), Arc::clone(&stats));
        stream.send_event(&event(0), at(0));
        let (mut slow, mut quick) = (stream.join().unwrap(), stream.join().unwrap());
        for number in 0..LINES_MAX + 5 {
            stream.send_event(&event(number), at(number));
            assert_eq!(read(&mut quick, 9), [(number.to_string(), 0)]);
        }
        assert_eq!(stats.stream_lines_dropped_reader_slow.value(), 5);
        assert_eq!(read(&mut slow, 1), [("0".to_owned(), 0)]);
        // Room for one line: the report takes it, and the next line is lost again.
        stream.send_event(&event(7), at(2000));
        assert_eq!(read(&mut slow, LINES_MAX).len(), LINES_MAX);
        stream.tick();
        let lost = |first: usize, last: usize, count| (format!("{first}-{last}"), count);
        assert_eq!(read(&mut slow, 9), [lost(2000, 2000, 1)]);
        stream.send_event(&event(8), at(2001));
        assert_eq!(read(&mut slow, 9), [("8".to_owned(), 0)]);
        assert_eq!(stats.stream_lines_dropped_reader_slow.value(), 6);
    }

    #[test]
    fn readers_are_limited_and_free_their_slot_when_they_disconnect() {
        let stream = Stream::new(AgentIdentity::default(), Arc::default());
        let mut readers: Vec<_> = (0..READERS_MAX).map(|_| stream.join().unwrap()).collect();
        assert!(stream.join().is_none());
        readers.pop();
        let again = stream.join();
        assert!(again.is_some());
        drop((readers, again));
        stream.tick();
        assert!(!stream.has_readers());
    }
}
