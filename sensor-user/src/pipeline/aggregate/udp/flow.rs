//! `TrackedFlow`: one UDP flow, with its reported and unreported counts.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sensor_ebpf::record::UdpOwnerSource;

use crate::base::protocol::Protocol;
use crate::pipeline::aggregate::change::{Change, ChangeKind};
use crate::pipeline::aggregate::flow::{Attribution, Direction, Flow, Phase};
use crate::pipeline::capture::OpenSocket;
use crate::pipeline::decode::{FlowCounts, UdpFlow};
use crate::pipeline::enrich::Process;

/// Datagrams and bytes in both directions.
#[derive(Debug, Clone, Copy, Default)]
struct Transferred {
    bytes_sent: u64,
    bytes_received: u64,
    packets_sent: u64,
    packets_received: u64,
}

/// Report of a flow as established.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Establishment {
    /// Not reported yet; the time that it has.
    Pending(Timestamp),
    /// The kernel has refused each datagram.
    Refused,
    Reported,
}

#[derive(Debug)]
pub(super) struct TrackedFlow {
    pub(super) number: u64,
    pub(super) opened: Timestamp,
    pub(super) last_boot_ns: u64,
    /// True once the flow was reported as opened.
    pub(super) emitted: bool,
    establishment: Establishment,
    /// Time at which its socket was closed.
    pub(super) released: Option<Timestamp>,
    process: Option<Arc<Process>>,
    attribution: Attribution,
    opened_boot_ns: u64,
    /// Start of the counts in the kernel: later than `opened` after an eviction.
    counted_from_boot_ns: u64,
    pub(super) direction: Direction,
    local: IpAddr,
    pub(super) local_port: u16,
    remote: IpAddr,
    remote_port: u16,
    netns: u32,
    /// Process on the CPU at the first datagram; 0 for none.
    pub(super) on_cpu_tgid: u32,
    /// True if its socket was connected before the agent started.
    preexisting: bool,
    /// Counts in the kernel at the last read.
    read: Transferred,
    /// Counts that are not reported yet.
    unreported: Transferred,
}

impl TrackedFlow {
    pub(super) fn new(
        flow: &UdpFlow,
        number: u64,
        opened: Timestamp,
        process: Option<Arc<Process>>,
    ) -> Self {
        let attribution = attribution(flow.source, process.is_some());
        Self {
            number,
            opened,
            last_boot_ns: flow.boot_ns,
            emitted: false,
            establishment: Establishment::Pending(opened),
            released: None,
            process,
            attribution,
            opened_boot_ns: flow.boot_ns,
            counted_from_boot_ns: flow.boot_ns,
            direction: if flow.inbound { Direction::Inbound } else { Direction::Outbound },
            local: flow.local,
            local_port: flow.local_port,
            remote: flow.key.remote,
            remote_port: flow.key.remote_port,
            netns: flow.netns,
            on_cpu_tgid: flow.on_cpu_tgid,
            preexisting: false,
            read: Transferred::default(),
            unreported: Transferred::default(),
        }
    }

    /// Flow of a connected socket from a socket scan that began at `opened` (`boot_ns` since boot).
    pub(super) fn from_scan(
        socket: &OpenSocket,
        number: u64,
        opened: Timestamp,
        boot_ns: u64,
        direction: Direction,
        process: Option<Arc<Process>>,
    ) -> Self {
        let ends = socket.ends;
        Self {
            number,
            opened,
            last_boot_ns: boot_ns,
            emitted: false,
            establishment: Establishment::Pending(opened),
            released: None,
            attribution: process.as_ref().map_or(Attribution::Unknown, |_| Attribution::Scan),
            process,
            opened_boot_ns: boot_ns,
            counted_from_boot_ns: 0,
            direction,
            local: ends.local,
            local_port: ends.local_port,
            remote: ends.remote,
            remote_port: ends.remote_port,
            netns: socket.netns,
            on_cpu_tgid: 0,
            preexisting: true,
            read: Transferred::default(),
            unreported: Transferred::default(),
        }
    }

    /// True if the kernel has counts of the flow.
    pub(super) const fn is_counted(&self) -> bool {
        self.counted_from_boot_ns != 0
    }

    /// Sets the owner; returns the process that was known before.
    pub(super) fn set_owner(
        &mut self,
        process: &Arc<Process>,
        source: UdpOwnerSource,
    ) -> Option<Arc<Process>> {
        self.attribution = attribution(source, true);
        self.process.replace(Arc::clone(process))
    }

