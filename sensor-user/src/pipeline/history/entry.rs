//! `Entry`: what the connections of one kind have in common, as it stands on disk.

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

/// A process and the end of a service that it talks to, or offers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Entry {
    computer: String,
    direction: Direction,
    protocol: Protocol,
    local: IpAddr,
    /// Port of the end that was called.
    service_port: Option<u16>,
    remote: IpAddr,
    /// What the connection is translated to.
    translated: Option<Ends>,
    /// Only what is behind the translation is new; the connection itself is in another entry.
    is_translation: bool,
    attribution: Attribution,
    process: Image,
}

/// [`NatMapping`] in the form of this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Ends {
    local: SocketAddr,
    remote: SocketAddr,
}

/// [`Process`] in the form of this file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Image {
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

impl From<&Flow> for Entry {
    fn from(flow: &Flow) -> Self {
        let process = &*flow.process;
        Self {
            computer: flow.computer.to_string(),
            direction: flow.direction,
            protocol: flow.protocol,
            local: flow.local,
            service_port: flow.destination_port(),
            remote: flow.remote,
            translated: flow.translated.map(|it| Ends {
                local: SocketAddr::new(it.local_ip, it.local_port),
                remote: SocketAddr::new(it.remote_ip, it.remote_port),
            }),
            is_translation: flow.phase == Phase::Translated,
            attribution: flow.attribution,
            process: Image {
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

impl Entry {
    /// A flow of this kind as it was when it opened, at `time`; `port` is that of the end that
    /// began.
    pub(super) fn flow(&self, time: Timestamp, port: Option<u16>) -> Flow {
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

/// Of hashes that stay in memory: processes choose what is hashed.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// What is the same of a connection before and after a restart of the agent.
pub(super) fn tie(flow: &Flow) -> u64 {
    let (remote, port) = (flow.remote, flow.destination_port());
    SEED.hash_one((flow.direction, flow.protocol, remote, port, flow.process.pid))
}

/// Tells the kinds of a flow apart without making an [`Entry`]: the same for equal ones.
pub(super) fn kind(flow: &Flow) -> u64 {
    let process = &*flow.process;
    let mut hasher = SEED.build_hasher();
    (flow.direction, flow.protocol, flow.local, flow.destination_port(), flow.remote)
        .hash(&mut hasher);
    (flow.translated, flow.phase == Phase::Translated, flow.attribution).hash(&mut hasher);
    (process.pid, process.start_boot_ns, process.executable(), &process.container_id)
        .hash(&mut hasher);
    (&process.command_line, &process.user_name, &process.parent_name).hash(&mut hasher);
    hasher.finish()
}

/// Tells indicators apart.
pub(super) fn indicator_hash(hit: &Hit) -> u64 {
    let mut hasher = XxHash3_64::with_seed(0);
    (&*hit.indicator.feed, &hit.indicator.id).hash(&mut hasher);
    hasher.finish()
}
