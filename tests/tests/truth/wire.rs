//! Connections as they were on the wire: reads the packets that tcpdump wrote, and counts payload bytes by
//! sequence numbers (TCP) or by datagrams (UDP).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Little-endian pcap file with microseconds, tcpdump's default on this machine.
const MAGIC: [u8; 4] = [0xd4, 0xc3, 0xb2, 0xa1];
const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;
/// Linux gives loopback and veth packets an Ethernet header.
const ETHERNET_HEADER: usize = 14;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Flags of a TCP header.
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Indices of the two ends.
pub(crate) const CLIENT: usize = 0;
pub(crate) const SERVER: usize = 1;

/// TCP connection, or the datagrams between two UDP ends, as one of its ends counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Connection {
    pub(crate) is_udp: bool,
    /// End that sent the first packet.
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
    /// True if the TCP handshake completed, and for UDP.
    pub(crate) is_established: bool,
    /// Payload bytes that this end sent, without retransmissions.
    pub(crate) sent: u64,
    /// Payload bytes that this end acknowledged. It refuses those that arrive after its process closed the
    /// socket.
    pub(crate) received: u64,
}

/// Connection as its packets show it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange {
    /// The client's and the server's end.
    pub(crate) ends: [Connection; 2],
    /// True for an end that sent a RST.
    has_reset: [bool; 2],
}

impl Exchange {
    /// True if `end` counts this connection from one side. Data that a RST follows at once is received, but
    /// not acknowledged any more.
    pub(crate) fn is_counted_by(&self, side: usize, end: &Connection) -> bool {
        let (own, peer) = (self.ends[side], self.ends[1 - side]);
        let most = if self.has_reset[1 - side] { peer.sent } else { own.received };
        let received = own.received..=most.max(own.received);
        received.contains(&end.received) && Connection { received: end.received, ..own } == *end
    }
}

/// Reads all complete packets of a file that may still grow.
pub(crate) fn connections(capture: &Path) -> Vec<Exchange> {
    let bytes = std::fs::read(capture).unwrap();
    if bytes.len() < FILE_HEADER {
        return Vec::new();
    }
    assert_eq!(bytes[..4], MAGIC, "{}: not the expected pcap format", capture.display());
    let mut wire = Wire::default();
    let mut rest = &bytes[FILE_HEADER..];
    while rest.len() >= PACKET_HEADER {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        let Some(frame) = rest.get(PACKET_HEADER..PACKET_HEADER + length) else { break };
        wire.add(frame);
        rest = &rest[PACKET_HEADER + length..];
    }
    wire.connections.into_iter().map(|(exchange, _)| exchange).collect()
}

/// Initial sequence numbers of the client and the server.
type Initial = [Option<u32>; 2];

#[derive(Debug, Default)]
struct Wire {
    connections: Vec<(Exchange, Initial)>,
    /// Index of the latest connection between two ends; UDP or not, client, server.
    latest: HashMap<(bool, SocketAddr, SocketAddr), usize>,
}

/// Transport header with the ends of the packet and the length of what IP carries.
struct Packet<'p> {
    source: SocketAddr,
    destination: SocketAddr,
    header: &'p [u8],
    length: usize,
}

impl Wire {
    fn add(&mut self, frame: &[u8]) {
        match ip_packet(frame) {
            Some((TCP, packet)) => self.add_segment(&packet),
            Some((UDP, packet)) => self.add_datagram(&packet),
            _ => {}
        }
    }

    /// Index of the connection of a packet, and of the end that sent it.
    fn find(&self, is_udp: bool, packet: &Packet<'_>) -> Option<(usize, usize)> {
        let Packet { source, destination, .. } = *packet;
        let sent_by = |client, server, end| {
            self.latest.get(&(is_udp, client, server)).map(|&index| (index, end))
        };
        sent_by(source, destination, CLIENT).or_else(|| sent_by(destination, source, SERVER))
    }

