//! Looks at what is open: when, and on a thread of their own, so that the path never waits for
//! netlink or for /proc. One look is under way at most; its answer is handed over as a whole.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use jiff::{SignedDuration, Timestamp};

use crate::aggregate::Look;
use crate::capture::{OpenSocket, OpenSockets, SocketReader};
use crate::clock::signed;
use crate::config::Config;
use crate::enrich::Holders;
use crate::stats::Stats;

/// A look begins this long before a multiple of the interval: what it tells is then of the minute
/// that ends, also when the path was asleep as it fell due.
const LEAD: SignedDuration = SignedDuration::from_secs(1);

/// What is asked of the thread.
#[derive(Debug)]
pub(super) enum Ask {
    /// All that is open, with its holders.
    First,
    /// What is open in these namespaces (`None`: in all).
    Again(Option<HashSet<u32>>),
    /// The holders of these sockets, seen by a look that began at that time (ns since boot).
    Unknown(Vec<OpenSocket>, u64),
}

/// What it answers.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) kind: Look,
    pub(super) open: OpenSockets,
    pub(super) holders: Holders,
}

/// When looks are due, and the way to the thread that makes them.
#[derive(Debug)]
pub(super) struct Looks {
    asks: SyncSender<Ask>,
    answers: Receiver<Answer>,
    every: SignedDuration,
    due: Timestamp,
    under_way: bool,
    stats: Arc<Stats>,
}

impl Looks {
    /// Starts the thread.
    pub(super) fn start(
        config: &Config,
        now: Timestamp,
        stats: &Arc<Stats>,
    ) -> std::io::Result<Self> {
        let (asks, asked) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let (max, of_thread) = (config.max_connections, Arc::clone(stats));
        std::thread::Builder::new().name("looks".to_owned()).spawn(move || {
            let mut looker = Looker::new(Path::new("/proc"), max, of_thread);
            while let Ok(ask) = asked.recv() {
                if answer.send(looker.answer(ask)).is_err() {
                    break;
                }
            }
        })?;
        let every = signed(config.capture.look_every);
        let due = next_due(now, every);
        let stats = Arc::clone(stats);
        Ok(Self { asks, answers, every, due, under_way: false, stats })
    }

    /// Whether a look is due at `now`; the next one is scheduled then.
    pub(super) fn is_due(&mut self, now: Timestamp) -> bool {
        // A clock that was set back must not end the looks.
        let far = self.due.duration_since(now) > self.every.saturating_add(LEAD);
        if now < self.due && !far {
            return false;
        }
        self.due = next_due(now, self.every);
        if self.under_way {
            self.stats.looks_skipped_busy.increment();
        }
        !self.under_way
    }

    /// Asks the thread, which must not be busy.
    pub(super) fn ask(&mut self, ask: Ask) {
        self.under_way = self.asks.try_send(ask).is_ok();
    }

    /// The answer, once it is there.
    pub(super) fn answer(&mut self) -> Option<Answer> {
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

/// The next time that is `LEAD` before a multiple of `every` since 1970.
fn next_due(now: Timestamp, every: SignedDuration) -> Timestamp {
    let every_ns = every.as_nanos().max(1);
    let lead_ns = LEAD.as_nanos();
    let next = (now.as_nanosecond() + lead_ns).div_euclid(every_ns) + 1;
    Timestamp::from_nanosecond(next * every_ns - lead_ns).unwrap_or(Timestamp::MAX)
}

/// What the thread owns.
struct Looker {
    reader: SocketReader,
    proc_root: &'static Path,
    /// Open files that name namespaces which nothing else does.
    files: Vec<(u32, PathBuf)>,
}

impl Looker {
    fn new(proc_root: &'static Path, max: usize, stats: Arc<Stats>) -> Self {
        Self { reader: SocketReader::new(proc_root, max, stats), proc_root, files: Vec::new() }
    }

    fn answer(&mut self, ask: Ask) -> Answer {
        match ask {
            Ask::First => self.first(),
            Ask::Again(namespaces) => Answer {
                kind: Look::Again,
                open: self.reader.look(namespaces.as_ref(), &self.files),
                holders: Holders::default(),
            },
            Ask::Unknown(sockets, began_boot_ns) => {
                let open = OpenSockets::again(began_boot_ns, sockets);
                let holders = self.holders(&inodes(&open));
                Answer { kind: Look::Unknown, open, holders }
            }
        }
    }

    fn first(&mut self) -> Answer {
        let mut open = self.reader.look(None, &[]);
        let mut holders = self.holders(&inodes(&open));
        // Namespaces that only an open file names are known now.
        let read = &open.namespaces;
        let named = self.files.iter().map(|(inode, _)| *inode);
        let hidden: HashSet<u32> = named.filter(|inode| !read.contains(inode)).collect();
        if !hidden.is_empty() {
            let more = self.reader.look(Some(&hidden), &self.files);
            holders.extend(&self.holders(&inodes(&more)));
            open.extend(more);
        }
        Answer { kind: Look::First, open, holders }
    }

    fn holders(&mut self, inodes: &HashSet<u32>) -> Holders {
        let mut holders = Holders::read(self.proc_root, inodes);
        self.files = std::mem::take(&mut holders.namespace_files);
        holders
    }
}

fn inodes(open: &OpenSockets) -> HashSet<u32> {
    open.iter().map(|socket| socket.inode).filter(|inode| *inode != 0).collect()
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
