//! Datagrams: every packet of every socket passes here, with both ends in its headers. Those of UDP
//! are counted into their flow; the first of a flow is told, none of the others.
//!
//! The programs never hold a packet back: they return 1, whatever happens. What is forwarded has no
//! socket and does not come here. Neither does what a tunnel in the kernel (VXLAN, WireGuard)
//! wraps: those packets are of no process.

use aya_ebpf::bindings::{__sk_buff, BPF_NOEXIST, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_sk_fullsock};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use sensor_ebpf::maps::LossCounter;
use sensor_ebpf::record::{FlowCounts, FlowKey};

use crate::emit::boot_ns;
use crate::flow::{self, UDP_FLOWS};
use crate::globals::{add, count};
use crate::packet::{self, IPPROTO_UDP, Packet, Way};
use crate::sock;

/// Lets the packet pass.
const PASS: i32 = 1;

const AF_INET: u32 = 2;
/// `include/linux/net.h`.
const SOCK_DGRAM: u32 = 2;

/// Hook: `BPF_CGROUP_RUN_PROG_INET_EGRESS(sk, skb)` of `ip_finish_output` (`net/ipv4/ip_output.c`)
/// and `ip6_finish_output` (`net/ipv6/ip6_output.c`), v4.10 and later: before fragmentation and
/// before segmentation, so that a datagram is one packet.
#[cgroup_skb]
pub(crate) fn udp_egress(ctx: SkBuffContext) -> i32 {
    // SAFETY: the context of a cgroup_skb program.
    unsafe { datagram(ctx.skb.skb, Way::Sent) };
    PASS
}

/// Hook: `BPF_CGROUP_RUN_PROG_INET_INGRESS(sk, skb)` of `sk_filter_trim_cap`
/// (`net/core/filter.c`), v4.10 and later, in softirq: no task. Behind reassembly.
#[cgroup_skb]
pub(crate) fn udp_ingress(ctx: SkBuffContext) -> i32 {
    // SAFETY: the context of a cgroup_skb program.
    unsafe { datagram(ctx.skb.skb, Way::Received) };
    PASS
}

/// Counts a packet if it is a datagram of a UDP socket.
///
/// # Safety
///
/// `skb` must be the context of a `cgroup_skb` program.
#[inline(always)]
unsafe fn datagram(skb: *mut __sk_buff, way: Way) {
    // SAFETY: the caller's promise; the socket is a context member that is checked for null.
    unsafe {
        let Some(packet) = packet::parse(skb, way) else { return };
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return;
        }
        let sk = bpf_sk_fullsock(sk);
        // A raw socket gets copies of what others are sent, and TCP may go through IPsec over UDP.
        if sk.is_null()
            || (*sk).protocol != u32::from(IPPROTO_UDP)
            || (*sk).type_ != SOCK_DGRAM
        {
            return;
        }
        let mut key = FlowKey {
            cookie: bpf_get_socket_cookie(skb.cast()),
            remote_addr: [0; 16],
            remote_port: 0,
            padding: [0; 3],
        };
        packet.set_remote(&mut key);
        if way == Way::Sent {
            as_the_socket_has_it(sk, &mut key);
        }
        let now = boot_ns();
        let flow = match UDP_FLOWS.get_ptr_mut(&key) {
            Some(flow) => flow,
            None => match begin(&key, way, now) {
                Some(flow) => flow,
                None => return count(LossCounter::UdpUncounted),
            },
        };
        add_datagram(flow, &packet, way, now);
        if (*flow).told == 0
            && let Some(socket) = flow::socket(sk.cast(), true)
        {
            let local = (packet.local, packet.local_port);
            flow::tell(socket, flow, &key, local, sock::netns(sk.cast()));
        }
    }
}

/// The other end as the program named it, where an address translation of this host has replaced
/// it by now: the peer of a connected socket, unless datagrams were sent to other addresses too.
///
/// # Safety
///
/// `sk` must be a socket to the verifier.
#[inline(always)]
unsafe fn as_the_socket_has_it(sk: *mut bpf_sock, key: &mut FlowKey) {
    // SAFETY: the caller's promise. Members are read one by one, as the verifier wants it.
    unsafe {
        let port = u16::from_be((&raw const (*sk).dst_port).read_volatile());
        if port == 0 {
            return;
        }
        let words = (&raw const (*sk).dst_ip6).cast::<u32>();
        let v6 = [
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
            words.add(3).read_volatile(),
        ];
        // Read whatever the family is: in two branches the compiler would make one read at an
        // offset of them, which the verifier refuses.
        let v4 = (&raw const (*sk).dst_ip4).read_volatile();
        let peer = if (*sk).family == AF_INET { packet::mapped(v4) } else { v6 };
        let remote = (&raw mut key.remote_addr).cast::<sock::Address>();
        if (remote.read() != peer || key.remote_port != port)
            && flow::socket(sk.cast(), false).is_none_or(|socket| (*socket).addressed == 0)
        {
            remote.write(peer);
            key.remote_port = port;
        }
    }
}

/// A new flow, or the one that another CPU has just begun.
#[inline(always)]
fn begin(key: &FlowKey, way: Way, now: u64) -> Option<*mut FlowCounts> {
    let flow = FlowCounts {
        first_boot_ns: now,
        last_boot_ns: now,
        bytes_sent: 0,
        bytes_received: 0,
        packets_sent: 0,
        packets_received: 0,
        inbound: u16::from(way == Way::Received),
        told: 0,
        owned: 0,
        padding: 0,
    };
    let _there_already = UDP_FLOWS.insert(key, &flow, u64::from(BPF_NOEXIST));
    UDP_FLOWS.get_ptr_mut(key)
}

/// # Safety
///
/// `flow` must come from [`UDP_FLOWS`].
#[inline(always)]
unsafe fn add_datagram(flow: *mut FlowCounts, packet: &Packet, way: Way, now: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let (bytes, packets) = match way {
            Way::Sent => (&raw mut (*flow).bytes_sent, &raw mut (*flow).packets_sent),
            Way::Received => (&raw mut (*flow).bytes_received, &raw mut (*flow).packets_received),
        };
        add(bytes, packet.payload.into());
        add(packets, packet.datagrams.into());
        (&raw mut (*flow).last_boot_ns).write_volatile(now);
    }
}
