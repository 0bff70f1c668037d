//! `Watch`: the kernel half and the stages up to the connection table, a turn at a time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::base::clock;
use crate::base::clock::{BootClock, Clock};
use crate::base::counters::Stats;
use crate::config::Config;
use crate::pipeline::Intake;
use crate::pipeline::aggregate::{
    Change, ConnectionTable, FlowCounters, HostView, LatencyReader, Listening, Look, Moment,
    UdpTable,
};
use crate::pipeline::canary::{Eye, Verdict};
use crate::pipeline::capture::{
    Capture, CaptureConfig, CaptureError, KernelLedger, LatencyMap, UdpFlows,
};
use crate::pipeline::decode;
use crate::pipeline::decode::{ConnectionLatency, FlowCounts, FlowKey};
use crate::pipeline::enrich::proc_worker::ProcWorker;
use crate::pipeline::enrich::{DnsAnswer, Enricher, Process};
use crate::pipeline::nat::client;
use crate::pipeline::nat::client::Translations;
use crate::pipeline::socket_scan::client::{Answer, Ask, Looks, SocketScanConfig};
use crate::privsep::Workers;

/// How often the ring is drained while there is traffic.
const DRAIN_EVERY: Duration = Duration::from_millis(20);
/// Records of one turn at most: what they change goes down the path before more is taken, so that
/// a full ring is not held in memory once more.
const TURN_RECORDS: u32 = 2048;
/// Drains without a record after which the reader sleeps until one comes.
const QUIET_DRAINS: u32 = 10;
/// How long it sleeps at most: minutes and windows end meanwhile.
const SLEEP_MOST: Duration = Duration::from_millis(500);

/// Watches this host.
#[derive(Debug)]
pub(crate) struct Watch {
    capture: Capture,
    intake: Intake,
    /// `None` where it is off, or why.
    translations: Result<Translations, String>,
    /// Why it knows nothing at start, if so.
    hindrance: Option<String>,
    looks: Looks,
    /// What a look found, until the ring has been drained.
    looked: Option<Answer>,
    /// The epoch of turns that ended when the look under way began.
    ended_epoch: u32,
    clock: Arc<dyn Clock>,
    /// Whether the last turn left nothing in the ring.
    drained: bool,
    /// Drains without a record since the last one with.
    quiet: u32,
}

