//! NatTracker: which connections the kernel rewrites (NAT), and to what.
//!
//! A connection is told as opened at once; a helper (`translator`), which a thread of its own asks,
//! asks the connection tracking of the socket's network namespace, and then that of the agent's
//! (where containers' traffic is translated), and what it learns is told as a change of its own on a
//! later turn. So nothing waits for an answer, and each connection is asked for once.
//!
//! Invariants. At most `CONNECTIONS_MAX` connections are remembered, the least recently used leaves
//! first; at most `BATCHES_MAX` batches of questions wait (both counted). A connection is told as
//! translated at most once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::clock::boot_ns;
use crate::base::collections;
use crate::base::collections::Table;
use crate::base::counters::Stats;
use crate::pipeline::aggregate::{Change, ChangeKind, Flow, NatMapping, Phase, Protocol};
use crate::pipeline::capture::{Conntrack, ConntrackError, Tuple, tracked};
use crate::privsep::WorkerClient;

/// Connections remembered at most.
const CONNECTIONS_MAX: usize = 65_536;
/// Batches, of one turn each, that wait for the thread at most; as many answers.
const BATCHES_MAX: usize = 256;
/// Every connection is asked for until this long after a namespace was seen to track any, ns.
const TRACKING_NS: u64 = 60_000_000_000;
/// While none is seen to, those of one turn are asked for this often: a namespace that begins to
/// track is noticed with its connections, and a host that tracks nothing pays nearly nothing.
const SAMPLE_EVERY_NS: u64 = 200_000_000;
/// How long the last answers may take when the agent ends.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// A connection, over all protocols.
pub(crate) type Key = (Protocol, u64);

