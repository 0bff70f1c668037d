//! Response latency of a connection: read from the kernel at each socket scan, and reported by it at the
//! close.

use sensor_ebpf::latency::{RESPONSE_IDLE_NS, ResponseDirection};

use super::super::flow::Direction;
use super::super::response_times::ResponseTimes;
use super::{Connection, ConnectionTable};
use crate::pipeline::decode::{ConnectionLatency, LatencyByDirection, TcpLatency};

/// Maximum number of latency records that wait for the close of their connection, which is the next record
/// of the same CPU.
pub(super) const EARLY_LATENCY_MAX: usize = 1024;

/// Latencies of open connections in the kernel, at a socket scan.
pub trait LatencyReader {
    /// Latency of the socket with a cookie; `None` if it has none.
    fn read(&mut self, cookie: u64) -> Option<ConnectionLatency>;
    /// Epoch that ended when the scan began; 0 for none.
    fn ended_epoch(&self) -> u32;
}

impl ConnectionTable {
    /// Records the latency of a connection whose close follows.
    pub fn add_early_latency(&mut self, latency: &TcpLatency) {
        // The close of an evicted entry was lost in the ring buffer.
        let _lost = self.early_latency.push(latency.cookie, latency.counts);
    }
}

impl Connection {
    /// For outbound connections this counts responses received; for inbound connections, responses sent.
    const fn response_direction(&self) -> ResponseDirection {
        match self.direction {
            Direction::Outbound => ResponseDirection::Received,
            Direction::Inbound => ResponseDirection::Sent,
        }
    }

    /// Adds the kernel's counts up to the end of the finished epoch, for a scan that began at
    /// `now_boot_ns`. True if the kernel has lost counts: the latency map was full.
    pub(super) fn count_latency(
        &mut self,
        reader: &mut dyn LatencyReader,
        now_boot_ns: u64,
    ) -> bool {
        let last = reader.ended_epoch();
        let cookie = self.scan.cookie;
        if cookie == 0 || self.scan.latency_epoch >= last {
            return false;
        }
        let Some(latency) = reader.read(cookie) else {
            self.scan.trailing_response = None;
            return std::mem::take(&mut self.scan.latency_epoch) != 0;
        };
        let pending = latency.pending.filter(|it| it.direction == self.response_direction());
        let pending = pending.map(|it| (it.request_end_ns, it.response_end_ns));
        if self.scan.trailing_response.is_none() || self.scan.trailing_response != pending {
            self.add_latency(&latency.counts, last);
        }
        // A response that nothing follows is reported now. The kernel counts it with the next request.
        if let Some((requested, end)) = pending
            && self.scan.trailing_response.is_none()
            && end.saturating_add(RESPONSE_IDLE_NS) <= now_boot_ns
        {
            self.scan.responses.add(&one(requested, end));
            self.scan.trailing_response = pending;
        }
        false
    }

    /// Adds the counts of unreported epochs, up to `last`, without the trailing response that was reported
    /// ahead, if there is one.
    pub(super) fn add_latency(&mut self, latency: &LatencyByDirection, last: u32) {
        let mut counts = *latency.of(self.response_direction());
        counts.sort_unstable_by_key(|counts| counts.epoch);
        for counts in counts {
            if counts.epoch <= self.scan.latency_epoch || counts.epoch > last {
                continue;
            }
            let mut responses = ResponseTimes::from(counts);
            if let Some((requested, end)) = self.scan.trailing_response.take() {
                responses.remove(&one(requested, end));
            }
            self.scan.responses.add(&responses);
            self.scan.latency_epoch = counts.epoch;
        }
    }
}

