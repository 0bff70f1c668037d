//! DNS: an answer as this host received it, not yet parsed.

use std::net::{IpAddr, Ipv6Addr};

use sensor_ebpf::record::{DNS_MESSAGE_LEN, RecordHeader};

use super::DecodeError;
use super::reader::Reader;

/// A message from port 53, in answer to what this host sent there. Its bytes are the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// When, ns since boot.
    pub boot_ns: u64,
    /// Who sent it, IPv4-mapped as IPv4.
    pub server: IpAddr,
    /// Whether the message is longer than what is here.
    pub is_truncated: bool,
    /// The message from its first byte; [`DNS_MESSAGE_LEN`] bytes at most.
    pub message: Vec<u8>,
}

pub(super) fn dns(reader: &mut Reader<'_>, header: &RecordHeader) -> Result<Dns, DecodeError> {
    let server = Ipv6Addr::from(reader.array::<16>()?).to_canonical();
    let (wire_len, message_len) = (reader.u32()?, reader.u32()?);
    let room = reader.bytes(DNS_MESSAGE_LEN)?;
    let len = usize::try_from(message_len).unwrap_or(usize::MAX);
    let message = room.get(..len).ok_or(DecodeError::Length { stated: len, actual: room.len() })?;
    Ok(Dns {
        boot_ns: header.boot_ns,
        server,
        is_truncated: wire_len > message_len,
        message: message.to_vec(),
    })
}
