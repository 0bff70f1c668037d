//! Translations: which connections the kernel rewrites (NAT), and to what.
//!
//! A connection is told as opened at once; a thread of its own asks the connection tracking of the
//! socket's network namespace, and then that of the agent's (where containers' traffic is
//! translated), and what it learns is told as a change of its own on a later turn. So nothing waits
//! for an answer, and each connection is asked for once.
//!
//! Invariants. At most `CONNECTIONS_MAX` connections are remembered, the least recently used leaves
//! first; at most `BATCHES_MAX` batches of questions wait (both counted). A connection is told as
//! translated at most once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use lru::LruCache;

use super::namespaces::Namespaces;
use crate::aggregate::{Change, Flow, Phase, Protocol, Translated, What};
use crate::bounded;
use crate::capture::{Conntrack, ConntrackError, Tuple, tracked};
use crate::clock::boot_ns;
use crate::stats::Stats;

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
type Key = (Protocol, u64);

/// What is remembered of a connection.
#[derive(Debug)]
enum Known {
    /// The answer is not here yet; the connection as it was first told, and whether it has ended.
    Asked { flow: Box<Flow>, netns: u32, ended: bool },
    /// The answer; `None` where it is not translated.
    Answered(Option<Translated>),
}

#[derive(Debug)]
struct Question {
    key: Key,
    netns: u32,
    /// Processes that may be in that namespace.
    pids: [Option<u32>; 2],
    tuple: Tuple,
}

type Answer = (Key, Option<Translated>);

/// The table, and the way to the thread that asks.
#[derive(Debug)]
pub(super) struct Translations {
    questions: Option<SyncSender<Vec<Question>>>,
    answers: Receiver<Vec<Answer>>,
    /// When a namespace was last seen to track connections, ns since boot; 0 for never.
    tracked_boot_ns: Arc<AtomicU64>,
    next_sample_boot_ns: u64,
    known: LruCache<Key, Known>,
    /// Batches that are under way.
    waiting: usize,
    stats: Arc<Stats>,
}

/// Why nothing is translated as far as the agent can know, for people; `None` where it can.
pub(super) fn hindrance() -> Option<String> {
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

impl Translations {
    /// Connections that are translated or asked for, and how many there may be.
    pub(super) fn occupancy(&self) -> (usize, usize) {
        (self.known.len(), self.known.cap().get())
    }

    /// Starts the thread.
    pub(super) fn start(stats: &Arc<Stats>) -> std::io::Result<Self> {
        let (questions, questions_out) = sync_channel(BATCHES_MAX);
        let (answers_in, answers) = sync_channel(BATCHES_MAX);
        let tracked_boot_ns = Arc::new(AtomicU64::new(0));
        let asker = Asker {
            namespaces: Namespaces::of_this_thread()?,
            own: None,
            refused: false,
            tracked_boot_ns: Arc::clone(&tracked_boot_ns),
            tracked: false,
            stats: Arc::clone(stats),
        };
        std::thread::Builder::new()
            .name("conntrack".to_owned())
            .spawn(move || asker.run(&questions_out, &answers_in))?;
        Ok(Self {
            questions: Some(questions),
            answers,
            tracked_boot_ns,
            next_sample_boot_ns: 0,
            known: bounded::table(CONNECTIONS_MAX),
            waiting: 0,
            stats: Arc::clone(stats),
        })
    }

    /// Fills in what is known of the connections that `changes` from `first` on are about, asks for
    /// those that are new, and appends what was learned.
    pub(super) fn observe(&mut self, changes: &mut Vec<Change>, first: usize, now_boot_ns: u64) {
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
    pub(super) fn finish(&mut self, changes: &mut Vec<Change>) {
        self.questions = None;
        while self.waiting > 0 {
            let Ok(answers) = self.answers.recv_timeout(LAST_ANSWERS) else { return };
            self.learn(answers, changes);
        }
    }

    /// A question, where `change` is the first of its connection that has all of its ends.
    fn look(&mut self, change: &mut Change) -> Option<Question> {
        let key = (change.flow.protocol, change.number);
        let over = matches!(change.what, What::Closed | What::Failed);
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
            self.stats.translations_evicted.increment();
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
                self.stats.translations_unasked_queue_full.add(batch.len() as u64);
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
                self.stats.translations_found.increment();
                let flow = Flow { phase: Phase::Translated, translated, ..*flow };
                changes.push(Change::new(What::Translated, flow, key.1, netns));
            }
        }
    }
}