    /// Adds the connection that a packet opens.
    fn open(&mut self, is_udp: bool, packet: &Packet<'_>, initial: Initial) -> (usize, usize) {
        let (client, server) = (packet.source, packet.destination);
        let (sent, received) = (0, 0);
        let end = Connection { is_udp, client, server, is_established: is_udp, sent, received };
        self.latest.insert((is_udp, client, server), self.connections.len());
        let exchange = Exchange { ends: [end; 2], has_reset: [false; 2] };
        self.connections.push((exchange, initial));
        (self.connections.len() - 1, CLIENT)
    }

    fn add_datagram(&mut self, packet: &Packet<'_>) {
        let payload = u64::from(be_16(packet.header, 4)) - 8;
        let found = self.find(true, packet);
        let (index, sender) = found.unwrap_or_else(|| self.open(true, packet, [None; 2]));
        let ends = &mut self.connections[index].0.ends;
        ends[sender].sent += payload;
        ends[1 - sender].received += payload;
    }

    fn add_segment(&mut self, packet: &Packet<'_>) {
        let header = packet.header;
        let (flags, sequence) = (header[13], be_32(header, 4));
        let payload = packet.length - usize::from(header[12] >> 4) * 4;
        let (has_syn, has_ack) = (flags & SYN != 0, flags & ACK != 0);
        let mut found = self.find(false, packet);
        if has_syn && !has_ack {
            // A second SYN with another number is the next connection of the same two ends.
            found = found
                .filter(|&(index, _)| self.connections[index].1[CLIENT] == Some(sequence))
                .or_else(|| Some(self.open(false, packet, [Some(sequence), None])));
        }
        let Some((index, sender)) = found else { return };
        let (Exchange { ends, has_reset }, initial) = &mut self.connections[index];
        has_reset[sender] |= flags & RST != 0;
        if has_syn && has_ack {
            initial[SERVER] = Some(sequence);
        }
        if sender == CLIENT && has_ack && flags & RST == 0 && initial[SERVER].is_some() {
            ends[CLIENT].is_established = true;
            ends[SERVER].is_established = true;
        }
        // A SYN takes one number, before the data.
        let bytes_until = |first: u32, end: u32| u64::from(end.wrapping_sub(first).wrapping_sub(1));
        if let Some(first) = initial[sender].filter(|_| payload > 0) {
            let begin = if has_syn { 0 } else { bytes_until(first, sequence) };
            ends[sender].sent = ends[sender].sent.max(begin + payload as u64);
        }
        if let Some(first) = initial[1 - sender].filter(|_| has_ack) {
            // A FIN takes one number, behind the data.
            let acknowledged = bytes_until(first, be_32(header, 8)).min(ends[1 - sender].sent);
            ends[sender].received = ends[sender].received.max(acknowledged);
        }
    }
}

/// Transport protocol and packet of an Ethernet frame, which may be cut off behind its headers. None for
/// other frames and for all fragments but the first.
fn ip_packet(frame: &[u8]) -> Option<(u8, Packet<'_>)> {
    let ip = frame.get(ETHERNET_HEADER..)?;
    let (protocol, header_length, length, source, destination) = match be_16(frame, 12) {
        0x0800 => {
            if be_16(ip, 6) & 0x1fff != 0 {
                return None;
            }
            let header_length = usize::from(ip[0] & 15) * 4;
            let address =
                |at: usize| -> IpAddr { <[u8; 4]>::try_from(&ip[at..at + 4]).unwrap().into() };
            (ip[9], header_length, usize::from(be_16(ip, 2)), address(12), address(16))
        }
        0x86dd => {
            let address =
                |at: usize| -> IpAddr { <[u8; 16]>::try_from(&ip[at..at + 16]).unwrap().into() };
            (ip[6], 40, usize::from(be_16(ip, 4)) + 40, address(8), address(24))
        }
        _ => return None,
    };
    let header = &ip[header_length..];
    assert_ne!(length, 0, "a packet longer than IP's own length");
    let (source, destination) =
        (SocketAddr::new(source, be_16(header, 0)), SocketAddr::new(destination, be_16(header, 2)));
    Some((protocol, Packet { source, destination, header, length: length - header_length }))
}

fn be_16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be_32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}
