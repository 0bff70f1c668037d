//! Datagrams: every packet of every socket passes here, with both ends in its headers. Those of UDP
//! are counted into their flow; the first of a flow is told, none of the others.
//!
//! Addresses are those of the packet: where this host translates the destination of what it sends
//! (DNAT), that is the translated one. What IPsec has wrapped is not seen when it is sent.
//!
//! The programs never hold a packet back: they return 1, whatever happens. What is forwarded has no
//! socket and does not come here. Neither does what a tunnel in the kernel (VXLAN, WireGuard)
//! wraps: those packets are of no process.

use aya_ebpf::bindings::{__sk_buff, BPF_NOEXIST};
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_sk_fullsock};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use sensor_ebpf::maps::LossCounter;
use sensor_ebpf::record::{FlowCounts, FlowKey};

use crate::dns;
use crate::emit::{boot_ns, monotonic_ns};
use crate::flow::{self, UDP_FLOWS};
use crate::globals::{add, count};
use crate::packet::{self, IPPROTO_UDP, Packet, Way};
use crate::sock;

/// Lets the packet pass.
const PASS: i32 = 1;

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
        if sk.is_null() || (*sk).protocol != u32::from(IPPROTO_UDP) || (*sk).type_ != SOCK_DGRAM {
            return;
        }
        let mut key = FlowKey {
            cookie: bpf_get_socket_cookie(skb.cast()),
            remote_addr: [0; 16],
            remote_port: packet.remote.1,
            padding: [0; 3],
        };
        flow::set_remote(&mut key, packet.remote.0);
        let flow = match UDP_FLOWS.get_ptr_mut(&key) {
            Some(flow) => flow,
            None => match begin(&key, way) {
                Some(flow) => flow,
                None => return count(LossCounter::UdpUncounted),
            },
        };
        add_datagram(flow, &packet, way);
        if (*flow).emitted == 0
            && let Some(socket) = flow::socket(sk.cast(), true)
        {
            flow::tell(socket, flow, &key, packet.local, sock::netns(sk.cast()));
        }
        // What connects a socket chooses whom it hears, also where what it sends is translated.
        if way == Way::Received
            && packet.remote.1 == dns::PORT
            && ((*flow).packets_sent != 0 || (*sk).dst_port != 0)
        {
            dns::tell(skb, &packet);
        }
    }
}

/// A new flow, or the one that another CPU has just begun.
#[inline(always)]
fn begin(key: &FlowKey, way: Way) -> Option<*mut FlowCounts> {
    let flow = FlowCounts {
        first_boot_ns: boot_ns(),
        last_monotonic_ns: 0,
        bytes_sent: 0,
        bytes_received: 0,
        packets_sent: 0,
        packets_received: 0,
        inbound: u16::from(way == Way::Received),
        emitted: 0,
        owner_resolved: 0,
        padding: 0,
    };
    let _there_already = UDP_FLOWS.insert(key, &flow, u64::from(BPF_NOEXIST));
    UDP_FLOWS.get_ptr_mut(key)
}

/// # Safety
///
/// `flow` must come from [`UDP_FLOWS`].
#[inline(always)]
unsafe fn add_datagram(flow: *mut FlowCounts, packet: &Packet, way: Way) {
    // SAFETY: the caller's promise.
    unsafe {
        let (bytes, packets) = match way {
            Way::Sent => (&raw mut (*flow).bytes_sent, &raw mut (*flow).packets_sent),
            Way::Received => (&raw mut (*flow).bytes_received, &raw mut (*flow).packets_received),
        };
        add(bytes, packet.payload.into());
        add(packets, packet.datagrams.into());
        (&raw mut (*flow).last_monotonic_ns).write_volatile(monotonic_ns());
    }
}
