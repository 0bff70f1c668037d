//! `sock_diag`: lists the sockets of the calling thread's network namespace over netlink.
//!
//! Interface: [sock_diag(7)](https://man7.org/linux/man-pages/man7/sock_diag.7.html) and
//! [inet_diag.h](https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/inet_diag.h); the
//! kernel's side is `inet_diag_dump` in `net/ipv4/inet_diag.c`.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};

use super::open::{
    Ends, OpenSocket, SocketBuffer, TCP_CLOSE_WAIT, TCP_CLOSING, TCP_LAST_ACK, TcpCounts,
};
use crate::base::counters::Stats;
use crate::base::protocol::Protocol;

/// Bytes of the receive buffer: the kernel returns up to 32 KiB at once if there is room.
const RESPONSE_LEN: usize = 64 << 10;
/// Maximum number of attempts if the kernel reports that a dump was interrupted.
const ATTEMPTS_MAX: u32 = 3;

/// Why the sockets of a namespace cannot be listed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiagError {
    #[error("netlink sock_diag: {0}")]
    Io(#[from] io::Error),
    #[error("netlink sock_diag: invalid response: {0}")]
    Response(String),
}

/// Adds the sockets of this thread's namespace, whose inode number is `netns`.
pub(super) fn read(netns: u32, found: &mut SocketBuffer, stats: &Stats) -> Result<(), DiagError> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let begin = found.position();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for family in [AF_INET, AF_INET6] {
            if let Err(error) = dump(&socket, netns, protocol, family, found, stats) {
                found.rewind(begin);
                return Err(error);
            }
        }
    }
    Ok(())
}

fn dump(
    socket: &Socket,
    netns: u32,
    protocol: Protocol,
    family: u8,
    found: &mut SocketBuffer,
    stats: &Stats,
) -> Result<(), DiagError> {
    let begin = found.position();
    for _attempt in 0..ATTEMPTS_MAX {
        found.rewind(begin);
        socket.send(&request(protocol, family), 0)?;
        let mut each = |response: &InetResponse| {
            if let Some(open) = open_socket(netns, protocol, response) {
                found.push(protocol, open);
            }
        };
        if receive(socket, &mut each)? {
            return Ok(());
        }
        stats.dumps_interrupted.increment();
    }
    // The last dump is kept: the probes have reported the sockets that changed meanwhile.
    Ok(())
}

/// A dump request, `struct inet_diag_req_v2` in `include/uapi/linux/inet_diag.h`.
fn request(protocol: Protocol, family: u8) -> Vec<u8> {
    // The probes report a connection in SYN_RECV once it is established; one in TIME_WAIT has
    // ended.
    let (protocol, extensions, states) = match protocol {
        Protocol::Tcp => (
            IPPROTO_TCP,
            ExtensionFlags::INFO,
            StateFlags::all()
                .difference(StateFlags::SYN_RECV | StateFlags::TIME_WAIT | StateFlags::CLOSE),
        ),
        Protocol::Udp => (IPPROTO_UDP, ExtensionFlags::empty(), StateFlags::all()),
    };
    let socket_id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
    let inner = InetRequest { family, protocol, extensions, states, socket_id };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut packet = NetlinkMessage::new(header, SockDiagMessage::InetRequest(inner).into());
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    bytes
}

/// Passes each socket to `each` until the dump is done. Returns false if the dump was interrupted.
fn receive(socket: &Socket, each: &mut dyn FnMut(&InetResponse)) -> Result<bool, DiagError> {
    let mut buffer = vec![0; RESPONSE_LEN];
    let mut consistent = true;
    loop {
        let len = socket.recv(&mut buffer.as_mut_slice(), 0)?;
        let mut rest = buffer.get(..len).unwrap_or_default();
        if rest.is_empty() {
            return Err(DiagError::Response("it ends early".to_owned()));
        }
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
                .map_err(|error| DiagError::Response(error.to_string()))?;
            consistent &= message.header.flags & NLM_F_DUMP_INTR == 0;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    each(&response);
                }
                NetlinkPayload::Done(_) => return Ok(consistent),
                NetlinkPayload::Error(error) => return Err(error.to_io().into()),
                _ => {}
            }
            // Messages are aligned to 4 bytes (`NLMSG_ALIGN`, netlink(3)).
            let len = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(len.max(4)..).unwrap_or_default();
        }
    }
}

fn open_socket(netns: u32, protocol: Protocol, response: &InetResponse) -> Option<OpenSocket> {
    let header = &response.header;
    let id = &header.socket_id;
    let ends = Ends {
        local: id.source_address.to_canonical(),
        local_port: id.source_port,
        remote: remote(id.source_address, id.destination_address),
        remote_port: id.destination_port,
    };
    let counts = response.nlas.iter().find_map(|nla| match nla {
        Nla::TcpInfo(info) => counts(info, header.state),
        _ => None,
    });
    let is_open = match protocol {
        // A socket in TIME_WAIT can have the state before it, but no counts.
        Protocol::Tcp => counts.is_some(),
        Protocol::Udp => ends.local_port != 0,
    };
    is_open.then(|| OpenSocket {
        netns,
        cookie: u64::from_ne_bytes(id.cookie),
        inode: header.inode,
        ends,
        state: header.state,
        counts,
    })
}

/// The remote address; without one, the unspecified address of the local family.
fn remote(local: IpAddr, remote: IpAddr) -> IpAddr {
    match (local.to_canonical(), remote.to_canonical()) {
        (IpAddr::V4(_), remote) if remote.is_unspecified() => {
            IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)
        }
        (_, remote) => remote,
    }
}

/// Counts in `struct tcp_info`, `include/uapi/linux/tcp.h` (all of these members since v4.19). The
/// kernel reads state and counts separately: a FIN that arrives in between counts as a byte.
fn counts(info: &[u8], state: u8) -> Option<TcpCounts> {
    let word = |offset: usize| Some(u64::from_ne_bytes(*info.get(offset..)?.first_chunk()?));
    let fin = matches!(state, TCP_CLOSE_WAIT | TCP_LAST_ACK | TCP_CLOSING);
    Some(TcpCounts {
        bytes_sent: word(TCPI_BYTES_SENT)?.saturating_sub(word(TCPI_BYTES_RETRANS)?),
        bytes_received: word(TCPI_BYTES_RECEIVED)?.saturating_sub(fin.into()),
        rtt_us: u32::from_ne_bytes(*info.get(TCPI_RTT..)?.first_chunk()?),
    })
}

// Offsets of members in `struct tcp_info`.
const TCPI_RTT: usize = 68;
const TCPI_BYTES_RECEIVED: usize = 128;
const TCPI_BYTES_SENT: usize = 200;
const TCPI_BYTES_RETRANS: usize = 208;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_close_record() {
        let mut info = [0_u8; 232];
        info[68..72].copy_from_slice(&25_u32.to_ne_bytes());
        info[128..136].copy_from_slice(&1_001_u64.to_ne_bytes());
        info[200..208].copy_from_slice(&500_u64.to_ne_bytes());
        info[208..216].copy_from_slice(&100_u64.to_ne_bytes());
        let expected = TcpCounts { bytes_sent: 400, bytes_received: 1_001, rtt_us: 25 };
        assert_eq!(counts(&info, 1), Some(expected));
        let after_fin = TcpCounts { bytes_received: 1_000, ..expected };
        assert_eq!(counts(&info, TCP_CLOSE_WAIT), Some(after_fin));
        assert_eq!(counts(&info[..212], 1), None, "a kernel with fewer members");
    }
}