    /// True if the process is unknown, or only owns the bound socket.
    pub(super) const fn is_guessed(&self) -> bool {
        self.attribution.is_guess()
    }

    /// Time at which the flow is to be reported as established, once; `None` before a datagram that was
    /// not refused.
    pub(super) const fn establish(&mut self) -> Option<Timestamp> {
        let Establishment::Pending(time) = self.establishment else { return None };
        self.establishment = Establishment::Reported;
        Some(time)
    }

    pub(super) const fn is_established(&self) -> bool {
        matches!(self.establishment, Establishment::Reported)
    }

    /// Records that the kernel refused each datagram so far.
    pub(super) const fn refuse(&mut self) {
        if matches!(self.establishment, Establishment::Pending(_)) {
            self.establishment = Establishment::Refused;
        }
    }

    /// Records a datagram at `time` that was not refused.
    pub(super) const fn allow(&mut self, time: Timestamp) {
        if matches!(self.establishment, Establishment::Refused) {
            self.establishment = Establishment::Pending(time);
        }
    }

    /// Restarts the counts at `boot_ns`. True if the kernel had earlier counts, which are lost.
    pub(super) fn restart(&mut self, boot_ns: u64) -> bool {
        if self.counted_from_boot_ns == boot_ns {
            return false;
        }
        let lost = self.is_counted();
        self.counted_from_boot_ns = boot_ns;
        self.read = Transferred::default();
        lost
    }

    /// Updates the flow with the counts in the kernel; the latest datagram was at `last_boot_ns`. True
    /// if earlier counts are lost.
    pub(super) fn update(&mut self, counts: &FlowCounts, last_boot_ns: u64) -> bool {
        let restarted = self.restart(counts.first_boot_ns);
        let (read, unreported) = (&mut self.read, &mut self.unreported);
        unreported.bytes_sent += counts.bytes_sent.saturating_sub(read.bytes_sent);
        unreported.bytes_received += counts.bytes_received.saturating_sub(read.bytes_received);
        unreported.packets_sent += counts.packets_sent.saturating_sub(read.packets_sent);
        unreported.packets_received +=
            counts.packets_received.saturating_sub(read.packets_received);
        *read = Transferred {
            bytes_sent: counts.bytes_sent,
            bytes_received: counts.bytes_received,
            packets_sent: counts.packets_sent,
            packets_received: counts.packets_received,
        };
        // Not before the first datagram, whose time is exact.
        self.last_boot_ns = last_boot_ns.max(self.last_boot_ns);
        restarted
    }

    /// True if the flow has unreported datagrams.
    pub(super) const fn has_unreported(&self) -> bool {
        self.unreported.packets_sent > 0 || self.unreported.packets_received > 0
    }

    /// Creates a change of the flow. `Active` and `Closed` take the unreported counts.
    pub(super) fn change(
        &mut self,
        kind: ChangeKind,
        time: Timestamp,
        computer: &Arc<str>,
        unknown_process: &Arc<Process>,
    ) -> Change {
        let phase = kind.phase();
        let moved = match phase {
            Phase::Opened | Phase::Translated => Transferred::default(),
            Phase::Active | Phase::Closed => std::mem::take(&mut self.unreported),
        };
        let flow = Flow {
            time,
            phase,
            computer: Arc::clone(computer),
            direction: self.direction,
            protocol: Protocol::Udp,
            local: self.local,
            local_port: Some(self.local_port),
            remote: self.remote,
            remote_port: Some(self.remote_port),
            process: Arc::clone(self.process.as_ref().unwrap_or(unknown_process)),
            attribution: self.attribution,
            connections: 1,
            preexisting: self.preexisting,
            translated: None,
            bytes_sent: moved.bytes_sent,
            bytes_received: moved.bytes_received,
        };
        let mut change = Change::new(kind, flow, self.number, self.netns);
        change.packets_sent = moved.packets_sent;
        change.packets_received = moved.packets_received;
        if phase == Phase::Closed {
            let ns = self.last_boot_ns.saturating_sub(self.opened_boot_ns);
            change.duration = Duration::from_nanos(ns);
        }
        change
    }
}

const fn attribution(source: UdpOwnerSource, has_process: bool) -> Attribution {
    match source {
        _ if !has_process => Attribution::Unknown,
        UdpOwnerSource::Unknown => Attribution::Unknown,
        UdpOwnerSource::Bound => Attribution::Listener,
        UdpOwnerSource::FirstIo => Attribution::FirstIo,
        UdpOwnerSource::Sent => Attribution::Connect,
    }
}