impl Watch {
    /// Loads and attaches the probes, then reads what runs already, and has what is open already
    /// read from [`Self::begin`] on. No thread is left running.
    pub(crate) fn open(
        config: &Config,
        computer: Arc<str>,
        clock: Arc<dyn Clock>,
        (workers, stats): (&Workers, &Arc<Stats>),
    ) -> Result<Self, CaptureError> {
        let capture = Capture::open(&CaptureConfig {
            ring_bytes: config.capture.ring_bytes,
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
        enricher.ask(Box::new(ProcWorker(Arc::clone(&workers.proc))));
        let connections =
            ConnectionTable::new(Arc::clone(&computer), config.max_connections, Arc::clone(stats));
        let (most, idle) = (config.capture.udp_flows as usize, config.capture.udp_idle);
        let flows = UdpTable::new(computer, most, idle, Arc::clone(stats));
        let mut intake = Intake::new(enricher, connections, flows, Arc::clone(stats))
            .with_drops(config.capture.drops_per_million);
        let translations = if config.capture.conntrack {
            Ok(Translations::new(Arc::clone(&workers.nat), stats))
        } else {
            Err("disabled by the configuration".to_owned())
        };
        let hindrance = translations.is_ok().then(client::hindrance).flatten();
        let scan = SocketScanConfig {
            sockets_max: config.max_connections,
            interval: config.capture.look_every,
        };
        let mut looks = Looks::new(scan, clock.now(), Arc::clone(&workers.socket_scan), stats);
        let _all = intake.look_begins();
        looks.ask(Ask::First);
        Ok(Self {
            capture,
            intake,
            translations,
            hindrance,
            looks,
            looked: None,
            ended_epoch: 0,
            clock,
            drained: true,
            quiet: 0,
        })
    }

    /// Starts the threads.
    pub(crate) fn begin(&mut self) -> Result<(), CaptureError> {
        if let Ok(translations) = &mut self.translations {
            translations.begin().map_err(CaptureError::Thread)?;
        }
        self.looks.begin().map_err(CaptureError::Thread)
    }

    /// The kernel half.
    pub(crate) const fn capture(&self) -> &Capture {
        &self.capture
    }

    /// Looks for `canary` from now on, and keeps it out of what changed.
    pub(crate) fn look_for(&mut self, canary: Eye) {
        self.intake.canary = Some(canary);
    }

    /// This process as the kernel numbers it, once known.
    pub(crate) fn own_pid(&self) -> Option<u32> {
        self.intake.canary.as_ref().and_then(Eye::own_pid)
    }

    /// What the canary says of the hooks, as far as there is something new.
    pub(crate) fn verdicts(&mut self) -> Vec<Verdict> {
        self.intake.canary.as_mut().map(Eye::verdicts).unwrap_or_default()
    }

    /// When every hook that the canary tries was last known to work, ns since boot; `None` before
    /// the first canary.
    pub(crate) fn canary_seen(&self) -> Option<u64> {
        self.intake.canary.as_ref().and_then(Eye::seen)
    }

    /// Name of each table, its entries, and how many there may be.
    pub(crate) fn tables(&self) -> Vec<(&'static str, (usize, usize))> {
        let mut tables = self.intake.tables().to_vec();
        if let Ok(translations) = &self.translations {
            tables.push(("nat_lookups", translations.occupancy()));
        }
        tables
    }

    /// Why translated addresses (NAT) are not known, if so.
    pub(crate) fn translations_off(&self) -> Option<String> {
        match &self.translations {
            Ok(_) => self.hindrance.clone(),
            Err(reason) => Some(reason.clone()),
        }
    }

    /// What names resolved to, as was told since the last call: to be taken after each turn, before
    /// its changes, since who asks for a name connects then.
    pub(crate) fn answers(&mut self) -> std::vec::Drain<'_, DnsAnswer> {
        self.intake.answers.drain(..)
    }

    /// Drains the ring, or takes as many records as a turn may; what changed is appended to
    /// `changes`.
    pub(crate) fn turn(&mut self, changes: &mut Vec<Change>) {
        let first = changes.len();
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
        if !self.drained {
            self.quiet = 0;
            self.settle(changes, first, now_boot_ns);
            return;
        }
        if let Some(answer) = self.looked.take() {
            self.look(answer, &boot_clock, changes);
        }
        if self.looks.is_due(self.clock.now()) {
            let namespaces = self.intake.look_begins();
            self.ended_epoch = self.capture.turns().begin_epoch();
            self.looks.ask(Ask::Again(namespaces));
        }
        self.intake.expire(now_boot_ns, changes);
        let now = moment(now_boot_ns, &boot_clock);
        let more = self.intake.read_udp_flows(now, self.capture.udp_flows(), changes);
        self.quiet = if records == 0 && !more { self.quiet.saturating_add(1) } else { 0 };
        self.settle(changes, first, now_boot_ns);
    }

    /// What is done with changes before anybody sees them.
    fn settle(&mut self, changes: &mut Vec<Change>, first: usize, now_boot_ns: u64) {
        if let Some(canary) = &mut self.intake.canary {
            canary.take(changes, first);
        }
        if let Ok(translations) = &mut self.translations {
            translations.observe(changes, first, now_boot_ns);
        }
    }

    /// Takes in what a look found; what it found and nobody knows is looked at once more.
    fn look(&mut self, answer: Answer, boot_clock: &BootClock, changes: &mut Vec<Change>) {
        let Answer { kind, open, holders } = answer;
        let (before, time) = (changes.len(), boot_clock.wall(open.began_boot_ns));
        let mut turns = TurnsAtLook { map: self.capture.turns(), ended: self.ended_epoch };
        let unknown = self.intake.look((kind, time), &open, (&holders, &mut turns), changes);
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
    /// a record and `busy` does not say that there is more to do. (What a connection waits for is
    /// due long before it is quiet.)
    pub(crate) fn wait(&mut self, busy: bool) -> Result<(), CaptureError> {
        if !self.drained {
            return Ok(());
        }
        if busy || self.quiet < QUIET_DRAINS {
            self.capture.wait(DRAIN_EVERY);
            return Ok(());
        }
        self.capture.sleep(SLEEP_MOST)
    }

    /// Detaches the probes, takes what they left in the ring, and gives the closed ledger.
    pub(crate) fn finish(
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
        let first = changes.len();
        self.intake.finish(changes);
        let boot_clock = BootClock::sample(&*self.clock);
        let now_boot_ns = clock::boot_ns();
        let now = moment(now_boot_ns, &boot_clock);
        self.intake.read_all_udp_flows(now, self.capture.udp_flows(), changes);
        self.settle(changes, first, now_boot_ns);
        if let Ok(translations) = &mut self.translations {
            translations.finish(changes);
        }
        self.capture.ledger()
    }
}

fn moment(boot_ns: u64, clock: &BootClock) -> Moment<'_> {
    Moment { boot_ns, monotonic_ns: clock::monotonic_ns(), clock }
}

/// The turns as a look reads them.
struct TurnsAtLook<'a> {
    map: &'a LatencyMap,
    ended: u32,
}

impl LatencyReader for TurnsAtLook<'_> {
    fn read(&mut self, cookie: u64) -> Option<ConnectionLatency> {
        decode::turns(&self.map.read(cookie)?).ok()
    }

    fn ended_epoch(&self) -> u32 {
        self.ended
    }
}

impl HostView for Watch {
    fn listening(&mut self, start: Timestamp, end: Timestamp) -> Vec<Listening> {
        let mut listening = self.intake.listening(start, end);
        // The canary is all that this process listens for.
        let own = self.intake.canary.as_ref().map(Eye::pid);
        listening.retain(|socket| own.is_none() || socket.process.pid != own);
        listening
    }

    fn wall(&self, boot_ns: u64) -> Timestamp {
        BootClock::sample(&*self.clock).wall(boot_ns)
    }

    fn working_directory(&self, process: &Process) -> String {
        self.intake.working_directory(process)
    }
}

impl FlowCounters for UdpFlows {
    fn read(&mut self, key: &FlowKey) -> Option<FlowCounts> {
        decode::flow_counts(&Self::read(self, &key.bytes())?).ok()
    }

    fn forget(&mut self, key: &FlowKey) {
        self.remove(&key.bytes());
    }
}
