//! `Stream`: what changes, a JSON line each, to whoever reads along.
//!
//! Invariants. At most `READERS_MAX` readers, each with at most `LINES_MAX` lines that wait; what
//! does not fit is lost for that reader, counted, and told to it in its place. Nothing is put into
//! words while nobody reads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::base::counters::Stats;
use crate::pipeline::aggregate::Change;
use crate::pipeline::aggregate::recorded::RecordedChange;
use crate::schema::agent_event::{AgentEvent, AgentIdentity, Loss};

/// Readers at once at most.
pub const READERS_MAX: usize = 8;
/// Lines that wait for one reader at most.
const LINES_MAX: usize = 1024;

/// Where the pipeline puts what changes. Cheap to clone; no call waits.
#[derive(Debug, Clone)]
pub struct Stream {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    identity: AgentIdentity,
    /// How many `readers` are: looked at without the lock.
    count: AtomicUsize,
    readers: Mutex<Vec<Reader>>,
    stats: Arc<Stats>,
}

#[derive(Debug)]
struct Reader {
    lines: mpsc::Sender<Arc<str>>,
    /// Lines lost since it was told, and from when to when.
    lost: Option<(u64, Timestamp, Timestamp)>,
}

impl Stream {
    /// Nobody reads yet.
    pub fn new(identity: AgentIdentity, stats: Arc<Stats>) -> Self {
        let (count, readers) = (AtomicUsize::new(0), Mutex::default());
        Self { shared: Arc::new(Shared { identity, count, readers, stats }) }
    }

    /// Tells all readers of a change.
    pub fn change(&self, change: &Change, now: Timestamp) {
        if self.is_read() {
            self.put(&RecordedChange::from(change), now);
        }
    }

    /// Tells all readers what the agent says of itself.
    pub fn notice(&self, notice: &AgentEvent, now: Timestamp) {
        if self.is_read() {
            self.put(notice, now);
        }
    }

    /// Tells readers that have room again what they lost, and forgets those that have gone.
    pub fn tick(&self) {
        if self.is_read() {
            self.each(Reader::catch_up);
        }
    }

    /// One more reader's lines; `None` when there are too many.
    pub(super) fn join(&self) -> Option<mpsc::Receiver<Arc<str>>> {
        let mut readers = self.readers();
        readers.retain(|reader| !reader.lines.is_closed());
        let (lines, lines_out) = mpsc::channel(LINES_MAX);
        let joined = readers.len() < READERS_MAX;
        if joined {
            readers.push(Reader { lines, lost: None });
        }
        self.shared.count.store(readers.len(), Ordering::Release);
        joined.then_some(lines_out)
    }

    fn is_read(&self) -> bool {
        self.shared.count.load(Ordering::Acquire) > 0
    }

    fn put(&self, item: &impl Serialize, now: Timestamp) {
        let Ok(mut line) = serde_json::to_string(item) else { return };
        line.push('\n');
        let line: Arc<str> = line.into();
        self.each(|reader, shared| reader.put(&line, shared, now));
    }

    /// `call` says whether a reader is still there.
    fn each(&self, call: impl Fn(&mut Reader, &Shared) -> bool) {
        let mut readers = self.readers();
        readers.retain_mut(|reader| call(reader, &self.shared));
        self.shared.count.store(readers.len(), Ordering::Release);
    }

    fn readers(&self) -> std::sync::MutexGuard<'_, Vec<Reader>> {
        self.shared.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    fn put(&mut self, line: &Arc<str>, shared: &Shared, now: Timestamp) -> bool {
        if !self.catch_up(shared) {
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
        let (count, first) = self.lost.map_or((0, now), |(count, first, _)| (count, first));
        self.lost = Some((count + 1, first, now));
        true
    }

    /// Tells what was lost, in its place; what comes is lost too until there is room for that.
    fn catch_up(&mut self, shared: &Shared) -> bool {
        let Some((count, first_seen, last_seen)) = self.lost else {
            return !self.lines.is_closed();
        };
        let notice = AgentEvent::Loss(Loss {
            time_generated: last_seen,
            computer: shared.identity.computer.clone(),
            agent_id: shared.identity.agent_id.clone(),
            first_seen,
            last_seen,
            reason: "reader_slow".to_owned(),
            kind: "stream".to_owned(),
            count,
        });
        let Ok(line) = serde_json::to_string(&notice) else { return true };
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
    use crate::schema::health::State;

    fn notice(component: usize) -> AgentEvent {
        AgentEvent::Health(HealthChange {
            time_generated: Timestamp::UNIX_EPOCH,
            computer: String::new(),
            agent_id: String::new(),
            component: component.to_string(),
            state: State::Ok,
            reason: String::new(),
            agent_state: State::Ok,
        })
    }

    fn at(second: usize) -> Timestamp {
        Timestamp::from_second(i64::try_from(second).unwrap()).unwrap()
    }

    /// Components of notices, and counts of losses.
    fn read(lines: &mut mpsc::Receiver<Arc<str>>, most: usize) -> Vec<(String, u64)> {
        let mut read = Vec::new();
        while read.len() < most {
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
    fn a_slow_reader_is_told_what_it_lost_where_it_lost_it() {
        let stats = Arc::new(Stats::default());
        let stream = Stream::new(AgentIdentity::default(), Arc::clone(&stats));
        stream.notice(&notice(0), at(0));
        let (mut slow, mut quick) = (stream.join().unwrap(), stream.join().unwrap());
        for number in 0..LINES_MAX + 5 {
            stream.notice(&notice(number), at(number));
            assert_eq!(read(&mut quick, 9), [(number.to_string(), 0)]);
        }
        assert_eq!(stats.stream_lines_dropped_reader_slow.value(), 5);
        assert_eq!(read(&mut slow, 1), [("0".to_owned(), 0)]);
        // Room for one: what was lost goes there, and the next line is lost again.
        stream.notice(&notice(7), at(2000));
        assert_eq!(read(&mut slow, LINES_MAX).len(), LINES_MAX);
        stream.tick();
        let lost = |first: usize, last: usize, count| (format!("{first}-{last}"), count);
        assert_eq!(read(&mut slow, 9), [lost(2000, 2000, 1)]);
        stream.notice(&notice(8), at(2001));
        assert_eq!(read(&mut slow, 9), [("8".to_owned(), 0)]);
        assert_eq!(stats.stream_lines_dropped_reader_slow.value(), 6);
    }

    #[test]
    fn readers_are_few_and_leave_room_when_they_go() {
        let stream = Stream::new(AgentIdentity::default(), Arc::default());
        let mut readers: Vec<_> = (0..READERS_MAX).map(|_| stream.join().unwrap()).collect();
        assert!(stream.join().is_none());
        readers.pop();
        let again = stream.join();
        assert!(again.is_some());
        drop((readers, again));
        stream.tick();
        assert!(!stream.is_read());
    }
}
