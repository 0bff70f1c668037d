//! Decode: bytes of the ring to `Record`.
//!
//! Total: any bytes give a record or an error, never a panic. Text stays bytes made lossily UTF-8:
//! names and arguments are hostile input, and whoever prints them escapes them.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod dns;
mod latency;
mod reader;
mod udp;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sensor_ebpf::record::{CGROUP_PATH_LEN, COMM_LEN, OwnerSource, RecordHeader, RecordKind};

pub use dns::Dns;
pub use latency::{
    ConnectionLatency, LatencyByDirection, LatencyCounts, TcpLatency, connection_latency,
};
use reader::Reader;
pub use udp::{FlowCounts, FlowKey, Udp, UdpFlow, UdpOwner, flow_counts};

/// Why a record is discarded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It ends too early.
    #[error("record too short: need {need} bytes at offset {at}, have {have}")]
    Short {
        /// Bytes wanted.
        need: usize,
        /// Where.
        at: usize,
        /// Bytes there.
        have: usize,
    },
    /// Its length field is not its length.
    #[error("record says {stated} bytes, has {actual}")]
    Length {
        /// The field.
        stated: usize,
        /// The truth.
        actual: usize,
    },
    /// Bytes are left over.
    #[error("record has {0} bytes more than its kind")]
    Trailing(usize),
    /// No such kind.
    #[error("unknown record kind {0}; object and agent are of different builds")]
    UnknownKind(u16),
    /// Neither IPv4 nor IPv6.
    #[error("unknown address family {0}")]
    UnknownFamily(u16),
    /// No such way of finding an owner.
    #[error("unknown owner source {0}")]
    UnknownOwnerSource(u32),
}

/// A task as the kernel told it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Task {
    /// Process id in the initial pid namespace; 0 for none.
    pub tgid: u32,
    /// Start of the process, ns since boot; 0 when unknown.
    pub start_boot_ns: u64,
    /// Real user id; `u32::MAX` when unknown.
    pub uid: u32,
    /// Process id of the parent, in exec and fork records; 0 when unknown.
    pub parent_tgid: u32,
    /// cgroup v2 id; 0 when unknown.
    pub cgroup_id: u64,
    /// Name of the thread.
    pub comm: String,
}

/// What a TCP record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpKind {
    /// The task called connect.
    Connect,
    /// The handshake is complete; inbound when it was a `SYN_RECV`.
    Established {
        /// Whether the other end called.
        inbound: bool,
    },
    /// The task owns an accepted connection.
    Owner(OwnerSource),
    /// The connection is over.
    Close,
    /// The task called listen.
    Listen,
    /// The listener is gone.
    Unlisten,
    /// The task called connect, which failed before a SYN was sent.
    ConnectFailed,
}

/// A TCP record. What its kind does not have is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tcp {
    /// What it says.
    pub kind: TcpKind,
    /// When, ns since boot.
    pub boot_ns: u64,
    /// Which socket: an address that is reused after the close.
    pub sk: u64,
    /// Socket cookie; 0 until someone asked for it.
    pub cookie: u64,
    /// Who, for connect (failed or not), owner and listen.
    pub task: Task,
    /// This end, IPv4-mapped as IPv4.
    pub local: IpAddr,
    /// This end's port; 0 at connect unless bound.
    pub local_port: u16,
    /// The other end, IPv4-mapped as IPv4.
    pub remote: IpAddr,
    /// The other end's port.
    pub remote_port: u16,
    /// State before (`TCP_*` of the kernel).
    pub old_state: u8,
    /// Network namespace, inode number; 0 when unknown.
    pub netns: u32,
    /// `sk_err` at close; errno of a connect that failed.
    pub error: u32,
    /// Smoothed RTT, microseconds; 0 when unknown.
    pub srtt_us: u32,
    /// Payload bytes sent, at close.
    pub bytes_sent: u64,
    /// Payload bytes received, at close.
    pub bytes_received: u64,
}

/// A new image in a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// When, ns since boot.
    pub boot_ns: u64,
    /// The task, with its new name.
    pub task: Task,
    /// Absolute path of the executable; "" when unknown. Begins with `…/` when it was cut.
    pub path: String,
    /// Arguments joined by spaces; ends with ` …` when they were cut.
    pub command_line: String,
}

/// A new process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// When, ns since boot.
    pub boot_ns: u64,
    /// The process that forked.
    pub parent: Task,
    /// The new one.
    pub child_tgid: u32,
    /// Its start, ns since boot; 0 when unknown.
    pub child_start_boot_ns: u64,
}

/// The end of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// When, ns since boot.
    pub boot_ns: u64,
    /// Which.
    pub tgid: u32,
    /// Its start, ns since boot; 0 when unknown.
    pub start_boot_ns: u64,
}

/// A new cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupMkdir {
    /// cgroup v2 id.
    pub id: u64,
    /// From the root of the hierarchy.
    pub path: String,
}

/// What the kernel half says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// About a TCP socket.
    Tcp(Box<Tcp>),
    /// About the turns of a TCP socket that is about to close.
    Latency(Box<TcpLatency>),
    /// About a process.
    Exec(Exec),
    /// About a process.
    Fork(Fork),
    /// About a process.
    Exit(Exit),
    /// About a cgroup.
    CgroupMkdir(CgroupMkdir),
    /// About a UDP flow or socket.
    Udp(Box<Udp>),
    /// A DNS answer.
    Dns(Dns),
}

