//! `Watch`: the kernel half and the stages up to the connection table, a turn at a time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Intake;
use super::look::{Answer, Ask, Looks};
use crate::aggregate::{Change, ConnectionTable, Look};
use crate::capture::{Capture, CaptureConfig, CaptureError, KernelLedger};
use crate::clock::{self, BootClock, Clock};
use crate::config::Config;
use crate::enrich::Enricher;
use crate::stats::Stats;

/// How often the ring is drained while there is traffic.
const DRAIN_EVERY: Duration = Duration::from_millis(10);
/// Records of one turn at most: what they change goes down the path before more is taken, so that
/// a full ring is not held in memory once more.
const TURN_RECORDS: u32 = 2048;
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
    looks: Looks,
    /// What a look found, until the ring has been drained.
    looked: Option<Answer>,
    clock: Arc<dyn Clock>,
    /// Whether the last turn left nothing in the ring.
    drained: bool,
    /// Drains without a record since the last one with.
    quiet: u32,
}

impl Watch {
    /// Loads and attaches the probes, then reads what runs already, and begins to read what is
    /// open already.
    pub(super) fn open(
        config: &Config,
        computer: Arc<str>,
        clock: Arc<dyn Clock>,
        stats: &Arc<Stats>,
    ) -> Result<Self, CaptureError> {
        let capture = Capture::open(&CaptureConfig {
            ring_bytes: config.capture.ring_bytes,
            accept_pending: ACCEPT_PENDING,
            object: config.capture.object.clone(),
            btf: config.capture.btf.clone(),
            disable: config.capture.disable.clone(),
        })?;
        let (proc_root, passwd) = (Path::new("/proc"), Path::new("/etc/passwd"));
        let mut enricher =
            Enricher::new(proc_root, passwd, config.max_processes, Arc::clone(stats));
        let running = enricher.scan_running();
        tracing::debug!(running, "processes read");
        let connections = ConnectionTable::new(computer, config.max_connections, Arc::clone(stats));
        let mut intake = Intake::new(enricher, connections, Arc::clone(stats));
        let mut looks = Looks::start(config, clock.now(), stats).map_err(CaptureError::Thread)?;
        let _all = intake.look_begins();
        looks.ask(Ask::First);
        Ok(Self { capture, intake, looks, looked: None, clock, drained: true, quiet: 0 })
    }

    /// The kernel half.
    pub(super) const fn capture(&self) -> &Capture {
        &self.capture
    }

    /// Drains the ring, or takes as many records as a turn may; what changed is appended to
    /// `changes`.
    pub(super) fn turn(&mut self, changes: &mut Vec<Change>) {
        // Before the drain: what waits now is in the ring by then if its next record is.
        let now_boot_ns = clock::boot_ns();
        let boot_clock = BootClock::sample(&*self.clock);
        // Before the drain, too: a look is taken in after every record that is older than it.
        if self.looked.is_none() {
            self.looked = self.looks.answer();
        }
        let intake = &mut self.intake;
        let each = |bytes: &[u8]| intake.record(bytes, &boot_clock, changes);
        let records = self.capture.drain(TURN_RECORDS, each);
        self.drained = records < TURN_RECORDS;
        self.quiet = if records == 0 { self.quiet.saturating_add(1) } else { 0 };
        if !self.drained {
            return;
        }
        if let Some(answer) = self.looked.take() {
            self.look(answer, &boot_clock, changes);
        }
        if self.looks.is_due(self.clock.now()) {
            let namespaces = self.intake.look_begins();
            self.looks.ask(Ask::Again(namespaces));
        }
        self.intake.expire(now_boot_ns, changes);
    }

    /// Takes in what a look found; what it found and nobody knows is looked at once more.
    fn look(&mut self, answer: Answer, boot_clock: &BootClock, changes: &mut Vec<Change>) {
        let Answer { kind, open, holders } = answer;
        let (before, time) = (changes.len(), boot_clock.wall(open.began_boot_ns));
        let unknown = self.intake.look((kind, time), &open, &holders, changes);
        if kind == Look::First {
            tracing::info!(
                connections = open.connections.len(),
                listeners = open.listeners.len(),
                udp_sockets = open.udp.len(),
                namespaces = open.namespaces.len(),
                changes = changes.len().saturating_sub(before),
                "open sockets read"
            );
        }
        if !unknown.is_empty() {
            self.looks.ask(Ask::Unknown(unknown, open.began_boot_ns));
        }
    }

    /// Sleeps until the next drain is due, or the ring fills up; when it is quiet, until there is
    /// a record. (What a connection waits for is due long before it is quiet.)
    pub(super) fn wait(&mut self) -> Result<(), CaptureError> {
        if !self.drained {
            return Ok(());
        }
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
        loop {
            self.turn(changes);
            if self.drained {
                break;
            }
        }
        self.intake.expire(u64::MAX, changes);
        self.capture.ledger()
    }
}
