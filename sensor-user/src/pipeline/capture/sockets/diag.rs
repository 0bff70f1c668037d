//! `sock_diag`: the sockets of the namespace that this thread is in, over netlink.

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
    Ends, Found, OpenSocket, TCP_CLOSE_WAIT, TCP_CLOSING, TCP_LAST_ACK, TcpCounts, Transport,
};
use crate::base::counters::Stats;

/// Bytes of one answer: the kernel fills up to 32 KiB at once for a reader with that much room.
const ANSWER_LEN: usize = 64 << 10;
/// How often a dump is made that the kernel says was interrupted.
const TRIES: u32 = 3;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiagError {
    #[error("netlink sock_diag: {0}")]
    Io(#[from] io::Error),
    #[error("netlink sock_diag: answer not understood: {0}")]
    Answer(String),
}

/// Adds the sockets of this thread's namespace, whose inode number is `netns`.
pub(super) fn read(netns: u32, found: &mut Found, stats: &Stats) -> Result<(), DiagError> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let begin = found.mark();
    let asked = [
        (Transport::Tcp, AF_INET),
        (Transport::Tcp, AF_INET6),
        (Transport::Udp, AF_INET),
        (Transport::Udp, AF_INET6),
    ];
    for (transport, family) in asked {
        if let Err(error) = dump(&socket, netns, (transport, family), found, stats) {
            found.rewind(begin);
            return Err(error);
        }
    }
    Ok(())
}

fn dump(
    socket: &Socket,
    netns: u32,
    (transport, family): (Transport, u8),
    found: &mut Found,
    stats: &Stats,
) -> Result<(), DiagError> {
    let begin = found.mark();
    for _try in 0..TRIES {
        found.rewind(begin);
        socket.send(&request(transport, family), 0)?;
        let mut each = |response: &InetResponse| {
            if let Some(open) = open_socket(netns, transport, response) {
                found.add(transport, open);
            }
        };
        if answers(socket, &mut each)? {
            return Ok(());
        }
        stats.dumps_interrupted.increment();
    }
    // What was seen is there; what changed meanwhile, the probes have told.
    Ok(())
}

/// `struct inet_diag_req_v2`, `include/uapi/linux/inet_diag.h`.
fn request(transport: Transport, family: u8) -> Vec<u8> {
    // A connection in SYN_RECV has not told of itself yet, and one in TIME_WAIT has ended.
    let (protocol, extensions, states) = match transport {
        Transport::Tcp => (
            IPPROTO_TCP,
            ExtensionFlags::INFO,
            StateFlags::all()
                .difference(StateFlags::SYN_RECV | StateFlags::TIME_WAIT | StateFlags::CLOSE),
        ),
        Transport::Udp => (IPPROTO_UDP, ExtensionFlags::empty(), StateFlags::all()),
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

/// Hands each answer to `each` until the dump is done; false when it was interrupted.
fn answers(socket: &Socket, each: &mut dyn FnMut(&InetResponse)) -> Result<bool, DiagError> {
    let mut buffer = vec![0; ANSWER_LEN];
    let mut consistent = true;
    loop {
        let len = socket.recv(&mut buffer.as_mut_slice(), 0)?;
        let mut rest = buffer.get(..len).unwrap_or_default();
        if rest.is_empty() {
            return Err(DiagError::Answer("it ends before it is done".to_owned()));
        }
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
                .map_err(|error| DiagError::Answer(error.to_string()))?;
            consistent &= message.header.flags & NLM_F_DUMP_INTR == 0;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    each(&response);
                }
                NetlinkPayload::Done(_) => return Ok(consistent),
                NetlinkPayload::Error(error) => return Err(error.to_io().into()),
                _ => {}
            }
            // A message begins at a multiple of 4 (`NLMSG_ALIGN`).
            let len = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(len.max(4)..).unwrap_or_default();
        }
    }
}

fn open_socket(netns: u32, transport: Transport, response: &InetResponse) -> Option<OpenSocket> {
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
    // What waits in TIME_WAIT shows the state before it, but has nothing more to tell.
    if transport == Transport::Tcp && counts.is_none() {
        return None;
    }
    if transport == Transport::Udp && ends.local_port == 0 {
        return None;
    }
    Some(OpenSocket {
        netns,
        cookie: u64::from_ne_bytes(id.cookie),
        inode: header.inode,
        ends,
        state: header.state,
        counts,
    })
}

/// The other end, of the same family as this one where there is none.
fn remote(local: IpAddr, remote: IpAddr) -> IpAddr {
    match (local.to_canonical(), remote.to_canonical()) {
        (IpAddr::V4(_), remote) if remote.is_unspecified() => {
            IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)
        }
        (_, remote) => remote,
    }
}

/// Out of `struct tcp_info`, `include/uapi/linux/tcp.h` (all of these since v4.19). The two reads,
/// state and counts, are not one: a FIN that arrives between them counts as a byte.
fn counts(info: &[u8], state: u8) -> Option<TcpCounts> {
    let long = |at: usize| Some(u64::from_ne_bytes(*info.get(at..)?.first_chunk()?));
    let fin = matches!(state, TCP_CLOSE_WAIT | TCP_LAST_ACK | TCP_CLOSING);
    Some(TcpCounts {
        bytes_sent: long(TCPI_BYTES_SENT)?.saturating_sub(long(TCPI_BYTES_RETRANS)?),
        bytes_received: long(TCPI_BYTES_RECEIVED)?.saturating_sub(fin.into()),
        rtt_us: u32::from_ne_bytes(*info.get(TCPI_RTT..)?.first_chunk()?),
    })
}

const TCPI_RTT: usize = 68;
const TCPI_BYTES_RECEIVED: usize = 128;
const TCPI_BYTES_SENT: usize = 200;
const TCPI_BYTES_RETRANS: usize = 208;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_end() {
        let mut info = [0_u8; 232];
        info[68..72].copy_from_slice(&25_u32.to_ne_bytes());
        info[128..136].copy_from_slice(&1_001_u64.to_ne_bytes());
        info[200..208].copy_from_slice(&500_u64.to_ne_bytes());
        info[208..216].copy_from_slice(&100_u64.to_ne_bytes());
        let expected = TcpCounts { bytes_sent: 400, bytes_received: 1_001, rtt_us: 25 };
        assert_eq!(counts(&info, 1), Some(expected));
        let after_fin = TcpCounts { bytes_received: 1_000, ..expected };
        assert_eq!(counts(&info, TCP_CLOSE_WAIT), Some(after_fin));
        assert_eq!(counts(&info[..212], 1), None, "a kernel that has less");
    }
}