/// What is remembered of a connection.
#[derive(Debug)]
enum Known {
    /// The answer is not here yet; the connection as it was first told, and whether it has ended.
    Asked { flow: Box<Flow>, netns: u32, ended: bool },
    /// The answer; `None` where it is not translated.
    Answered(Option<NatMapping>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Question {
    pub(crate) key: Key,
    pub(crate) netns: u32,
    /// Processes that may be in that namespace.
    pub(crate) pids: [Option<u32>; 2],
    pub(crate) tuple: Tuple,
}

pub(crate) type Answer = (Key, Option<NatMapping>);
/// What the helper answers, whether a namespace of the batch tracks anything, and what it counted.
pub(crate) type Told = (Vec<Answer>, bool, Vec<u64>);

/// The table, and the way to the thread that asks.
#[derive(Debug)]
pub(crate) struct NatTracker {
    questions: Option<SyncSender<Vec<Question>>>,
    answers: Receiver<Vec<Answer>>,
    /// Until it is started.
    thread: Option<Waiter>,
    /// When a namespace was last seen to track connections, ns since boot; 0 for never.
    tracked_boot_ns: Arc<AtomicU64>,
    next_sample_boot_ns: u64,
    known: Table<Key, Known>,
    /// Batches that are under way.
    waiting: usize,
    stats: Arc<Stats>,
}

/// Why nothing is translated as far as the agent can know, for people; `None` where it can.
pub(crate) fn hindrance() -> Option<String> {
    match tracked() {
        Ok(0) => Some("no connection is tracked here now; looked at again with each".to_owned()),
        Ok(_) => {
            let checked = Conntrack::open().and_then(|mut conntrack| conntrack.check());
            checked.err().map(|error| error.to_string())
        }
        Err(error @ ConntrackError::Absent) => {
            Some(format!("{error}; looked at again with each connection"))
        }
        Err(error) => Some(error.to_string()),
    }
}

impl NatTracker {
    /// Connections that are translated or asked for, and how many there may be.
    pub(crate) fn occupancy(&self) -> (usize, usize) {
        (self.known.len(), self.known.cap().get())
    }

    /// What is asked waits until [`Self::begin`].
    pub(crate) fn new(worker: Arc<WorkerClient>, stats: &Arc<Stats>) -> Self {
        let (questions, questions_out) = sync_channel(BATCHES_MAX);
        let (answers_in, answers) = sync_channel(BATCHES_MAX);
        let tracked_boot_ns = Arc::new(AtomicU64::new(0));
        let waiter = Waiter {
            questions: questions_out,
            answers: answers_in,
            worker,
            tracked_boot_ns: Arc::clone(&tracked_boot_ns),
            stats: Arc::clone(stats),
        };
        Self {
            questions: Some(questions),
            answers,
            thread: Some(waiter),
            tracked_boot_ns,
            next_sample_boot_ns: 0,
            known: collections::table(CONNECTIONS_MAX),
            waiting: 0,
            stats: Arc::clone(stats),
        }
    }

    /// Starts the thread.
    pub(crate) fn begin(&mut self) -> std::io::Result<()> {
        let Some(waiter) = self.thread.take() else { return Ok(()) };
        let thread = std::thread::Builder::new().name("conntrack".to_owned());
        thread.spawn(move || waiter.run()).map(drop)
    }

    /// Fills in what is known of the connections that `changes` from `first` on are about, asks for
    /// those that are new, and appends what was learned.
    pub(crate) fn observe(&mut self, changes: &mut Vec<Change>, first: usize, now_boot_ns: u64) {
        let sample = now_boot_ns >= self.next_sample_boot_ns;
        let tracked = self.tracked_boot_ns.load(Ordering::Acquire);
        let tracking = tracked != 0 && now_boot_ns < tracked.saturating_add(TRACKING_NS);
        if changes.len() > first && (tracking || sample) {
            self.next_sample_boot_ns = now_boot_ns.saturating_add(SAMPLE_EVERY_NS);
            let mut batch = Vec::new();
            for change in changes.iter_mut().skip(first) {
                batch.extend(self.look(change));
            }
            self.ask(batch);
        }
        while let Ok(answers) = self.answers.try_recv() {
            self.learn(answers, changes);
        }
    }

    /// Waits for the answers that are under way: at the end, when nothing else comes.
    pub(crate) fn finish(&mut self, changes: &mut Vec<Change>) {
        self.questions = None;
        while self.waiting > 0 {
            let Ok(answers) = self.answers.recv_timeout(LAST_ANSWERS) else { return };
            self.learn(answers, changes);
        }
    }

    /// A question, where `change` is the first of its connection that has all of its ends.
    fn look(&mut self, change: &mut Change) -> Option<Question> {
        let key = (change.flow.protocol, change.number);
        let over = matches!(change.kind, ChangeKind::Closed | ChangeKind::Failed);
        match self.known.get_mut(&key) {
            Some(Known::Answered(translated)) => {
                change.flow.translated = change.flow.translated.or(*translated);
                if over {
                    self.known.pop(&key);
                }
                return None;
            }
            Some(Known::Asked { ended, .. }) => {
                *ended = over;
                return None;
            }
            None if change.flow.translated.is_some() => return None,
            None => {}
        }
        let flow = &change.flow;
        let tuple = Tuple {
            protocol: flow.protocol,
            source: (flow.local, flow.local_port?).into(),
            destination: (flow.remote, flow.remote_port?).into(),
        };
        let question = Question {
            key,
            netns: change.netns,
            pids: [flow.process.pid, flow.process.parent_pid],
            tuple,
        };
        let flow = Box::new(Flow { bytes_sent: 0, bytes_received: 0, ..flow.clone() });
        let asked = Known::Asked { flow, netns: change.netns, ended: over };
        if let Some((gone, _)) = self.known.push(key, asked)
            && gone != key
        {
            self.stats.nat_lookups_evicted.increment();
        }
        Some(question)
    }

    fn ask(&mut self, batch: Vec<Question>) {
        if batch.is_empty() {
            return;
        }
        let Some(questions) = &self.questions else { return };
        match questions.try_send(batch) {
            Ok(()) => self.waiting += 1,
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                self.stats.nat_lookups_dropped_queue_full.add(batch.len() as u64);
                for question in batch {
                    self.known.pop(&question.key);
                }
            }
        }
    }

    fn learn(&mut self, answers: Vec<Answer>, changes: &mut Vec<Change>) {
        self.waiting = self.waiting.saturating_sub(1);
        for (key, translated) in answers {
            let Some(Known::Asked { flow, netns, ended }) = self.known.pop(&key) else { continue };
            if !ended {
                self.known.push(key, Known::Answered(translated));
            }
            if translated.is_some() {
                self.stats.nat_mappings_found.increment();
                let flow = Flow { phase: Phase::Translated, translated, ..*flow };
                changes.push(Change::new(ChangeKind::Translated, flow, key.1, netns));
            }
        }
    }
}

/// The thread: waits for the helper.
#[derive(Debug)]
struct Waiter {
    questions: Receiver<Vec<Question>>,
    answers: SyncSender<Vec<Answer>>,
    worker: Arc<WorkerClient>,
    tracked_boot_ns: Arc<AtomicU64>,
    stats: Arc<Stats>,
}

impl Waiter {
    fn run(self) {
        while let Ok(batch) = self.questions.recv() {
            let answers = match self.worker.request::<_, Told>(&batch) {
                Ok((answers, tracked, counted)) => {
                    self.stats.add_all(&counted);
                    if tracked {
                        self.tracked_boot_ns.store(boot_ns(), Ordering::Release);
                    }
                    answers
                }
                Err(error) => {
                    tracing::debug!(%error, "worker nat");
                    self.stats.nat_lookups_failed.add(batch.len() as u64);
                    batch.into_iter().map(|question| (question.key, None)).collect()
                }
            };
            if self.answers.send(answers).is_err() {
                return;
            }
        }
    }
}
