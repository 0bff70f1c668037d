//! DNS messages, as this host received them, not parsed yet.

use std::net::IpAddr;

use sensor_ebpf::record::{DNS_MESSAGE_LEN, RecordHeader};

use super::DecodeError;
use super::reader::ByteReader;

/// A message from port 53, in response to a query of this host. Its bytes are under control of the
/// server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Time of the message, ns since boot.
    pub boot_ns: u64,
    /// Address of the server, IPv4-mapped as IPv4.
    pub server: IpAddr,
    /// True if the message is longer than `message`.
    pub is_truncated: bool,
    /// Message from its first byte; at most [`DNS_MESSAGE_LEN`] bytes.
    pub message: Vec<u8>,
}

pub(super) fn dns(reader: &mut ByteReader<'_>, header: &RecordHeader) -> Result<Dns, DecodeError> {
    let server = reader.address()?;
    let (wire_len, message_len) = (reader.u32()?, reader.u32()?);
    let field = reader.bytes(DNS_MESSAGE_LEN)?;
    let len = usize::try_from(message_len).unwrap_or(usize::MAX);
    let message =
        field.get(..len).ok_or(DecodeError::Length { stated: len, actual: field.len() })?;
    Ok(Dns {
        boot_ns: header.boot_ns,
        server,
        is_truncated: wire_len > message_len,
        message: message.to_vec(),
    })
}
