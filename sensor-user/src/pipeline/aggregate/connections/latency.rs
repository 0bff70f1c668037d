//! Answers of a connection: read from the kernel at each look, and told by it at the end.

use sensor_ebpf::latency::{RESPONSE_IDLE_NS, ResponseDirection};

use super::super::flow::Direction;
use super::super::response_times::Responses;
use super::{Connection, ConnectionTable};
use crate::pipeline::decode::{ConnectionLatency, LatencyByDirection, TcpLatency};

/// Ends whose turns wait for the end itself at most; it is the next record of that CPU.
pub(super) const AHEAD_MOST: usize = 1024;

/// The kernel's turns of open connections, at a look.
pub trait LatencyReader {
    /// Of the socket with that cookie; `None` for one that had none.
    fn read(&mut self, cookie: u64) -> Option<ConnectionLatency>;
    /// The epoch that ended when the look began; 0 where none did.
    fn ended_epoch(&self) -> u32;
}

impl ConnectionTable {
    /// The turns of a connection whose end comes next.
    pub fn turns(&mut self, turns: &TcpLatency) {
        // What this pushes out had its end lost in the ring.
        let _lost = self.ahead.push(turns.cookie, turns.counts);
    }
}

impl Connection {
    /// Of what this end called it receives the answers; where it was called it sends them.
    const fn answers(&self) -> ResponseDirection {
        match self.direction {
            Direction::Outbound => ResponseDirection::Received,
            Direction::Inbound => ResponseDirection::Sent,
        }
    }

    /// Takes in what the kernel has counted up to the end of the epoch that ended, for a look that
    /// began at `now_boot_ns`. Gives whether the kernel has lost what it had counted: the map of
    /// turns was full.
    pub(super) fn count_turns(&mut self, reader: &mut dyn LatencyReader, now_boot_ns: u64) -> bool {
        let last = reader.ended_epoch();
        let cookie = self.seen.cookie;
        if cookie == 0 || self.seen.turns_epoch >= last {
            return false;
        }
        let Some(turns) = reader.read(cookie) else {
            self.seen.answer_ahead = None;
            return std::mem::take(&mut self.seen.turns_epoch) != 0;
        };
        let answer = turns.under_way.filter(|(way, ..)| *way == self.answers());
        let answer = answer.map(|(_, asked, end)| (asked, end));
        if self.seen.answer_ahead.is_none() || self.seen.answer_ahead != answer {
            self.add_turns(&turns.counts, last);
        }
        // One that is over by its silence is told now. The kernel counts it when more follows.
        if let Some((asked, end)) = answer
            && self.seen.answer_ahead.is_none()
            && end.saturating_add(RESPONSE_IDLE_NS) <= now_boot_ns
        {
            self.seen.responses.add(&one(asked, end));
            self.seen.answer_ahead = answer;
        }
        false
    }

    /// Adds what was counted in epochs that are not told, up to `last`. The first of it is the
    /// answer that was told ahead, if one was.
    pub(super) fn add_turns(&mut self, turns: &LatencyByDirection, last: u32) {
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use jiff::Timestamp;

    use super::*;
    use crate::pipeline::aggregate::connections::socket_scan::Seen;
    use crate::pipeline::aggregate::flow::Attribution;
    use crate::pipeline::decode::LatencyCounts;

    const SECOND: u64 = 1_000_000_000;
    const MS: u64 = 1_000_000;

    fn called() -> Connection {
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        Connection {
            number: 1,
            opened_boot_ns: 0,
            opened: Timestamp::UNIX_EPOCH,
            established: Some(Timestamp::UNIX_EPOCH),
            told: true,
            direction: Direction::Outbound,
            local: address,
            local_port: 40_000,
            remote: address,
            remote_port: 80,
            netns: 1,
            process: None,
            attribution: Attribution::Connect,
            seen: Seen { cookie: 7, ..Seen::default() },
        }
    }

    /// The kernel's value at a look, and the epoch that ended with it.
    struct Kernel(Option<ConnectionLatency>, u32);

    impl LatencyReader for Kernel {
        fn read(&mut self, cookie: u64) -> Option<ConnectionLatency> {
            assert_eq!(cookie, 7);
            self.0
        }

        fn ended_epoch(&self) -> u32 {
            self.1
        }
    }

    fn counts(epoch: u32, count: u32, us: u32) -> LatencyCounts {
        let sum_us = u64::from(count) * u64::from(us);
        LatencyCounts { sum_us, count, min_us: us, max_us: us, epoch }
    }

    /// Answers received in these epochs, and one under way from and to these times (ms).
    fn turns(epochs: [LatencyCounts; 2], under_way: Option<(u64, u64)>) -> ConnectionLatency {
        // What this end has sent answers nobody: it called.
        let sent = [counts(1, 9, 9), counts(2, 9, 9)];
        let under_way =
            under_way.map(|(asked, end)| (ResponseDirection::Received, asked * MS, end * MS));
        ConnectionLatency { counts: LatencyByDirection::new(sent, epochs), under_way }
    }

    fn told(connection: &mut Connection) -> (u64, u64) {
        let responses = connection.seen.responses.take();
        (responses.count, responses.sum_us)
    }

    #[test]
    fn each_epoch_is_counted_once_and_the_one_under_way_later() {
        let mut it = called();
        let none = LatencyCounts::default();
        let first = [counts(2, 1, 50), counts(1, 3, 100)];
        assert!(!it.count_turns(&mut Kernel(Some(turns(first, None)), 1), SECOND));
        assert_eq!(told(&mut it), (3, 300));
        it.count_turns(&mut Kernel(Some(turns(first, None)), 1), SECOND);
        assert_eq!(told(&mut it), (0, 0));
        it.count_turns(&mut Kernel(Some(turns(first, None)), 2), SECOND);
        assert_eq!(told(&mut it), (1, 50));
        // The end tells all that is left, whatever its epoch.
        it.add_turns(
            &LatencyByDirection::new([none; 2], [counts(2, 1, 50), counts(3, 2, 10)]),
            u32::MAX,
        );
        assert_eq!(told(&mut it), (2, 20));
    }

    #[test]
    fn an_answer_that_is_over_by_silence_is_counted_once() {
        let mut it = called();
        let none = [LatencyCounts::default(); 2];
        let answered = turns(none, Some((100, 140)));
        it.count_turns(&mut Kernel(Some(answered), 1), 900 * MS);
        assert_eq!(told(&mut it), (0, 0), "it may go on");
        it.count_turns(&mut Kernel(Some(answered), 2), 2 * SECOND);
        assert_eq!(told(&mut it), (1, 40_000));
        it.count_turns(&mut Kernel(Some(answered), 3), 3 * SECOND);
        assert_eq!(told(&mut it), (0, 0));
        // The next question: the kernel counts that answer now, and another.
        let later = [counts(4, 2, 40_000), LatencyCounts::default()];
        it.count_turns(&mut Kernel(Some(turns(later, None)), 4), 4 * SECOND);
        assert_eq!(told(&mut it), (1, 40_000));
    }

    #[test]
    fn what_the_kernel_has_lost_is_said_once() {
        let mut it = called();
        assert!(!it.count_turns(&mut Kernel(None, 1), SECOND), "there was none");
        let answered = turns([counts(2, 1, 50), LatencyCounts::default()], None);
        it.count_turns(&mut Kernel(Some(answered), 2), SECOND);
        assert!(it.count_turns(&mut Kernel(None, 3), SECOND));
        assert!(!it.count_turns(&mut Kernel(None, 4), SECOND));
    }
}
