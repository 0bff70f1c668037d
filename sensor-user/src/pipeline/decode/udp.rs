//! UDP: records of flows and owners, and the kernel's counts of each flow.

use std::net::IpAddr;

use sensor_ebpf::record::{
    FLOW_COUNTS_LEN, FLOW_KEY_LEN, RecordHeader, RecordKind, UdpOwnerSource,
};

use super::DecodeError;
use super::process::Task;
use super::reader::ByteReader;

/// Key of a flow: one for each socket, port of that socket, and remote end. A socket gets another port
/// after it was disconnected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Socket cookie, which is never reused until the next boot.
    pub cookie: u64,
    /// Remote address, IPv4-mapped as IPv4.
    pub remote: IpAddr,
    /// Remote port of the flow.
    pub remote_port: u16,
    /// Port of the socket.
    pub local_port: u16,
}

impl FlowKey {
    /// Encodes the key for a lookup in the kernel's map.
    pub fn to_bytes(&self) -> [u8; FLOW_KEY_LEN] {
        let remote = match self.remote {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut bytes = [0; FLOW_KEY_LEN];
        let fields = self
            .cookie
            .to_ne_bytes()
            .into_iter()
            .chain(remote.octets())
            .chain(self.remote_port.to_ne_bytes())
            .chain(self.local_port.to_ne_bytes());
        for (slot, byte) in bytes.iter_mut().zip(fields) {
            *slot = byte;
        }
        bytes
    }

    /// Identifies the socket with its port; 0 if its cookie is unknown. Cookies are numbered from both
    /// ends (`include/linux/cookie.h: gen_cookie_next`): the lower 48 bits are as unique as the whole.
    pub const fn socket_id(&self) -> u64 {
        if self.cookie == 0 { 0 } else { self.cookie << 16 | self.local_port as u64 }
    }

    fn read(reader: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        let (cookie, remote) = (reader.u64()?, reader.address()?);
        let (remote_port, local_port) = (reader.u16()?, reader.u16()?);
        reader.skip::<4>()?;
        Ok(Self { cookie, remote, remote_port, local_port })
    }
}

/// Counts of a flow since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlowCounts {
    /// Time of the first datagram, ns since boot: it distinguishes flows with the same key.
    pub first_boot_ns: u64,
    /// Time of the latest datagram, ns of `CLOCK_MONOTONIC`, rounded to the kernel's tick.
    pub last_monotonic_ns: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Number of datagrams sent.
    pub packets_sent: u64,
    /// Number of datagrams received.
    pub packets_received: u64,
}

impl FlowCounts {
    /// Decodes a value of the kernel's map.
    pub fn from_bytes(bytes: &[u8; FLOW_COUNTS_LEN]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(bytes);
        Ok(Self {
            first_boot_ns: reader.u64()?,
            last_monotonic_ns: reader.u64()?,
            bytes_sent: reader.u64()?,
            bytes_received: reader.u64()?,
            packets_sent: reader.u64()?,
            packets_received: reader.u64()?,
        })
    }
}

/// A record of a UDP flow or socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Udp {
    /// The first datagram of a flow.
    Flow(UdpFlow),
    /// The first read or write of a task on a flow.
    Owner(UdpOwner),
    /// The kernel refused to send a datagram of a flow that has no other.
    Refused(FlowKey),
    /// The close of a socket, which ends its flows.
    Release {
        /// Time of the close, ns since boot.
        boot_ns: u64,
        /// Socket cookie of the closed socket.
        cookie: u64,
    },
}

/// Owner of a flow whose owner was unresolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpOwner {
    /// Time of the read or write, ns since boot.
    pub boot_ns: u64,
    /// Key of the flow. Port 0 stands for every unresolved flow of the socket with this direction;
    /// of sent flows, those with this process in `on_cpu_tgid` take precedence.
    pub key: FlowKey,
    /// Task that owns the flow.
    pub task: Task,
    /// Source of the owner.
    pub source: UdpOwnerSource,
    /// True if the task read, false if it wrote.
    pub inbound: bool,
}

/// Start of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpFlow {
    /// Time of the first datagram, ns since boot.
    pub boot_ns: u64,
    /// Key of the flow.
    pub key: FlowKey,
    /// Task of the flow, as far as known; empty if the source is `Unknown`.
    pub task: Task,
    /// Source of the task.
    pub source: UdpOwnerSource,
    /// Local address, IPv4-mapped as IPv4.
    pub local: IpAddr,
    /// Local port of the datagram. Where this host translates its source (SNAT), that of the translation.
    pub local_port: u16,
    /// True if the first datagram was received.
    pub inbound: bool,
    /// True if the task is the owner; otherwise it is a guess until an owner record.
    pub owner_resolved: bool,
    /// Network namespace, inode number; 0 if unknown.
    pub netns: u32,
    /// Process id of the task on the CPU when a sent flow began, usually the sender; 0 for a
    /// received flow.
    pub on_cpu_tgid: u32,
}

pub(super) fn udp(
    reader: &mut ByteReader<'_>,
    kind: RecordKind,
    header: &RecordHeader,
) -> Result<Udp, DecodeError> {
    let boot_ns = header.boot_ns;
    if kind == RecordKind::UdpRelease {
        return Ok(Udp::Release { boot_ns, cookie: reader.u64()? });
    }
    let key = FlowKey::read(reader)?;
    if kind == RecordKind::UdpRefused {
        return Ok(Udp::Refused(key));
    }
    let task = Task::read(reader)?;
    let source = UdpOwnerSource::from_raw(header.detail)
        .ok_or(DecodeError::UnknownOwnerSource(header.detail))?;
    let (local, local_port) = (reader.address()?, reader.u16()?);
    let (inbound, owner_resolved) = (reader.u8()? != 0, reader.u8()? != 0);
    let (netns, on_cpu_tgid) = (reader.u32()?, reader.u32()?);
    reader.skip::<4>()?;
    if kind == RecordKind::UdpOwner {
        return Ok(Udp::Owner(UdpOwner { boot_ns, key, task, source, inbound }));
    }
    Ok(Udp::Flow(UdpFlow {
        boot_ns,
        key,
        task,
        source,
        local,
        local_port,
        inbound,
        owner_resolved,
        netns,
        on_cpu_tgid,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_encoding() {
        for remote in ["203.0.113.7", "2001:db8::7"] {
            let key = FlowKey {
                cookie: 9,
                remote: remote.parse().unwrap(),
                remote_port: 53,
                local_port: 7,
            };
            let bytes = key.to_bytes();
            assert_eq!(FlowKey::read(&mut ByteReader::new(&bytes)), Ok(key));
            assert_eq!(bytes[28..], [0; 4], "padding");
        }
        let v4 =
            FlowKey { cookie: 0, remote: [203, 0, 113, 7].into(), remote_port: 0, local_port: 0 };
        assert_eq!(v4.to_bytes()[8..24], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 203, 0, 113, 7]);
    }

    #[test]
    fn counts_are_read_in_their_order() {
        let mut bytes = [0; FLOW_COUNTS_LEN];
        for (index, chunk) in bytes.chunks_mut(8).enumerate() {
            chunk.copy_from_slice(&(index as u64 + 1).to_ne_bytes());
        }
        let expected = FlowCounts {
            first_boot_ns: 1,
            last_monotonic_ns: 2,
            bytes_sent: 3,
            bytes_received: 4,
            packets_sent: 5,
            packets_received: 6,
        };
        assert_eq!(FlowCounts::from_bytes(&bytes), Ok(expected));
    }
}