/// A response to a request at `requested`, complete at `end`, ns.
fn one(requested: u64, end: u64) -> ResponseTimes {
    ResponseTimes::single(end.saturating_sub(requested) / 1000)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use jiff::Timestamp;

    use super::*;
    use crate::pipeline::aggregate::connections::socket_scan::ScanView;
    use crate::pipeline::aggregate::flow::Attribution;
    use crate::pipeline::capture::Ends;
    use crate::pipeline::decode::{LatencyCounts, PendingResponse};

    const SECOND: u64 = 1_000_000_000;
    const MS: u64 = 1_000_000;

    fn outbound() -> Connection {
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        Connection {
            number: 1,
            opened_boot_ns: 0,
            opened: Timestamp::UNIX_EPOCH,
            established: Some(Timestamp::UNIX_EPOCH),
            emitted: true,
            direction: Direction::Outbound,
            ends: Ends { local: address, local_port: 40_000, remote: address, remote_port: 80 },
            netns: 1,
            process: None,
            attribution: Attribution::Connect,
            mptcp: 0,
            scan: ScanView { cookie: 7, ..ScanView::default() },
        }
    }

    /// Value in the kernel at a scan, and the epoch that ended with it.
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

    /// Responses received in these epochs, and a pending one from and to these times (ms).
    fn latency(epochs: [LatencyCounts; 2], pending: Option<(u64, u64)>) -> ConnectionLatency {
        // Data that this end has sent is no response: it connected.
        let sent = [counts(1, 9, 9), counts(2, 9, 9)];
        let pending = pending.map(|(requested, end)| PendingResponse {
            direction: ResponseDirection::Received,
            request_end_ns: requested * MS,
            response_end_ns: end * MS,
        });
        ConnectionLatency { counts: LatencyByDirection::new(sent, epochs), pending }
    }

    fn reported(connection: &mut Connection) -> (u64, u64) {
        let responses = connection.scan.responses.take();
        (responses.count, responses.sum_us)
    }

    #[test]
    fn each_epoch_is_counted_once_and_the_current_one_later() {
        let mut it = outbound();
        let none = LatencyCounts::default();
        let first = [counts(2, 1, 50), counts(1, 3, 100)];
        assert!(!it.count_latency(&mut Kernel(Some(latency(first, None)), 1), SECOND));
        assert_eq!(reported(&mut it), (3, 300));
        it.count_latency(&mut Kernel(Some(latency(first, None)), 1), SECOND);
        assert_eq!(reported(&mut it), (0, 0));
        it.count_latency(&mut Kernel(Some(latency(first, None)), 2), SECOND);
        assert_eq!(reported(&mut it), (1, 50));
        // The close reports the rest, whatever its epoch.
        it.add_latency(
            &LatencyByDirection::new([none; 2], [counts(2, 1, 50), counts(3, 2, 10)]),
            u32::MAX,
        );
        assert_eq!(reported(&mut it), (2, 20));
    }

    #[test]
    fn a_trailing_response_is_counted_once() {
        let mut it = outbound();
        let none = [LatencyCounts::default(); 2];
        let pending = latency(none, Some((100, 140)));
        it.count_latency(&mut Kernel(Some(pending), 1), 900 * MS);
        assert_eq!(reported(&mut it), (0, 0), "it may continue");
        it.count_latency(&mut Kernel(Some(pending), 2), 2 * SECOND);
        assert_eq!(reported(&mut it), (1, 40_000));
        it.count_latency(&mut Kernel(Some(pending), 3), 3 * SECOND);
        assert_eq!(reported(&mut it), (0, 0));
        // The next request: the kernel counts that response now, and another one.
        let later = [counts(4, 2, 40_000), LatencyCounts::default()];
        it.count_latency(&mut Kernel(Some(latency(later, None)), 4), 4 * SECOND);
        assert_eq!(reported(&mut it), (1, 40_000));
    }

    #[test]
    fn counts_lost_in_the_kernel_are_reported_once() {
        let mut it = outbound();
        assert!(!it.count_latency(&mut Kernel(None, 1), SECOND), "there were none");
        let counted = latency([counts(2, 1, 50), LatencyCounts::default()], None);
        it.count_latency(&mut Kernel(Some(counted), 2), SECOND);
        assert!(it.count_latency(&mut Kernel(None, 3), SECOND));
        assert!(!it.count_latency(&mut Kernel(None, 4), SECOND));
    }
}
