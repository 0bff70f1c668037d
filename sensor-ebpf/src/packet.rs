//! What a datagram is: addresses, ports and payload, out of its headers.

use crate::sock::Address;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;

/// `ETH_P_IP` and `ETH_P_IPV6` as `__sk_buff.protocol` has them: network order.
const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
const ETH_P_IPV6: u32 = 0x86dd_u16.to_be() as u32;

pub(crate) const IPPROTO_UDP: u8 = 17;
/// Extension headers of IPv6 that may stand before UDP (RFC 8200, section 4.1). A fragment header
/// may not: what a socket receives is put together, what it sends is not yet cut.
const IPPROTO_HOPOPTS: u8 = 0;
const IPPROTO_ROUTING: u8 = 43;
const IPPROTO_DSTOPTS: u8 = 60;
/// Extension headers that are looked through at most.
const EXTENSIONS_MAX: usize = 4;

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const UDP_LEN: usize = 8;

/// Which way a datagram goes through its socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Sent,
    Received,
}

/// A UDP datagram. Addresses are those of the key's form: IPv4 is mapped.
pub(crate) struct Packet {
    pub(crate) remote: (Address, u16),
    pub(crate) local: (Address, u16),
    /// Bytes.
    pub(crate) payload: u32,
    /// 1, or more where the kernel carries several of one flow as one (`UDP_SEGMENT`, `UDP_GRO`).
    pub(crate) datagrams: u32,
}

/// An IPv4 address in the form of the keys.
#[inline(always)]
pub(crate) const fn mapped(v4: u32) -> Address {
    [0, 0, 0x0000_ffff_u32.to_be(), v4]
}

/// Headers have an even length and lie at even addresses, so that two bytes are read at once.
type Halves<const N: usize> = [u16; N];

/// Reads the headers of a packet that begins with its network header; `None` for what is not UDP.
///
/// # Safety
///
/// `skb` must be the context of a `cgroup_skb` program.
#[inline(always)]
pub(crate) unsafe fn parse(skb: *mut __sk_buff, way: Way) -> Option<Packet> {
    // SAFETY: the caller's promise.
    unsafe {
        let headers = match (*skb).protocol {
            ETH_P_IP => parse_v4(skb)?,
            ETH_P_IPV6 => parse_v6(skb)?,
            _ => return None,
        };
        let [from, to] = [u16::from_be(headers.ports[0]), u16::from_be(headers.ports[1])];
        let (remote, local) = match way {
            Way::Sent => ((headers.destination, to), (headers.source, from)),
            Way::Received => ((headers.source, from), (headers.destination, to)),
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

/// What stands in the headers up to and with the ports, in network order.
struct Headers {
    source: Address,
    destination: Address,
    ports: Halves<2>,
    /// Bytes before the UDP header.
    len: usize,
}

/// # Safety
///
/// As for [`parse`].
#[inline(always)]
unsafe fn parse_v4(skb: *mut __sk_buff) -> Option<Headers> {
    // SAFETY: members of the context. Packet memory is read only below its end, which the verifier
    // checks for each access.
    unsafe {
        let head = at_least(skb, IPV4_LEN.wrapping_add(UDP_LEN))?;
        if *head.add(9) != IPPROTO_UDP {
            return None;
        }
        let len = usize::from(*head & 0x0f) << 2;
        let (source, destination) = (mapped(word(head.add(12))), mapped(word(head.add(16))));
        let ports = if len == IPV4_LEN { halves(head.add(IPV4_LEN)) } else { ports_at(skb, len)? };
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
        let head = at_least(skb, IPV6_LEN.wrapping_add(UDP_LEN))?;
        let (source, destination) = (words(head.add(8)), words(head.add(24)));
        let (ports, len) = match *head.add(6) {
            IPPROTO_UDP => (halves(head.add(IPV6_LEN)), IPV6_LEN),
            next @ (IPPROTO_HOPOPTS | IPPROTO_ROUTING | IPPROTO_DSTOPTS) => {
                let len = behind_extensions(skb, next)?;
                (ports_at(skb, len)?, len)
            }
            _ => return None,
        };
        Some(Headers { source, destination, ports, len })
    }
}

/// The packet, if so many bytes of it lie in one piece.
///
/// # Safety
///
/// As for [`parse`].
#[inline(always)]
unsafe fn at_least(skb: *mut __sk_buff, len: usize) -> Option<*const u8> {
    // SAFETY: members of the context.
    let (data, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    if data.wrapping_add(len) > end { None } else { Some(data as *const u8) }
}

/// The ports of a UDP header that begins at `offset`.
///
/// # Safety
///
/// As for [`parse`].
#[inline(always)]
unsafe fn ports_at(skb: *mut __sk_buff, offset: usize) -> Option<Halves<2>> {
    let mut ports: Halves<2> = [0; 2];
    let (to, len) = ((&raw mut ports).cast(), size_of::<Halves<2>>() as u32);
    // SAFETY: the destination is writable for that many bytes; the kernel checks the source.
    let read = unsafe { bpf_skb_load_bytes(skb.cast(), offset as u32, to, len) };
    if read == 0 { Some(ports) } else { None }
}

/// Where the UDP header is behind extension headers, the first of which is `next`.
///
/// # Safety
///
/// `skb` must be the context of a `cgroup_skb` program.
#[inline(always)]
unsafe fn behind_extensions(skb: *mut __sk_buff, mut next: u8) -> Option<usize> {
    let mut offset = IPV6_LEN;
    for _ in 0..EXTENSIONS_MAX {
        if next == IPPROTO_UDP {
            return Some(offset);
        }
        if !matches!(next, IPPROTO_HOPOPTS | IPPROTO_ROUTING | IPPROTO_DSTOPTS) {
            return None;
        }
        // Next header, and length in units of 8 bytes beyond the first 8.
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

/// The first four bytes, as two halves.
///
/// # Safety
///
/// `at` must be even and readable for four bytes.
#[inline(always)]
unsafe fn halves(at: *const u8) -> Halves<2> {
    // SAFETY: the caller's promise.
    unsafe { at.cast::<Halves<2>>().read() }
}

/// Four bytes as the packet has them.
///
/// # Safety
///
/// As for [`halves`].
#[inline(always)]
unsafe fn word(at: *const u8) -> u32 {
    // SAFETY: the caller's promise; any four bytes are a number.
    unsafe { core::mem::transmute(halves(at)) }
}

/// Sixteen bytes as the packet has them.
///
/// # Safety
///
/// `at` must be even and readable for sixteen bytes.
#[inline(always)]
unsafe fn words(at: *const u8) -> Address {
    // SAFETY: the caller's promise; any sixteen bytes are four numbers.
    unsafe { core::mem::transmute(at.cast::<Halves<8>>().read()) }
}
