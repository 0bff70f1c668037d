//! Answers of a connection: read from the kernel at each look, and told by it at the end.

use std::num::NonZeroUsize;

use lru::LruCache;
use sensor_ebpf::turns::{ANSWER_SILENCE_NS, AnswerWay};

use super::super::flow::Direction;
use super::super::responses::Responses;
use super::{Connection, ConnectionTable};
use crate::decode::{TcpTurns, Turns, TurnsByWay};

/// Ends whose turns wait for the end itself at most; it is the next record of that CPU.
const AHEAD_MOST: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// Turns that were told ahead of the end of their connection, by cookie.
#[derive(Debug)]
pub(super) struct Ahead(LruCache<u64, TurnsByWay>);

impl Default for Ahead {
    fn default() -> Self {
        Self(LruCache::new(AHEAD_MOST))
    }
}

/// The kernel's turns of open connections, at a look.
pub trait TurnReader {
    /// Of the socket with that cookie; `None` for one that had none.
    fn read(&mut self, cookie: u64) -> Option<Turns>;
    /// The epoch that ended when the look began; 0 where none did.
    fn ended_epoch(&self) -> u32;
}

impl ConnectionTable {
    /// The turns of a connection whose end comes next.
    pub fn turns(&mut self, turns: &TcpTurns) {
        // What this pushes out had its end lost in the ring.
        let _lost = self.ahead.0.push(turns.cookie, turns.counts);
    }

    /// The answers that were told ahead of the end of the connection with that cookie.
    pub(super) fn take_ahead(&mut self, cookie: u64) -> Option<TurnsByWay> {
        self.ahead.0.pop(&cookie)
    }
}

impl Connection {
    /// Of what this end called it receives the answers; where it was called it sends them.
    const fn answers(&self) -> AnswerWay {
        match self.direction {
            Direction::Outbound => AnswerWay::Received,
            Direction::Inbound => AnswerWay::Sent,
        }
    }

    /// Takes in what the kernel has counted up to the end of the epoch that ended, for a look that
    /// began at `now_boot_ns`.
    pub(super) fn count_turns(&mut self, reader: &mut dyn TurnReader, now_boot_ns: u64) {
        let last = reader.ended_epoch();
        let cookie = self.seen.cookie;
        if cookie == 0 || self.seen.turns_epoch >= last {
            return;
        }
        let Some(turns) = reader.read(cookie) else { return };
        let answer = turns.under_way.filter(|(way, ..)| *way == self.answers());
        let answer = answer.map(|(_, asked, end)| (asked, end));
        if self.seen.answer_ahead.is_none() || self.seen.answer_ahead != answer {
            self.add_turns(&turns.counts, last);
        }
        // One that is over by its silence is told now. The kernel counts it when more follows.
        if let Some((asked, end)) = answer
            && self.seen.answer_ahead.is_none()
            && end.saturating_add(ANSWER_SILENCE_NS) <= now_boot_ns
        {
            self.seen.responses.add(&one(asked, end));
            self.seen.answer_ahead = answer;
        }
    }

    /// Adds what was counted in epochs that are not told, up to `last`. The first of it is the
    /// answer that was told ahead, if one was.
    pub(super) fn add_turns(&mut self, turns: &TurnsByWay, last: u32) {
        let mut counts = *turns.of(self.answers());
        counts.sort_unstable_by_key(|counts| counts.epoch);
        for counts in counts {
            if counts.epoch <= self.seen.turns_epoch || counts.epoch > last {
                continue;
            }
            let mut answers = Responses::from(counts);
            if let Some((asked, end)) = self.seen.answer_ahead.take() {
                answers.remove(&one(asked, end));
            }
            self.seen.responses.add(&answers);
            self.seen.turns_epoch = counts.epoch;
        }
    }
}

/// An answer from `asked` to `end`, ns.
fn one(asked: u64, end: u64) -> Responses {
    Responses::one(end.saturating_sub(asked) / 1000)
}