/// Decodes one record.
pub fn record(bytes: &[u8]) -> Result<Record, DecodeError> {
    let mut reader = Reader::new(bytes);
    let header = header(&mut reader)?;
    if usize::from(header.len) != bytes.len() {
        return Err(DecodeError::Length { stated: header.len.into(), actual: bytes.len() });
    }
    let kind = RecordKind::from_raw(header.kind).ok_or(DecodeError::UnknownKind(header.kind))?;
    let record = match kind {
        RecordKind::TcpLatency => Record::Latency(Box::new(latency::record(&mut reader)?)),
        RecordKind::ProcessExec => Record::Exec(exec(&mut reader, &header)?),
        RecordKind::ProcessFork => Record::Fork(fork(&mut reader, &header)?),
        RecordKind::ProcessExit => Record::Exit(exit(&mut reader, &header)?),
        RecordKind::CgroupMkdir => Record::CgroupMkdir(CgroupMkdir {
            id: reader.u64()?,
            path: until_nul(&reader.array::<CGROUP_PATH_LEN>()?),
        }),
        RecordKind::UdpFlow | RecordKind::UdpOwner | RecordKind::UdpRelease => {
            Record::Udp(Box::new(udp::udp(&mut reader, kind, &header)?))
        }
        RecordKind::DnsAnswer => Record::Dns(dns::dns(&mut reader, &header)?),
        _ => Record::Tcp(Box::new(tcp(&mut reader, kind, &header)?)),
    };
    match reader.remaining() {
        0 => Ok(record),
        left => Err(DecodeError::Trailing(left)),
    }
}

fn header(reader: &mut Reader<'_>) -> Result<RecordHeader, DecodeError> {
    Ok(RecordHeader {
        kind: reader.u16()?,
        len: reader.u16()?,
        detail: reader.u32()?,
        boot_ns: reader.u64()?,
    })
}

fn task(reader: &mut Reader<'_>) -> Result<Task, DecodeError> {
    let tgid = reader.u32()?;
    let _tid = reader.u32()?;
    Ok(Task {
        tgid,
        start_boot_ns: reader.u64()?,
        uid: reader.u32()?,
        parent_tgid: reader.u32()?,
        cgroup_id: reader.u64()?,
        comm: until_nul(&reader.array::<COMM_LEN>()?),
    })
}

fn tcp(
    reader: &mut Reader<'_>,
    kind: RecordKind,
    header: &RecordHeader,
) -> Result<Tcp, DecodeError> {
    let (sk, cookie, task) = (reader.u64()?, reader.u64()?, task(reader)?);
    let (local, remote) = (reader.array::<16>()?, reader.array::<16>()?);
    let (local_port, remote_port) = (reader.u16()?, reader.u16()?);
    let family = reader.u16()?;
    let (old_state, _new_state) = (reader.u8()?, reader.u8()?);
    let kind = tcp_kind(kind, old_state, header.detail)?;
    // An owner record says whose a socket is, and may have no addresses.
    let family = match (kind, family) {
        (TcpKind::Owner(_), 0) => AF_INET,
        (_, family) => family,
    };
    let (netns, error, srtt_us, _padding) =
        (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
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
        | RecordKind::DnsAnswer => {
            return Err(DecodeError::UnknownKind(kind as u16));
        }
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

fn exec(reader: &mut Reader<'_>, header: &RecordHeader) -> Result<Exec, DecodeError> {
    let task = task(reader)?;
    let (path_len, args_len) = (reader.u16()?, reader.u16()?);
    let (path_cut, args_cut) = (reader.u16()? != 0, reader.u16()? != 0);
    let path = path(reader.bytes(path_len.into())?, path_cut);
    let command_line = command_line(reader.bytes(args_len.into())?, args_cut);
    Ok(Exec { boot_ns: header.boot_ns, task, path, command_line })
}

/// Components, innermost first, each closed by NUL, to a path.
fn path(components: &[u8], cut: bool) -> String {
    let mut path = String::new();
    let components = components.strip_suffix(&[0]).unwrap_or(components);
    if components.is_empty() {
        return path;
    }
    if cut {
        path.push('…');
    }
    for component in components.rsplit(|byte| *byte == 0) {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(component));
    }
    path
}

/// Arguments, each closed by NUL, to a line; of exec records and of /proc.
pub(crate) fn command_line(arguments: &[u8], cut: bool) -> String {
    let arguments = arguments.strip_suffix(&[0]).unwrap_or(arguments);
    let mut line = String::from_utf8_lossy(arguments).replace('\0', " ");
    if cut {
        line.push_str(" …");
    }
    line
}

fn fork(reader: &mut Reader<'_>, header: &RecordHeader) -> Result<Fork, DecodeError> {
    let parent = task(reader)?;
    let child_tgid = reader.u32()?;
    let _padding = reader.u32()?;
    Ok(Fork { boot_ns: header.boot_ns, parent, child_tgid, child_start_boot_ns: reader.u64()? })
}

fn exit(reader: &mut Reader<'_>, header: &RecordHeader) -> Result<Exit, DecodeError> {
    let tgid = reader.u32()?;
    let _padding = reader.u32()?;
    Ok(Exit { boot_ns: header.boot_ns, tgid, start_boot_ns: reader.u64()? })
}

fn until_nul(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
