//! Headers of a UDP datagram: addresses, ports and payload size (RFC 768, RFC 791, RFC 8200).
//!
//! Context: `struct __sk_buff`, `include/uapi/linux/bpf.h`; helper: `bpf_skb_load_bytes`,
//! `bpf-helpers(7)`.

use crate::sock::Address;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;

/// `ETH_P_IP` and `ETH_P_IPV6` (`include/uapi/linux/if_ether.h`) in network order, as in
/// `__sk_buff.protocol`.
const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
const ETH_P_IPV6: u32 = 0x86dd_u16.to_be() as u32;

pub(crate) const IPPROTO_UDP: u8 = 17;
/// IPv6 extension headers that may precede UDP (RFC 8200, section 4.1). A fragment header does not:
/// received datagrams are already reassembled here, and sent ones are not fragmented yet.
const IPPROTO_HOPOPTS: u8 = 0;
const IPPROTO_ROUTING: u8 = 43;
const IPPROTO_DSTOPTS: u8 = 60;
/// Maximum number of extension headers that are parsed.
const EXTENSIONS_MAX: usize = 4;

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const UDP_LEN: usize = 8;

/// Direction of a datagram through its socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Sent,
    Received,
}

/// Addresses and sizes of a UDP datagram. Addresses are in the form of flow keys: IPv4 is mapped.
pub(crate) struct Packet {
    pub(crate) remote: (Address, u16),
    pub(crate) local: (Address, u16),
    /// Payload size, bytes.
    pub(crate) payload: u32,
    /// Number of datagrams: more than 1 where the kernel carries several as one packet
    /// (`UDP_SEGMENT` and `UDP_GRO`, `udp(7)`).
    pub(crate) datagrams: u32,
}

/// Returns an IPv4 address as a mapped IPv6 address (RFC 4291, section 2.5.5.2).
#[inline(always)]
pub(crate) const fn map_v4(v4: u32) -> Address {
    [0, 0, 0x0000_ffff_u32.to_be(), v4]
}

/// Packet bytes as 16-bit units: headers have an even length and lie at even addresses.
type HalfWords<const N: usize> = [u16; N];

/// Parses the headers of a packet that begins with its network header; `None` if it is not UDP.
///
/// # Safety
///
/// `skb` must be the context of a `cgroup_skb` program.
#[inline(always)]
pub(crate) unsafe fn parse(skb: *mut __sk_buff, direction: Direction) -> Option<Packet> {
    // SAFETY: the caller's contract.
    unsafe {
        let headers = match (*skb).protocol {
            ETH_P_IP => parse_v4(skb)?,
            ETH_P_IPV6 => parse_v6(skb)?,
            _ => return None,
        };
        let [from, to] = [u16::from_be(headers.ports[0]), u16::from_be(headers.ports[1])];
        let (remote, local) = match direction {
            Direction::Sent => ((headers.destination, to), (headers.source, from)),
            Direction::Received => ((headers.source, from), (headers.destination, to)),
        };
        let segments = (*skb).gso_segs;
        Some(Packet {
            remote,
            local,
            payload: (*skb).len.saturating_sub(headers.len.wrapping_add(UDP_LEN) as u32),
            datagrams: if segments == 0 { 1 } else { segments },
        })
    }
}

/// Fields of the network header and the UDP ports, in network order.
struct Headers {
    source: Address,
    destination: Address,
    ports: HalfWords<2>,
    /// Offset of the UDP header, bytes.
    len: usize,
}

/// # Safety
///
/// As for [`parse`].
#[inline(always)]
unsafe fn parse_v4(skb: *mut __sk_buff) -> Option<Headers> {
    // SAFETY: members of the context. Packet memory is read only below its end; the verifier checks
    // each access.
    unsafe {
        let head = linear_data(skb, IPV4_LEN.wrapping_add(UDP_LEN))?;
        if *head.add(9) != IPPROTO_UDP {
            return None;
        }
        let len = usize::from(*head & 0x0f) << 2;
        let (source, destination) =
            (map_v4(read_word(head.add(12))), map_v4(read_word(head.add(16))));
        let ports = if len == IPV4_LEN {
            read_half_words(head.add(IPV4_LEN))
        } else {
            load_ports(skb, len)?
        };
        Some(Headers { source, destination, ports, len })
    }
}

