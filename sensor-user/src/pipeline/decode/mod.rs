//! Decode: from the bytes of the ring buffer to `Record`.
//!
//! Any bytes result in a record or an error, never in a panic. Text is decoded as UTF-8 with
//! replacement characters: names and arguments are hostile input, and code that prints them must
//! escape them.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod dns;
mod latency;
mod process;
mod reader;
mod tcp;
mod udp;

use sensor_ebpf::record::{RecordHeader, RecordKind};

pub use dns::Dns;
pub use latency::{
    ConnectionLatency, LatencyByDirection, LatencyCounts, PendingResponse, TcpLatency,
};
pub(crate) use process::command_line;
pub use process::{CgroupMkdir, Exec, Exit, Fork, Task};
use reader::ByteReader;
pub use tcp::{Tcp, TcpKind};
pub use udp::{FlowCounts, FlowKey, Udp, UdpFlow, UdpOwner};

/// Why a record is discarded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The record ends early.
    #[error("record too short: need {need} bytes at offset {offset}, have {have}")]
    Short {
        /// Number of bytes required.
        need: usize,
        /// Offset of the field.
        offset: usize,
        /// Number of bytes left.
        have: usize,
    },
    /// A length field differs from the actual length.
    #[error("record states a length of {stated} bytes, has {actual}")]
    Length {
        /// Length in the field.
        stated: usize,
        /// Actual length, bytes.
        actual: usize,
    },
    /// The record has more bytes than its kind.
    #[error("record has {0} bytes more than its kind")]
    Trailing(usize),
    /// The kind of the record is unknown.
    #[error("unknown record kind {0}; object and agent are of different builds")]
    UnknownKind(u16),
    /// The address family is neither IPv4 nor IPv6.
    #[error("unknown address family {0}")]
    UnknownFamily(u16),
    /// The source of the owner is unknown.
    #[error("unknown owner source {0}")]
    UnknownOwnerSource(u32),
}

/// A record of the BPF programs.
///
/// ```
/// # use sensor_ebpf::record::RecordKind;
/// # use sensor_user::pipeline::decode::{DecodeError, Record, TcpKind};
/// // `TcpRecord` of the kernel half: curl (process 4242) connects to 203.0.113.7:443.
/// let bytes = [
///     // Header: kind, length of the record, detail, time.
///     &(RecordKind::TcpConnect as u16).to_ne_bytes()[..],
///     &160_u16.to_ne_bytes(),
///     &0_u32.to_ne_bytes(),
///     &5_000_000_000_u64.to_ne_bytes(),
///     // Address of the `struct sock`, and socket cookie.
///     &0xffff_8880_1234_5600_u64.to_ne_bytes(),
///     &7_u64.to_ne_bytes(),
///     // Task: process, thread, start time, user, parent, cgroup, name.
///     &4242_u32.to_ne_bytes(),
///     &4242_u32.to_ne_bytes(),
///     &4_900_000_000_u64.to_ne_bytes(),
///     &1000_u32.to_ne_bytes(),
///     &0_u32.to_ne_bytes(),
///     &81_u64.to_ne_bytes(),
///     b"curl\0\0\0\0\0\0\0\0\0\0\0\0",
///     // Addresses and ports, family (AF_INET), state before (CLOSE) and after (SYN_SENT).
///     &[192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
///     &[203, 0, 113, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
///     &40_000_u16.to_ne_bytes(),
///     &443_u16.to_ne_bytes(),
///     &2_u16.to_ne_bytes(),
///     &[7, 2],
///     // Network namespace, error, RTT, padding, bytes sent and received, MPTCP socket.
///     &4_026_531_840_u32.to_ne_bytes(),
///     &[0; 12],
///     &[0; 16],
///     &[0; 8],
/// ]
/// .concat();
///
/// let Record::Tcp(tcp) = Record::from_bytes(&bytes)? else { panic!("a TCP record") };
/// assert_eq!((tcp.kind, tcp.task.tgid, &*tcp.task.comm), (TcpKind::Connect, 4242, "curl"));
/// assert_eq!((tcp.remote.to_string(), tcp.remote_port), ("203.0.113.7".to_owned(), 443));
///
/// let truncated = Record::from_bytes(&bytes[..100]);
/// assert_eq!(truncated, Err(DecodeError::Length { stated: 160, actual: 100 }));
/// # Ok::<(), DecodeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Event of a TCP socket.
    Tcp(Box<Tcp>),
    /// Response latency of a TCP socket that is about to close.
    Latency(Box<TcpLatency>),
    /// New image in a process.
    Exec(Exec),
    /// Start of a process.
    Fork(Fork),
    /// End of a process.
    Exit(Exit),
    /// Creation of a cgroup.
    CgroupMkdir(CgroupMkdir),
    /// Event of a UDP flow or socket.
    Udp(Box<Udp>),
    /// DNS message with answers.
    Dns(Dns),
}

impl Record {
    /// Decodes one record.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let reader = &mut ByteReader::new(bytes);
        let header = &RecordHeader {
            kind: reader.u16()?,
            len: reader.u16()?,
            detail: reader.u32()?,
            boot_ns: reader.u64()?,
        };
        if usize::from(header.len) != bytes.len() {
            return Err(DecodeError::Length { stated: header.len.into(), actual: bytes.len() });
        }
        let kind =
            RecordKind::from_raw(header.kind).ok_or(DecodeError::UnknownKind(header.kind))?;
        let record = match kind {
            RecordKind::TcpLatency => Self::Latency(Box::new(latency::tcp_latency(reader)?)),
            RecordKind::ProcessExec => Self::Exec(process::exec(reader, header)?),
            RecordKind::ProcessFork => Self::Fork(process::fork(reader, header)?),
            RecordKind::ProcessExit => Self::Exit(process::exit(reader, header)?),
            RecordKind::CgroupMkdir => Self::CgroupMkdir(process::cgroup_mkdir(reader)?),
            RecordKind::UdpFlow
            | RecordKind::UdpOwner
            | RecordKind::UdpRelease
            | RecordKind::UdpRefused => Self::Udp(Box::new(udp::udp(reader, kind, header)?)),
            RecordKind::DnsAnswer => Self::Dns(dns::dns(reader, header)?),
            _ => Self::Tcp(Box::new(tcp::tcp(reader, kind, header)?)),
        };
        match reader.remaining() {
            0 => Ok(record),
            left => Err(DecodeError::Trailing(left)),
        }
    }
}
