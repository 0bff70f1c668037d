//! SocketScanner at what is open: when, and by a helper (`looker`) that a thread of its own asks, so that the
//! path never waits for netlink or for /proc. One look is under way at most; its answer is handed
//! over as a whole.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::base::clock::signed;
use crate::base::counters::Stats;
use crate::pipeline::aggregate::ScanKind;
use crate::pipeline::capture::{OpenSocket, OpenSockets};
use crate::pipeline::enrich::SocketOwners;
use crate::privsep::WorkerClient;

/// A look begins this long before a multiple of the interval: what it tells is then of the minute
/// that ends, also when the path was asleep as it fell due.
const LEAD: SignedDuration = SignedDuration::from_secs(1);

/// A look whose helper ends under way is asked for again after this time, so often at most.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const TRIES: u32 = 10;

/// What is asked of the worker, and how many sockets it may take.
pub(crate) type Question = (usize, Ask);
/// What it answers, and what it counted.
pub(crate) type Told = (Answer, Vec<u64>);

/// What is asked of the thread.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// All that is open, with its holders.
    First,
    /// What is open in these namespaces (`None`: in all).
    Again(Option<HashSet<u32>>),
    /// The holders of these sockets, seen by a look that began at that time (ns since boot).
    Unknown(Vec<OpenSocket>, u64),
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) kind: ScanKind,
    pub(crate) open: OpenSockets,
    pub(crate) holders: SocketOwners,
}

/// Settings of socket scans.
#[derive(Debug, Clone, Copy)]
pub struct SocketScanConfig {
    /// Maximum number of sockets in a scan.
    pub sockets_max: usize,
    /// Interval between scans.
    pub interval: Duration,
}

/// Schedule of the socket scans, and the thread that waits for the worker.
#[derive(Debug)]
pub(crate) struct SocketScanner {
    asks: SyncSender<Ask>,
    answers: Receiver<Answer>,
    /// Until it is started.
    thread: Option<Waiter>,
    every: SignedDuration,
    due: Timestamp,
    under_way: bool,
    stats: Arc<Stats>,
}

impl SocketScanner {
    /// What is asked waits until [`Self::begin`].
    pub(crate) fn new(
        config: SocketScanConfig,
        now: Timestamp,
        worker: Arc<WorkerClient>,
        stats: &Arc<Stats>,
    ) -> Self {
        let (asks, asked) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let (max, of_thread) = (config.sockets_max, Arc::clone(stats));
        let thread = Some(Waiter { asked, answer, worker, max, stats: of_thread });
        let every = signed(config.interval);
        let due = next_due(now, every);
        let stats = Arc::clone(stats);
        Self { asks, answers, thread, every, due, under_way: false, stats }
    }

    /// Starts the thread.
    pub(crate) fn begin(&mut self) -> std::io::Result<()> {
        let Some(waiter) = self.thread.take() else { return Ok(()) };
        let thread = std::thread::Builder::new().name("looks".to_owned());
        thread.spawn(move || waiter.run()).map(drop)
    }

    /// Whether a look is due at `now`; the next one is scheduled then.
    pub(crate) fn is_due(&mut self, now: Timestamp) -> bool {
        // A clock that was set back must not end the looks.
        let far = self.due.duration_since(now) > self.every.saturating_add(LEAD);
        if now < self.due && !far {
            return false;
        }
        self.due = next_due(now, self.every);
        if self.under_way {
            self.stats.socket_scans_skipped_busy.increment();
        }
        !self.under_way
    }

    /// Asks the thread, which must not be busy.
    pub(crate) fn ask(&mut self, ask: Ask) {
        self.under_way = self.asks.try_send(ask).is_ok();
    }

    /// The answer, once it is there.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        match self.answers.try_recv() {
            Ok(answer) => {
                self.under_way = false;
                Some(answer)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                if std::mem::replace(&mut self.under_way, false) {
                    tracing::error!("the thread that looks at open sockets ended; please report");
                }
                None
            }
        }
    }
}

/// The thread: waits for the helper.
#[derive(Debug)]
struct Waiter {
    asked: Receiver<Ask>,
    answer: SyncSender<Answer>,
    worker: Arc<WorkerClient>,
    max: usize,
    stats: Arc<Stats>,
}

impl Waiter {
    fn run(self) {
        while let Ok(ask) = self.asked.recv() {
            if self.answer.send(self.look(ask)).is_err() {
                return;
            }
        }
    }

    fn look(&self, ask: Ask) -> Answer {
        let kind = ask.kind();
        let question: Question = (self.max, ask);
        for _try in 0..TRIES {
            match self.worker.request::<_, Told>(&question) {
                Ok((answer, counted)) => {
                    self.stats.add_all(&counted);
                    return Answer { open: answer.open.received(), ..answer };
                }
                Err(error) => tracing::debug!(%error, "worker socket-scan"),
            }
            std::thread::park_timeout(AGAIN_AFTER);
        }
        self.stats.socket_scans_failed.increment();
        // Nothing is known of any namespace: it changes nothing.
        Answer { kind, open: OpenSockets::default(), holders: SocketOwners::default() }
    }
}

impl Ask {
    const fn kind(&self) -> ScanKind {
        match self {
            Self::First => ScanKind::First,
            Self::Again(_) => ScanKind::Again,
            Self::Unknown(..) => ScanKind::Unknown,
        }
    }
}

/// The next time that is `LEAD` before a multiple of `every` since 1970.
fn next_due(now: Timestamp, every: SignedDuration) -> Timestamp {
    let every_ns = every.as_nanos().max(1);
    let lead_ns = LEAD.as_nanos();
    let next = (now.as_nanosecond() + lead_ns).div_euclid(every_ns) + 1;
    Timestamp::from_nanosecond(next * every_ns - lead_ns).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_fall_due_shortly_before_the_minute_ends() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let minute = SignedDuration::from_secs(60);
        for (now, due) in [(0, 59), (58, 59), (59, 119), (60, 119), (119, 179)] {
            assert_eq!(next_due(at(now), minute), at(due), "{now}");
        }
        assert_eq!(next_due(at(10), SignedDuration::from_secs(1)), at(11));
    }
}