/// The thread.
struct Asker {
    namespaces: Namespaces,
    /// The socket of the agent's own namespace, once it is open.
    own: Option<Conntrack>,
    /// A refusal was said.
    refused: bool,
    tracked_boot_ns: Arc<AtomicU64>,
    /// Whether a namespace of the batch under way tracks anything.
    tracked: bool,
    stats: Arc<Stats>,
}

impl Asker {
    fn run(mut self, questions: &Receiver<Vec<Question>>, answers: &SyncSender<Vec<Answer>>) {
        loop {
            let Ok(batch) = questions.recv() else { return };
            self.tracked = false;
            let answer = self.answer(batch);
            if self.tracked {
                self.tracked_boot_ns.store(boot_ns(), Ordering::Release);
            }
            if answers.send(answer).is_err() {
                return;
            }
        }
    }

    fn answer(&mut self, mut batch: Vec<Question>) -> Vec<Answer> {
        // Those of one namespace together: it is entered once.
        batch.sort_by_key(|question| question.netns);
        let mut seen: Vec<(Key, Tuple, Tuple)> = Vec::with_capacity(batch.len());
        for group in batch.chunk_by(|a, b| a.netns == b.netns) {
            let inside = self.inside(group);
            seen.extend(group.iter().zip(inside).map(|(it, out)| (it.key, it.tuple, out)));
        }
        self.outside(&mut seen);
        seen.into_iter()
            .map(|(key, socket, out)| {
                let translated = (socket != out).then(|| Translated {
                    local_ip: out.source.ip(),
                    local_port: out.source.port(),
                    remote_ip: out.destination.ip(),
                    remote_port: out.destination.port(),
                });
                (key, translated)
            })
            .collect()
    }

    /// What leaves the sockets' own namespace, for each question of a group.
    fn inside(&mut self, group: &[Question]) -> Vec<Tuple> {
        let as_asked = || group.iter().map(|question| question.tuple).collect();
        let Some(netns) = group.first().map(|question| question.netns) else { return Vec::new() };
        if self.namespaces.is_own(netns) {
            return as_asked();
        }
        let pids = group.iter().flat_map(|question| question.pids).flatten();
        let entered = self.namespaces.within(netns, pids, || {
            if !matches!(tracked(), Ok(1..)) {
                return Ok(None);
            }
            let mut conntrack = Conntrack::open()?;
            let ask = |question: &Question| translate(&mut conntrack, question.tuple);
            group.iter().map(ask).collect::<Result<Vec<Tuple>, _>>().map(Some)
        });
        match entered {
            Some(Ok(Some(tuples))) => {
                self.tracked = true;
                tuples
            }
            Some(Ok(None)) => as_asked(),
            Some(Err(error)) => {
                self.refuse(&error);
                as_asked()
            }
            None => {
                self.stats.translations_unreachable.add(group.len() as u64);
                as_asked()
            }
        }
    }

    /// What leaves the agent's own namespace, in the place of what enters it.
    fn outside(&mut self, seen: &mut [(Key, Tuple, Tuple)]) {
        if !self.namespaces.is_home() || !matches!(tracked(), Ok(1..)) {
            return;
        }
        self.tracked = true;
        let mut conntrack = match self.own.take().map_or_else(Conntrack::open, Ok) {
            Ok(conntrack) => conntrack,
            Err(error) => return self.refuse(&error),
        };
        for (_, _, tuple) in seen {
            match translate(&mut conntrack, *tuple) {
                Ok(out) => *tuple = out,
                // A new socket next time: what this one still holds is not the next answer.
                Err(error) => return self.refuse(&error),
            }
        }
        self.own = Some(conntrack);
    }

    fn refuse(&mut self, error: &ConntrackError) {
        self.stats.translations_unreachable.increment();
        if !std::mem::replace(&mut self.refused, true) {
            tracing::warn!("translated addresses are not known: {error}");
        }
    }
}

/// The ends behind the translation of a socket's `tuple` (this host's end first); `tuple` itself
/// where there is none.
fn translate(conntrack: &mut Conntrack, tuple: Tuple) -> Result<Tuple, ConntrackError> {
    let other = conntrack.other_direction(&tuple)?;
    // The other direction comes from the remote end.
    Ok(other.map_or(tuple, |other| Tuple {
        protocol: tuple.protocol,
        source: other.destination,
        destination: other.source,
    }))
}
