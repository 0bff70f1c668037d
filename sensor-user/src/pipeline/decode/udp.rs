//! UDP: records of flows, and the counts that the kernel keeps of each.

use std::net::{IpAddr, Ipv6Addr};

use sensor_ebpf::record::{
    FLOW_COUNTS_LEN, FLOW_KEY_LEN, RecordHeader, RecordKind, UdpOwnerSource,
};

use super::reader::Reader;
use super::{DecodeError, Task, task};

/// Which flow: one for each socket and remote end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Socket cookie: no other socket of this boot has it.
    pub cookie: u64,
    /// The other end, IPv4-mapped as IPv4.
    pub remote: IpAddr,
    /// Its port.
    pub remote_port: u16,
}

impl FlowKey {
    /// As the kernel's map has it.
    pub fn bytes(&self) -> [u8; FLOW_KEY_LEN] {
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
            .chain(self.remote_port.to_ne_bytes());
        for (slot, byte) in bytes.iter_mut().zip(fields) {
            *slot = byte;
        }
        bytes
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let cookie = reader.u64()?;
        let remote = Ipv6Addr::from(reader.array::<16>()?).to_canonical();
        let remote_port = reader.u16()?;
        let _padding = reader.array::<6>()?;
        Ok(Self { cookie, remote, remote_port })
    }
}

/// What the kernel has counted of a flow since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlowCounts {
    /// Time of the first datagram, ns since boot: tells a flow from an earlier one of its key.
    pub first_boot_ns: u64,
    /// Time of the latest one, ns of `CLOCK_MONOTONIC`, to the tick.
    pub last_monotonic_ns: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Datagrams sent.
    pub packets_sent: u64,
    /// Datagrams received.
    pub packets_received: u64,
}

/// Decodes a value of the kernel's map of flows.
pub fn flow_counts(bytes: &[u8; FLOW_COUNTS_LEN]) -> Result<FlowCounts, DecodeError> {
    let mut reader = Reader::new(bytes);
    Ok(FlowCounts {
        first_boot_ns: reader.u64()?,
        last_monotonic_ns: reader.u64()?,
        bytes_sent: reader.u64()?,
        bytes_received: reader.u64()?,
        packets_sent: reader.u64()?,
        packets_received: reader.u64()?,
    })
}

/// What a UDP record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Udp {
    /// A flow has had its first datagram.
    Flow(UdpFlow),
    /// The task was first to read or write on a flow.
    Owner(UdpOwner),
    /// A socket is closed, and its flows with it.
    Release {
        /// When, ns since boot.
        boot_ns: u64,
        /// Socket cookie.
        cookie: u64,
    },
}

/// Whose a flow is that was not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpOwner {
    /// Which; with port 0, every flow of that socket that is not settled and has this direction (of
    /// those that were sent, the ones with this process on the CPU, if there are any).
    pub key: FlowKey,
    /// Who.
    pub task: Task,
    /// How that is known.
    pub source: UdpOwnerSource,
    /// Whether it read; otherwise it wrote.
    pub inbound: bool,
}

/// The beginning of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpFlow {
    /// Time of the first datagram, ns since boot.
    pub boot_ns: u64,
    /// Which.
    pub key: FlowKey,
    /// Who, as far as it is known: nobody where the source is `Unknown`.
    pub task: Task,
    /// How that is known.
    pub source: UdpOwnerSource,
    /// This end, IPv4-mapped as IPv4.
    pub local: IpAddr,
    /// This end's port.
    pub local_port: u16,
    /// Whether the first datagram was received.
    pub inbound: bool,
    /// Whether the task is the owner; otherwise it stands in until one is told.
    pub owner_resolved: bool,
    /// Network namespace, inode number; 0 when unknown.
    pub netns: u32,
    /// Of one that was sent: process id of the task on the CPU, mostly the sender; otherwise 0.
    pub on_cpu_tgid: u32,
}

pub(super) fn udp(
    reader: &mut Reader<'_>,
    kind: RecordKind,
    header: &RecordHeader,
) -> Result<Udp, DecodeError> {
    if kind == RecordKind::UdpRelease {
        return Ok(Udp::Release { boot_ns: header.boot_ns, cookie: reader.u64()? });
    }
    let key = FlowKey::read(reader)?;
    let task = task(reader)?;
    let source = UdpOwnerSource::from_raw(header.detail)
        .ok_or(DecodeError::UnknownOwnerSource(header.detail))?;
    let local = Ipv6Addr::from(reader.array::<16>()?).to_canonical();
    let (local_port, inbound, owner_resolved) =
        (reader.u16()?, reader.u8()? != 0, reader.u8()? != 0);
    let (netns, on_cpu_tgid, _padding) = (reader.u32()?, reader.u32()?, reader.u32()?);
    if kind == RecordKind::UdpOwner {
        return Ok(Udp::Owner(UdpOwner { key, task, source, inbound }));
    }
    Ok(Udp::Flow(UdpFlow {
        boot_ns: header.boot_ns,
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
    fn a_key_is_the_same_in_both_forms() {
        for remote in ["203.0.113.7", "2001:db8::7"] {
            let key = FlowKey { cookie: 9, remote: remote.parse().unwrap(), remote_port: 53 };
            let bytes = key.bytes();
            assert_eq!(FlowKey::read(&mut Reader::new(&bytes)), Ok(key));
            assert_eq!(bytes[26..], [0; 6], "padding");
        }
        let v4 = FlowKey { cookie: 0, remote: [203, 0, 113, 7].into(), remote_port: 0 };
        assert_eq!(v4.bytes()[8..24], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 203, 0, 113, 7]);
    }

    #[test]
    fn counts_are_read_in_their_order() {
        let mut bytes = [0; FLOW_COUNTS_LEN];
        for (place, chunk) in bytes.chunks_mut(8).enumerate() {
            chunk.copy_from_slice(&(place as u64 + 1).to_ne_bytes());
        }
        let counts = flow_counts(&bytes).unwrap();
        let of = |it: FlowCounts| {
            [
                it.first_boot_ns,
                it.last_monotonic_ns,
                it.bytes_sent,
                it.bytes_received,
                it.packets_sent,
            ]
        };
        assert_eq!((of(counts), counts.packets_received), ([1, 2, 3, 4, 5], 6));
    }
}
