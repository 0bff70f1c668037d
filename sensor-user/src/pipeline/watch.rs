//! `Watch`: the kernel half and the stages up to the connection table, a turn at a time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Intake;
use crate::aggregate::{Change, ConnectionTable, FlowCounters, Moment, UdpTable};
use crate::capture::{Capture, CaptureConfig, CaptureError, KernelLedger, UdpFlows};
use crate::clock::{self, BootClock, Clock};
use crate::config::Config;
use crate::decode::{self, FlowCounts, FlowKey};
use crate::enrich::Enricher;
use crate::stats::Stats;

/// How often the ring is drained while there is traffic.
const DRAIN_EVERY: Duration = Duration::from_millis(10);
/// Drains without a record after which the reader sleeps until one comes.
const QUIET_DRAINS: u32 = 20;
/// How long it sleeps at most: minutes and windows end meanwhile.
const SLEEP_MOST: Duration = Duration::from_millis(500);
/// Inbound connections that wait for their owner in the kernel at most.
const ACCEPT_PENDING: u32 = 65_536;

/// Watches this host.
#[derive(Debug)]
pub(super) struct Watch {
    capture: Capture,
    intake: Intake,
    clock: Arc<dyn Clock>,
    /// Drains without a record since the last one with.
    quiet: u32,
}

impl Watch {
    /// Loads and attaches the probes, then reads what runs already.
    pub(super) fn open(
        config: &Config,
        computer: Arc<str>,
        clock: Arc<dyn Clock>,
        stats: &Arc<Stats>,
    ) -> Result<Self, CaptureError> {
        let capture = Capture::open(&CaptureConfig {
            ring_bytes: config.capture.ring_bytes,
            accept_pending: ACCEPT_PENDING,
            udp_flows: config.capture.udp_flows,
            object: config.capture.object.clone(),
            btf: config.capture.btf.clone(),
            disable: config.capture.disable.clone(),
        })?;
        let (proc_root, passwd) = (Path::new("/proc"), Path::new("/etc/passwd"));
        let mut enricher =
            Enricher::new(proc_root, passwd, config.max_processes, Arc::clone(stats));
        let running = enricher.scan_running();
        tracing::debug!(running, "processes read");
        let connections =
            ConnectionTable::new(Arc::clone(&computer), config.max_connections, Arc::clone(stats));
        let (most, idle) = (config.capture.udp_flows as usize, config.capture.udp_idle);
        let flows = UdpTable::new(computer, most, idle, Arc::clone(stats));
        let intake = Intake::new(enricher, connections, flows, Arc::clone(stats));
        Ok(Self { capture, intake, clock, quiet: 0 })
    }

    /// The kernel half.
    pub(super) const fn capture(&self) -> &Capture {
        &self.capture
    }

    /// Drains the ring once; what changed is appended to `changes`.
    pub(super) fn turn(&mut self, changes: &mut Vec<Change>) {
        // Before the drain: what waits now is in the ring by then if its next record is.
        let now_boot_ns = clock::boot_ns();
        let boot_clock = BootClock::sample(&*self.clock);
        let intake = &mut self.intake;
        let records = self.capture.drain(|bytes| intake.record(bytes, &boot_clock, changes));
        self.intake.expire(now_boot_ns, changes);
        let now = moment(now_boot_ns, &boot_clock);
        let more = self.intake.look(now, self.capture.udp_flows(), changes);
        self.quiet = if records == 0 && !more { self.quiet.saturating_add(1) } else { 0 };
    }

    /// Sleeps until the next drain is due, or the ring fills up; when it is quiet, until there is
    /// a record. (What a connection waits for is due long before it is quiet.)
    pub(super) fn wait(&mut self) -> Result<(), CaptureError> {
        if self.quiet < QUIET_DRAINS {
            self.capture.wait(DRAIN_EVERY);
            return Ok(());
        }
        self.capture.sleep(SLEEP_MOST)
    }

    /// Detaches the probes, takes what they left in the ring, and gives the closed ledger.
    pub(super) fn finish(
        &mut self,
        changes: &mut Vec<Change>,
    ) -> Result<KernelLedger, CaptureError> {
        self.capture.detach();
        // A program that was running on another CPU has ended by then.
        self.capture.wait(DRAIN_EVERY);
        self.turn(changes);
        self.intake.expire(u64::MAX, changes);
        let boot_clock = BootClock::sample(&*self.clock);
        let now = moment(clock::boot_ns(), &boot_clock);
        self.intake.look_at_all(now, self.capture.udp_flows(), changes);
        self.capture.ledger()
    }
}

fn moment(boot_ns: u64, clock: &BootClock) -> Moment<'_> {
    Moment { boot_ns, monotonic_ns: clock::monotonic_ns(), clock }
}

impl FlowCounters for UdpFlows {
    fn read(&mut self, key: &FlowKey) -> Option<FlowCounts> {
        decode::flow_counts(&Self::read(self, &key.bytes())?).ok()
    }

    fn forget(&mut self, key: &FlowKey) {
        self.remove(&key.bytes());
    }
}
