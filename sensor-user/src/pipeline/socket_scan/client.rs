//! `SocketScanner`: schedules socket scans, and has a thread wait for the worker, so that the pipeline
//! thread never waits for netlink or /proc. At most one scan runs at a time; its result is taken as a
//! whole.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::messages::{Scan, ScanRequest, ScanResponse, ScanResult};
use crate::base::clock::signed;
use crate::base::counters::Stats;
use crate::pipeline::capture::OpenSockets;
use crate::pipeline::enrich::SocketOwners;
use crate::privsep::WorkerClient;

/// Time by which a scan begins before a multiple of the interval: its byte counts then belong to the
/// minute that ends, also if the pipeline thread was asleep at that time.
const LEAD: SignedDuration = SignedDuration::from_secs(1);

/// Minimum interval between a scan and one that is brought forward.
const EARLY_INTERVAL: SignedDuration = SignedDuration::from_secs(2);

/// Delay before a scan is repeated after its worker has exited.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Maximum number of attempts.
const ATTEMPTS_MAX: u32 = 10;

/// Settings of socket scans.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SocketScanConfig {
    /// Maximum number of sockets in a scan.
    pub(crate) sockets_max: usize,
    /// Interval between periodic scans.
    pub(crate) interval: Duration,
}

/// Schedule of the socket scans, and the thread that waits for the worker.
#[derive(Debug)]
pub(crate) struct SocketScanner {
    requests: SyncSender<Scan>,
    results: Receiver<ScanResult>,
    /// The thread, until it is started.
    thread: Option<ScanThread>,
    interval: SignedDuration,
    next: Timestamp,
    /// Time at which the latest scan was scheduled.
    last: Timestamp,
    is_scanning: bool,
    stats: Arc<Stats>,
}

impl SocketScanner {
    /// A scanner whose requests wait until [`Self::begin`].
    pub(crate) fn new(
        config: SocketScanConfig,
        now: Timestamp,
        worker: Arc<WorkerClient>,
        stats: &Arc<Stats>,
    ) -> Self {
        let (requests, requests_in) = sync_channel(1);
        let (results_out, results) = sync_channel(1);
        let thread = ScanThread {
            requests: requests_in,
            results: results_out,
            worker,
            sockets_max: config.sockets_max,
            stats: Arc::clone(stats),
        };
        let interval = signed(config.interval);
        Self {
            requests,
            results,
            thread: Some(thread),
            interval,
            next: next_scan(now, interval),
            last: now,
            is_scanning: false,
            stats: Arc::clone(stats),
        }
    }

    /// Starts the thread that waits for the worker.
    pub(crate) fn begin(&mut self) -> std::io::Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let builder = std::thread::Builder::new().name("socket-scan".to_owned());
        builder.spawn(move || thread.run()).map(drop)
    }

    /// True if a periodic scan must begin at `now`; schedules the next one.
    pub(crate) fn is_scheduled(&mut self, now: Timestamp) -> bool {
        // After the clock was set back, the next scan would be too far away.
        let is_far = self.next.duration_since(now) > self.interval.saturating_add(LEAD);
        if now < self.next && !is_far {
            return false;
        }
        self.next = next_scan(now, self.interval);
        self.last = now;
        if self.is_scanning {
            self.stats.socket_scans_skipped_busy.increment();
        }
        !self.is_scanning
    }

    /// True if no scan is running.
    pub(crate) const fn is_idle(&self) -> bool {
        !self.is_scanning
    }

    /// Has the next periodic scan begin soon.
    pub(crate) fn bring_forward(&mut self, now: Timestamp) {
        let soon = self.last.saturating_add(EARLY_INTERVAL).unwrap_or(now).max(now);
        self.next = self.next.min(soon);
    }

    /// Requests a scan; no other scan must be running.
    pub(crate) fn request(&mut self, scan: Scan) {
        self.is_scanning = self.requests.try_send(scan).is_ok();
    }

    /// Result of the requested scan, once it is there.
    pub(crate) fn take_result(&mut self) -> Option<ScanResult> {
        match self.results.try_recv() {
            Ok(result) => {
                self.is_scanning = false;
                Some(result)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                if std::mem::replace(&mut self.is_scanning, false) {
                    tracing::error!("the socket scan thread exited; please report");
                }
                None
            }
        }
    }
}

/// The thread that waits for the worker.
#[derive(Debug)]
struct ScanThread {
    requests: Receiver<Scan>,
    results: SyncSender<ScanResult>,
    worker: Arc<WorkerClient>,
    sockets_max: usize,
    stats: Arc<Stats>,
}

impl ScanThread {
    fn run(self) {
        while let Ok(scan) = self.requests.recv() {
            if self.results.send(self.scan(scan)).is_err() {
                return;
            }
        }
    }

    fn scan(&self, scan: Scan) -> ScanResult {
        let kind = scan.kind();
        let request = ScanRequest { sockets_max: self.sockets_max, scan };
        for _attempt in 0..ATTEMPTS_MAX {
            match self.worker.request::<_, ScanResponse>(&request) {
                Ok(ScanResponse { result, counters }) => {
                    self.stats.add_all(&counters);
                    return ScanResult { open: result.open.with_indexes(), ..result };
                }
                Err(error) => tracing::debug!(%error, "worker socket-scan"),
            }
            std::thread::park_timeout(RETRY_AFTER);
        }
        self.stats.socket_scans_failed.increment();
        // A result that covers no namespace: it changes nothing.
        ScanResult { kind, open: OpenSockets::default(), owners: SocketOwners::default() }
    }
}

/// The next time that is `LEAD` before a multiple of `interval` since 1970.
fn next_scan(now: Timestamp, interval: SignedDuration) -> Timestamp {
    let interval_ns = interval.as_nanos().max(1);
    let lead_ns = LEAD.as_nanos();
    let next = (now.as_nanosecond() + lead_ns).div_euclid(interval_ns) + 1;
    Timestamp::from_nanosecond(next * interval_ns - lead_ns).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_begin_shortly_before_the_minute_ends() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let minute = SignedDuration::from_secs(60);
        for (now, scan) in [(0, 59), (58, 59), (59, 119), (60, 119), (119, 179)] {
            assert_eq!(next_scan(at(now), minute), at(scan), "{now}");
        }
        assert_eq!(next_scan(at(10), SignedDuration::from_secs(1)), at(11));
    }
}
