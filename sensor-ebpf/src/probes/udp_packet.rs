//! UDP datagrams. The programs run for every packet of every socket, and read both addresses from
//! its headers. Each datagram is counted in its flow, and only the first of a flow emits a record.
//!
//! Addresses are those of the packet: where this host applies DNAT to what it sends, the
//! destination is the translated one. Sent packets that IPsec encapsulates are not observed.
//!
//! The programs never drop a packet: they always return 1. Forwarded packets have no socket, so
//! they do not run the programs. Nor do packets of a tunnel in the kernel (VXLAN, WireGuard), which
//! belong to no process.
//!
//! Helpers: `bpf_get_socket_cookie` and `bpf_sk_fullsock` (v5.1), `bpf-helpers(7)`. Program and
//! attach types: `Documentation/bpf/libbpf/program_types.rst`.

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
use crate::packet::{self, Direction, IPPROTO_UDP, Packet};
use crate::refusal;
use crate::sock;

/// Return value that lets the packet pass.
const PASS: i32 = 1;

/// `include/linux/net.h: enum sock_type`.
const SOCK_DGRAM: u32 = 2;

/// Hook: `BPF_CGROUP_RUN_PROG_INET_EGRESS(sk, skb)` in `net/ipv4/ip_output.c: ip_finish_output` and
/// `net/ipv6/ip6_output.c: ip6_finish_output`, v4.10 and later.
///
/// Runs before fragmentation and segmentation, so that a datagram is one packet.
#[cgroup_skb]
pub(crate) fn udp_egress(ctx: SkBuffContext) -> i32 {
    // SAFETY: the context of a cgroup_skb program.
    unsafe { count_packet(ctx.skb.skb, Direction::Sent) };
    PASS
}

/// Hook: `BPF_CGROUP_RUN_PROG_INET_INGRESS(sk, skb)` in `net/core/filter.c: sk_filter_trim_cap`,
/// v4.10 and later.
///
/// Runs in softirq, so there is no task, and after reassembly.
#[cgroup_skb]
pub(crate) fn udp_ingress(ctx: SkBuffContext) -> i32 {
    // SAFETY: the context of a cgroup_skb program.
    unsafe { count_packet(ctx.skb.skb, Direction::Received) };
    PASS
}

/// Counts a packet if it is a datagram of a UDP socket.
///
/// # Safety
///
/// `skb` must be the context of a `cgroup_skb` program.
#[inline(always)]
unsafe fn count_packet(skb: *mut __sk_buff, direction: Direction) {
    // SAFETY: the caller's contract; the socket is a context member that is checked for null.
    unsafe {
        let Some(packet) = packet::parse(skb, direction) else { return };
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return;
        }
        let sk = bpf_sk_fullsock(sk);
        // A raw socket receives copies of other sockets' packets, and TCP may use IPsec over UDP.
        if sk.is_null() || (*sk).protocol != u32::from(IPPROTO_UDP) || (*sk).type_ != SOCK_DGRAM {
            return;
        }
        let mut key = FlowKey {
            cookie: bpf_get_socket_cookie(skb.cast()),
            remote_addr: [0; 16],
            remote_port: packet.remote.1,
            // Not that of the packet, which this host may have translated (SNAT).
            local_port: (*sk).src_port as u16,
            padding: [0; 2],
        };
        flow::set_remote_addr(&mut key, packet.remote.0);
        let flow = match UDP_FLOWS.get_ptr_mut(&key) {
            Some(flow) => flow,
            None => match insert_flow(&key, direction) {
                Some(flow) => flow,
                None => return count(LossCounter::UdpUncounted),
            },
        };
        add_datagram(flow, &packet, direction);
        if direction == Direction::Sent {
            refusal::note_sent(&key, &packet);
        }
        if (*flow).emitted == 0
            && let Some(socket) = flow::socket_storage(sk.cast(), true)
        {
            flow::emit_flow(socket, flow, &key, packet.local, sock::netns(sk.cast()));
        }
        // A connected socket receives only from its peer. That holds with DNAT too, where the sent
        // datagrams are counted in a flow with another remote address.
        if direction == Direction::Received
            && packet.remote.1 == dns::PORT
            && ((*flow).packets_sent != 0 || (*sk).dst_port != 0)
        {
            dns::emit_response(skb, &packet);
        }
    }
}

/// Inserts a new flow and returns it, or the one that another CPU inserted concurrently.
#[inline(always)]
fn insert_flow(key: &FlowKey, direction: Direction) -> Option<*mut FlowCounts> {
    let flow = FlowCounts {
        first_boot_ns: boot_ns(),
        last_monotonic_ns: 0,
        bytes_sent: 0,
        bytes_received: 0,
        packets_sent: 0,
        packets_received: 0,
        inbound: u16::from(direction == Direction::Received),
        emitted: 0,
        owner_resolved: 0,
        refused: 0,
    };
    let _existed = UDP_FLOWS.insert(key, &flow, u64::from(BPF_NOEXIST));
    UDP_FLOWS.get_ptr_mut(key)
}

/// # Safety
///
/// `flow` must come from [`UDP_FLOWS`].
#[inline(always)]
unsafe fn add_datagram(flow: *mut FlowCounts, packet: &Packet, direction: Direction) {
    // SAFETY: the caller's contract.
    unsafe {
        let (bytes, packets) = match direction {
            Direction::Sent => (&raw mut (*flow).bytes_sent, &raw mut (*flow).packets_sent),
            Direction::Received => {
                (&raw mut (*flow).bytes_received, &raw mut (*flow).packets_received)
            }
        };
        add(bytes, packet.payload.into());
        add(packets, packet.datagrams.into());
        (&raw mut (*flow).last_monotonic_ns).write_volatile(monotonic_ns());
    }
}
