//! Records of TCP sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sensor_ebpf::record::{CONNECT_RESTORED, OwnerSource, RecordHeader, RecordKind};

use super::DecodeError;
use super::process::Task;
use super::reader::ByteReader;

/// Kind of a TCP record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpKind {
    /// The task called connect. A kernel thread that did so is no task: it acts for another.
    Connect,
    /// The handshake is complete.
    Established {
        /// True if the remote end connected: the state before was `SYN_RECV`.
        inbound: bool,
    },
    /// The task owns an accepted connection.
    Owner(OwnerSource),
    /// The connection is closed.
    Close,
    /// The task called listen.
    Listen,
    /// The listener is closed.
    Unlisten,
    /// The task called connect, which failed before a SYN was sent.
    ConnectFailed,
}

/// A TCP record. Fields that its kind does not have are zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tcp {
    /// Kind of the record.
    pub kind: TcpKind,
    /// Time of the event, ns since boot.
    pub boot_ns: u64,
    /// Address of the kernel's `struct sock`, which is reused after the close.
    pub sk: u64,
    /// Socket cookie; 0 until it is first requested in the kernel.
    pub cookie: u64,
    /// Task of connect (failed or not), owner and listen records.
    pub task: Task,
    /// Local address, IPv4-mapped as IPv4.
    pub local: IpAddr,
    /// Local port; 0 at connect unless bound.
    pub local_port: u16,
    /// Remote address, IPv4-mapped as IPv4.
    pub remote: IpAddr,
    /// Remote port of the connection.
    pub remote_port: u16,
    /// State before the event (`TCP_*` of the kernel).
    pub old_state: u8,
    /// Network namespace, inode number; 0 if unknown.
    pub netns: u32,
    /// `sk_err` at close; errno of a failed connect.
    pub error: u32,
    /// Smoothed round-trip time, microseconds; 0 if unknown.
    pub srtt_us: u32,
    /// Payload bytes sent, at close.
    pub bytes_sent: u64,
    /// Payload bytes received, at close.
    pub bytes_received: u64,
    /// Address of the MPTCP socket that the socket is a subflow of; 0 for others, and in records
    /// other than of connect and establishment.
    pub mptcp: u64,
    /// True if the connection is restored, not opened (`TCP_REPAIR`).
    pub is_restored: bool,
}

pub(super) fn tcp(
    reader: &mut ByteReader<'_>,
    kind: RecordKind,
    header: &RecordHeader,
) -> Result<Tcp, DecodeError> {
    let (sk, cookie, task) = (reader.u64()?, reader.u64()?, Task::read(reader)?);
    let (local, remote) = (reader.array::<16>()?, reader.array::<16>()?);
    let (local_port, remote_port) = (reader.u16()?, reader.u16()?);
    let family = reader.u16()?;
    let (old_state, _new_state) = (reader.u8()?, reader.u8()?);
    let kind = tcp_kind(kind, old_state, header.detail)?;
    // An owner record identifies the socket by `sk`, and may have no addresses.
    let family = match (kind, family) {
        (TcpKind::Owner(_), 0) => AF_INET,
        (_, family) => family,
    };
    let (netns, error, srtt_us) = (reader.u32()?, reader.u32()?, reader.u32()?);
    reader.skip::<4>()?;
    Ok(Tcp {
        kind,
        boot_ns: header.boot_ns,
        sk,
        cookie,
        task,
        local: address(family, local)?,
        local_port,
        remote: address(family, remote)?,
        remote_port,
        old_state,
        netns,
        error,
        srtt_us,
        bytes_sent: reader.u64()?,
        bytes_received: reader.u64()?,
        mptcp: reader.u64()?,
        is_restored: kind == TcpKind::Connect && header.detail == CONNECT_RESTORED,
    })
}

/// `TCP_SYN_RECV`, `include/net/tcp_states.h`.
const TCP_SYN_RECV: u8 = 3;

fn tcp_kind(kind: RecordKind, old_state: u8, detail: u32) -> Result<TcpKind, DecodeError> {
    Ok(match kind {
        RecordKind::TcpConnect => TcpKind::Connect,
        RecordKind::TcpEstablished => TcpKind::Established { inbound: old_state == TCP_SYN_RECV },
        RecordKind::TcpOwner => TcpKind::Owner(
            OwnerSource::from_raw(detail).ok_or(DecodeError::UnknownOwnerSource(detail))?,
        ),
        RecordKind::TcpClose => TcpKind::Close,
        RecordKind::TcpListen => TcpKind::Listen,
        RecordKind::TcpUnlisten => TcpKind::Unlisten,
        RecordKind::TcpConnectFailed => TcpKind::ConnectFailed,
        RecordKind::TcpLatency
        | RecordKind::ProcessExec
        | RecordKind::ProcessFork
        | RecordKind::ProcessExit
        | RecordKind::CgroupMkdir
        | RecordKind::UdpFlow
        | RecordKind::UdpOwner
        | RecordKind::UdpRelease
        | RecordKind::UdpRefused
        | RecordKind::DnsAnswer => return Err(DecodeError::UnknownKind(kind as u16)),
    })
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

fn address(family: u16, bytes: [u8; 16]) -> Result<IpAddr, DecodeError> {
    let [a, b, c, d, ..] = bytes;
    match family {
        AF_INET => Ok(Ipv4Addr::new(a, b, c, d).into()),
        AF_INET6 => Ok(Ipv6Addr::from(bytes).to_canonical()),
        other => Err(DecodeError::UnknownFamily(other)),
    }
}
