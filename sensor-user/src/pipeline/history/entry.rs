//! `HistoryEntry`: properties that connections have in common, in the form of the file.

use std::hash::{BuildHasher as _, Hash, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};

use foldhash::quality::RandomState;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::base::protocol::Protocol;
use crate::pipeline::aggregate::{Attribution, Direction, Flow, NatMapping, Phase};
use crate::pipeline::enrich::Process;
use crate::pipeline::matcher::Hit;

/// Process, remote address and service of connections. The fields and their order are the format of
/// the file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct HistoryEntry {
    computer: String,
    direction: Direction,
    protocol: Protocol,
    local: IpAddr,
    /// Port of the called end.
    service_port: Option<u16>,
    remote: IpAddr,
    /// NAT mapping of the connection.
    translated: Option<StoredNatMapping>,
    /// True if the entry is for the mapping alone; the connection itself is in another entry.
    is_translation: bool,
    attribution: Attribution,
    process: StoredProcess,
}

/// [`NatMapping`] in the form of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct StoredNatMapping {
    local: SocketAddr,
    remote: SocketAddr,
}

/// [`Process`] in the form of the file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct StoredProcess {
    pid: Option<u32>,
    start_boot_ns: u64,
    parent_pid: Option<u32>,
    parent_name: String,
    name: String,
    path: String,
    command_line: String,
    uid: Option<u32>,
    user_name: String,
    cgroup_id: u64,
    container_id: String,
}

impl From<&Flow> for HistoryEntry {
    fn from(flow: &Flow) -> Self {
        let process = &*flow.process;
        Self {
            computer: flow.computer.to_string(),
            direction: flow.direction,
            protocol: flow.protocol,
            local: flow.local,
            service_port: flow.destination_port(),
            remote: flow.remote,
            translated: flow.translated.map(|it| StoredNatMapping {
                local: SocketAddr::new(it.local_ip, it.local_port),
                remote: SocketAddr::new(it.remote_ip, it.remote_port),
            }),
            is_translation: flow.phase == Phase::Translated,
            attribution: flow.attribution,
            process: StoredProcess {
                pid: process.pid,
                start_boot_ns: process.start_boot_ns,
                parent_pid: process.parent_pid,
                parent_name: process.parent_name.clone(),
                name: process.name.clone(),
                path: process.path.clone(),
                command_line: process.command_line.clone(),
                uid: process.uid,
                user_name: process.user_name.clone(),
                cgroup_id: process.cgroup_id,
                container_id: process.container_id.clone(),
            },
        }
    }
}

impl HistoryEntry {
    /// Flow of a connection that opened at `time`; `port` is that of the opening end.
    pub(super) fn to_flow(&self, time: Timestamp, port: Option<u16>) -> Flow {
        let process = self.process.clone();
        let (local_port, remote_port) = match self.direction {
            Direction::Inbound => (self.service_port, port),
            Direction::Outbound => (port, self.service_port),
        };
        Flow {
            time,
            phase: if self.is_translation { Phase::Translated } else { Phase::Opened },
            computer: self.computer.as_str().into(),
            direction: self.direction,
            protocol: self.protocol,
            local: self.local,
            local_port,
            remote: self.remote,
            remote_port,
            process: Arc::new(Process {
                pid: process.pid,
                start_boot_ns: process.start_boot_ns,
                parent_pid: process.parent_pid,
                parent_name: process.parent_name,
                name: process.name,
                path: process.path,
                command_line: process.command_line,
                uid: process.uid,
                user_name: process.user_name,
                cgroup_id: process.cgroup_id,
                container_id: process.container_id,
            }),
            attribution: self.attribution,
            connections: 1,
            preexisting: false,
            translated: self.translated.map(|it| NatMapping {
                local_ip: it.local.ip(),
                local_port: it.local.port(),
                remote_ip: it.remote.ip(),
                remote_port: it.remote.port(),
            }),
            bytes_sent: 0,
            bytes_received: 0,
        }
    }
}

/// Seed of hashes in memory. It is random, since processes control the input.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// Hash of the properties that a connection has before and after a restart of the agent.
pub(super) fn restart_key(flow: &Flow) -> u64 {
    restart_key_as(flow, flow.phase)
}

/// [`restart_key`] of the entry for a connection itself, or of that for its mapping (`Translated`).
pub(super) fn restart_key_as(flow: &Flow, phase: Phase) -> u64 {
    let (remote, port) = (flow.remote, flow.destination_port());
    let is_translation = phase == Phase::Translated;
    SEED.hash_one((flow.direction, flow.protocol, remote, port, flow.process.pid, is_translation))
}

/// Hash of the [`HistoryEntry`] of a flow in another phase, or before its mapping was known, computed
/// without creating it.
pub(super) fn entry_key(flow: &Flow, translated: Option<NatMapping>, phase: Phase) -> u64 {
    let process = &*flow.process;
    let mut hasher = SEED.build_hasher();
    (flow.direction, flow.protocol, flow.local, flow.destination_port(), flow.remote)
        .hash(&mut hasher);
    (translated, phase == Phase::Translated, flow.attribution).hash(&mut hasher);
    (process.pid, process.start_boot_ns, process.executable(), &process.container_id)
        .hash(&mut hasher);
    (&process.command_line, &process.user_name, &process.parent_name).hash(&mut hasher);
    hasher.finish()
}

/// Hash of an indicator's feed and id. It is in the files, so its seed is fixed.
pub(super) fn indicator_hash(hit: &Hit) -> u64 {
    let mut hasher = XxHash3_64::with_seed(0);
    (&*hit.indicator.feed, &hit.indicator.id).hash(&mut hasher);
    hasher.finish()
}
