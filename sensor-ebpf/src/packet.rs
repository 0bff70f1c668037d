//! What a datagram is: addresses, ports and payload, out of its headers.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use sensor_ebpf::record::FlowKey;

use crate::sock::Address;

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
    pub(crate) remote: Address,
    pub(crate) local: Address,
    pub(crate) remote_port: u16,
    pub(crate) local_port: u16,
    pub(crate) payload: u32,
    /// 1, or more where the kernel carries several of one flow as one (UDP_SEGMENT, UDP_GRO).
    pub(crate) datagrams: u32,
}

impl Packet {
    /// Writes the remote end of the packet into `key`.
    #[inline(always)]
    pub(crate) fn set_remote(&self, key: &mut FlowKey) {
        // SAFETY: the address is at a multiple of 8 in a key that is aligned to 8.
        unsafe { (&raw mut key.remote_addr).cast::<Address>().write(self.remote) };
        key.remote_port = self.remote_port;
    }
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
    // SAFETY: members of the context. Packet memory is read only below `end`, which the verifier
    // checks for each access.
    unsafe {
        let (data, end) = ((*skb).data as usize, (*skb).data_end as usize);
        let (first, second, offset) = match (*skb).protocol {
            ETH_P_IP => {
                if data.wrapping_add(IPV4_LEN) > end {
                    return None;
                }
                let head = data as *const u8;
                if *head.add(9) != IPPROTO_UDP {
                    return None;
                }
                let offset = usize::from(*head & 0x0f) << 2;
                (mapped(word(head.add(12))), mapped(word(head.add(16))), offset)
            }
            ETH_P_IPV6 => {
                if data.wrapping_add(IPV6_LEN) > end {
                    return None;
                }
                let head = data as *const u8;
                let offset = match *head.add(6) {
                    IPPROTO_UDP => IPV6_LEN,
                    next @ (IPPROTO_HOPOPTS | IPPROTO_ROUTING | IPPROTO_DSTOPTS) => {
                        behind_extensions(skb, next)?
                    }
                    _ => return None,
                };
                // A helper may have moved the packet: its start is asked again.
                let (data, end) = ((*skb).data as usize, (*skb).data_end as usize);
                if data.wrapping_add(IPV6_LEN) > end {
                    return None;
                }
                let head = data as *const u8;
                (words(head.add(8)), words(head.add(24)), offset)
            }
            _ => return None,
        };
        let mut ports: Halves<2> = [0; 2];
        let to = (&raw mut ports).cast();
        if bpf_skb_load_bytes(skb.cast(), offset as u32, to, size_of::<Halves<2>>() as u32) != 0 {
            return None;
        }
        let [from, to] = [u16::from_be(ports[0]), u16::from_be(ports[1])];
        let datagrams = if (*skb).gso_segs == 0 { 1 } else { (*skb).gso_segs };
        let payload = (*skb).len.saturating_sub(offset.wrapping_add(UDP_LEN) as u32);
        Some(match way {
            Way::Sent => Packet {
                remote: second,
                local: first,
                remote_port: to,
                local_port: from,
                payload,
                datagrams,
            },
            Way::Received => Packet {
                remote: first,
                local: second,
                remote_port: from,
                local_port: to,
                payload,
                datagrams,
            },
        })
    }
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

/// Four bytes as the packet has them.
///
/// # Safety
///
/// `at` must be even and readable for four bytes.
#[inline(always)]
unsafe fn word(at: *const u8) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { core::mem::transmute(at.cast::<Halves<2>>().read()) }
}

/// Sixteen bytes as the packet has them.
///
/// # Safety
///
/// `at` must be even and readable for sixteen bytes.
#[inline(always)]
unsafe fn words(at: *const u8) -> Address {
    // SAFETY: the caller's promise.
    unsafe { core::mem::transmute(at.cast::<Halves<8>>().read()) }
}
