//! `Tracked`: one UDP flow, and what was told of it.

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

/// Datagrams and bytes, each way.
#[derive(Debug, Clone, Copy, Default)]
struct Moved {
    bytes_sent: u64,
    bytes_received: u64,
    packets_sent: u64,
    packets_received: u64,
}

/// A flow.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) number: u64,
    pub(super) opened: Timestamp,
    pub(super) last_boot_ns: u64,
    pub(super) told: bool,
    /// When its socket was closed.
    pub(super) released: Option<Timestamp>,
    process: Option<Arc<Process>>,
    attribution: Attribution,
    opened_boot_ns: u64,
    /// When the kernel's counts began: later than `opened` once they were lost.
    counted_from_boot_ns: u64,
    pub(super) direction: Direction,
    local: IpAddr,
    pub(super) local_port: u16,
    remote: IpAddr,
    remote_port: u16,
    netns: u32,
    /// The process on the CPU when it was sent first; 0 for none.
    pub(super) on_cpu_tgid: u32,
    /// Whether its socket was connected before the agent.
    preexisting: bool,
    /// The kernel's counts as last read.
    read: Moved,
    /// Of these and earlier ones, what is not told yet.
    untold: Moved,
}

impl Tracked {
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
            told: false,
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
            read: Moved::default(),
            untold: Moved::default(),
        }
    }

    /// One whose socket a look found connected, at a time and ns since boot.
    pub(super) fn found(
        socket: &OpenSocket,
        number: u64,
        (opened, boot_ns): (Timestamp, u64),
        (direction, process): (Direction, Option<Arc<Process>>),
    ) -> Self {
        let ends = socket.ends;
        Self {
            number,
            opened,
            last_boot_ns: boot_ns,
            told: false,
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
            read: Moved::default(),
            untold: Moved::default(),
        }
    }

    /// Whether the kernel has begun to count it.
    pub(super) const fn is_counted(&self) -> bool {
        self.counted_from_boot_ns != 0
    }

    /// Its owner is known after all.
    pub(super) fn settle(&mut self, process: &Arc<Process>, source: UdpOwnerSource) {
        self.process = Some(Arc::clone(process));
        self.attribution = attribution(source, true);
    }

    /// The kernel's counts begin at `boot_ns`; true when they had begun before, and are lost.
    pub(super) const fn restart(&mut self, boot_ns: u64) -> bool {
        if self.counted_from_boot_ns == boot_ns {
            return false;
        }
        let lost = self.is_counted();
        self.counted_from_boot_ns = boot_ns;
        self.read =
            Moved { bytes_sent: 0, bytes_received: 0, packets_sent: 0, packets_received: 0 };
        lost
    }

    /// Takes the kernel's counts in, of which the latest datagram was at `last_boot_ns`; says
    /// whether they have begun again.
    pub(super) fn take(&mut self, counts: &FlowCounts, last_boot_ns: u64) -> bool {
        let restarted = self.restart(counts.first_boot_ns);
        let (read, untold) = (&mut self.read, &mut self.untold);
        untold.bytes_sent += counts.bytes_sent.saturating_sub(read.bytes_sent);
        untold.bytes_received += counts.bytes_received.saturating_sub(read.bytes_received);
        untold.packets_sent += counts.packets_sent.saturating_sub(read.packets_sent);
        untold.packets_received += counts.packets_received.saturating_sub(read.packets_received);
        *read = Moved {
            bytes_sent: counts.bytes_sent,
            bytes_received: counts.bytes_received,
            packets_sent: counts.packets_sent,
            packets_received: counts.packets_received,
        };
        // Never before the first, which is timed exactly.
        self.last_boot_ns = last_boot_ns.max(self.last_boot_ns);
        restarted
    }

    /// Whether there is something that was not told yet.
    pub(super) const fn has_moved(&self) -> bool {
        self.untold.packets_sent > 0 || self.untold.packets_received > 0
    }

    /// What happens to the flow. All but its beginning tells what it moved meanwhile.
    pub(super) fn change(
        &mut self,
        what: ChangeKind,
        time: Timestamp,
        computer: &Arc<str>,
        nobody: &Arc<Process>,
    ) -> Change {
        let (phase, moved) = match what {
            ChangeKind::Opened | ChangeKind::Established => (Phase::Opened, Moved::default()),
            ChangeKind::Translated => (Phase::Translated, Moved::default()),
            ChangeKind::Active => (Phase::Active, std::mem::take(&mut self.untold)),
            ChangeKind::Failed | ChangeKind::Closed => {
                (Phase::Closed, std::mem::take(&mut self.untold))
            }
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
            process: Arc::clone(self.process.as_ref().unwrap_or(nobody)),
            attribution: self.attribution,
            connections: 1,
            preexisting: self.preexisting,
            translated: None,
            bytes_sent: moved.bytes_sent,
            bytes_received: moved.bytes_received,
        };
        let mut change = Change::new(what, flow, self.number, self.netns);
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