/// # Safety
///
/// As for [`parse`].
#[inline(always)]
unsafe fn parse_v6(skb: *mut __sk_buff) -> Option<Headers> {
    // SAFETY: as in `parse_v4`.
    unsafe {
        let head = linear_data(skb, IPV6_LEN.wrapping_add(UDP_LEN))?;
        let (source, destination) = (read_address(head.add(8)), read_address(head.add(24)));
        let (ports, len) = match *head.add(6) {
            IPPROTO_UDP => (read_half_words(head.add(IPV6_LEN)), IPV6_LEN),
            next @ (IPPROTO_HOPOPTS | IPPROTO_ROUTING | IPPROTO_DSTOPTS) => {
                let len = skip_extensions(skb, next)?;
                (load_ports(skb, len)?, len)
            }
            _ => return None,
        };
        Some(Headers { source, destination, ports, len })
    }
}

/// Returns the packet's data if at least `len` bytes are linear (in one piece, `skb_headlen`).
///
/// # Safety
///
/// As for [`parse`].
#[inline(always)]
unsafe fn linear_data(skb: *mut __sk_buff, len: usize) -> Option<*const u8> {
    // SAFETY: members of the context.
    let (data, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    if data.wrapping_add(len) > end { None } else { Some(data as *const u8) }
}

/// Loads the ports of the UDP header at `offset`, also from non-linear data (`bpf_skb_load_bytes`).
///
/// # Safety
///
/// As for [`parse`].
#[inline(always)]
unsafe fn load_ports(skb: *mut __sk_buff, offset: usize) -> Option<HalfWords<2>> {
    let mut ports: HalfWords<2> = [0; 2];
    let (to, len) = ((&raw mut ports).cast(), size_of::<HalfWords<2>>() as u32);
    // SAFETY: the destination is writable for that many bytes; the kernel checks the source.
    let read = unsafe { bpf_skb_load_bytes(skb.cast(), offset as u32, to, len) };
    if read == 0 { Some(ports) } else { None }
}

/// Returns the offset of the UDP header after the extension headers, of which `next` is the first.
///
/// # Safety
///
/// `skb` must be the context of a `cgroup_skb` program.
#[inline(always)]
unsafe fn skip_extensions(skb: *mut __sk_buff, mut next: u8) -> Option<usize> {
    let mut offset = IPV6_LEN;
    for _ in 0..EXTENSIONS_MAX {
        if next == IPPROTO_UDP {
            return Some(offset);
        }
        if !matches!(next, IPPROTO_HOPOPTS | IPPROTO_ROUTING | IPPROTO_DSTOPTS) {
            return None;
        }
        // Next header, and length in units of 8 bytes without the first 8 (RFC 8200, section 4.2).
        let mut head = [0_u8; 2];
        // SAFETY: the destination is writable for its two bytes; the kernel checks the source.
        let read = unsafe {
            bpf_skb_load_bytes(skb.cast(), offset as u32, (&raw mut head).cast(), head.len() as u32)
        };
        if read != 0 {
            return None;
        }
        next = head[0];
        offset = offset.wrapping_add((usize::from(head[1]).wrapping_add(1)) << 3);
    }
    (next == IPPROTO_UDP).then_some(offset)
}

/// Reads four bytes as two half-words.
///
/// # Safety
///
/// `at` must be even and readable for four bytes.
#[inline(always)]
unsafe fn read_half_words(at: *const u8) -> HalfWords<2> {
    // SAFETY: the caller's contract.
    unsafe { at.cast::<HalfWords<2>>().read() }
}

/// Reads four bytes in network order.
///
/// # Safety
///
/// As for [`read_half_words`].
#[inline(always)]
unsafe fn read_word(at: *const u8) -> u32 {
    // SAFETY: the caller's contract; any four bytes are a valid number.
    unsafe { core::mem::transmute(read_half_words(at)) }
}

/// Reads sixteen bytes in network order.
///
/// # Safety
///
/// `at` must be even and readable for sixteen bytes.
#[inline(always)]
unsafe fn read_address(at: *const u8) -> Address {
    // SAFETY: the caller's contract; any sixteen bytes are four valid numbers.
    unsafe { core::mem::transmute(at.cast::<HalfWords<8>>().read()) }
}
