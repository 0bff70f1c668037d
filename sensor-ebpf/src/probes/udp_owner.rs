//! Owners of UDP sockets: the tasks that bind, connect, send and read, each observed in the task.
//!
//! The programs only observe. They return 1, which lets the call proceed unchanged. Program and
//! attach types: `Documentation/bpf/libbpf/program_types.rst`.

use core::ffi::c_void;

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use sensor_ebpf::record::UdpOwnerSource;

use crate::flow::{self, UDP_FLOWS};
use crate::globals::add;
use crate::packet::{IPPROTO_UDP, map_v4};
use crate::refusal;
use crate::sock::Address;
use crate::task;

/// Return value that lets the call proceed.
const PASS: i32 = 1;
/// `include/linux/net.h: enum sock_type`.
const SOCK_DGRAM: u32 = 2;

/// Hook: `BPF_CGROUP_RUN_PROG_INET4_POST_BIND(sk)` in `net/ipv4/af_inet.c: __inet_bind`, v4.17 and
/// later (`bind(2)`). An automatic bind does not run it.
#[cgroup_sock(post_bind4)]
pub(crate) fn udp_post_bind4(ctx: SockContext) -> i32 {
    on_bind(ctx.sock)
}

/// Hook: `BPF_CGROUP_RUN_PROG_INET6_POST_BIND(sk)` in `net/ipv6/af_inet6.c: __inet6_bind`, v4.17
/// and later (`bind(2)`).
#[cgroup_sock(post_bind6)]
pub(crate) fn udp_post_bind6(ctx: SockContext) -> i32 {
    on_bind(ctx.sock)
}

#[inline(always)]
fn on_bind(sk: *mut bpf_sock) -> i32 {
    // SAFETY: members of the context of a cgroup_sock program, which represents the socket.
    unsafe {
        if (*sk).protocol == u32::from(IPPROTO_UDP)
            && (*sk).type_ == SOCK_DGRAM
            && let Some(socket) = flow::socket_storage(sk.cast(), true)
        {
            flow::set_owner(socket, UdpOwnerSource::Bound);
        }
    }
    PASS
}

/// Hook: `BPF_CGROUP_RUN_PROG_INET_SOCK_RELEASE(sk)` in `net/ipv4/af_inet.c: inet_release`, v5.9
/// and later. Runs when the last descriptor is closed (`close(2)`).
#[cgroup_sock(sock_release)]
pub(crate) fn udp_release(ctx: SockContext) -> i32 {
    let sk = ctx.sock;
    // SAFETY: as in `on_bind`.
    unsafe {
        if (*sk).protocol == u32::from(IPPROTO_UDP)
            && let Some(socket) = flow::socket_storage(sk.cast(), false)
            && (*socket).cookie != 0
        {
            flow::emit_release((*socket).cookie);
        }
    }
    PASS
}

/// Hook: `BPF_CGROUP_RUN_PROG_INET4_CONNECT(sk, uaddr, uaddrlen)` (no `uaddrlen` before v6.7) in
/// `net/ipv4/udp.c: udp_pre_connect`, v4.17 and later (`connect(2)`, `udp(7)`).
#[cgroup_sock_addr(connect4)]
pub(crate) fn udp_connect4(ctx: SockAddrContext) -> i32 {
    on_connect(ctx.sock_addr)
}

/// Hook: `BPF_CGROUP_RUN_PROG_INET6_CONNECT(sk, uaddr, uaddrlen)` (no `uaddrlen` before v6.7) in
/// `net/ipv6/udp.c: udpv6_pre_connect`, v4.17 and later (`connect(2)`, `udp(7)`).
#[cgroup_sock_addr(connect6)]
pub(crate) fn udp_connect6(ctx: SockAddrContext) -> i32 {
    on_connect(ctx.sock_addr)
}

#[inline(always)]
fn on_connect(ctx: *mut bpf_sock_addr) -> i32 {
    // SAFETY: members of the context of a cgroup_sock_addr program, in the calling task.
    unsafe {
        if is_udp(ctx)
            && let Some(socket) = socket_of(ctx, true)
        {
            flow::set_owner(socket, UdpOwnerSource::Sent);
        }
    }
    PASS
}

/// Hook: `BPF_CGROUP_RUN_PROG_UDP4_SENDMSG_LOCK(sk, uaddr, uaddrlen, t_ctx)` (no `uaddrlen` before
/// v6.7) in `net/ipv4/udp.c: udp_sendmsg`, v4.18 and later.
///
/// Runs for a datagram with an address (`sendto(2)`). Used only on kernels without
/// `sock_send_length`, which is cheaper.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn udp_sendmsg4(ctx: SockAddrContext) -> i32 {
    on_sendmsg(ctx.sock_addr)
}

/// Hook: `BPF_CGROUP_RUN_PROG_UDP6_SENDMSG_LOCK(sk, uaddr, uaddrlen, t_ctx)` (no `uaddrlen` before
/// v6.7) in `net/ipv6/udp.c: udpv6_sendmsg`, v4.18 and later.
///
/// A mapped address takes the path of `udp_sendmsg` instead.
#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn udp_sendmsg6(ctx: SockAddrContext) -> i32 {
    on_sendmsg(ctx.sock_addr)
}

#[inline(always)]
fn on_sendmsg(ctx: *mut bpf_sock_addr) -> i32 {
    // SAFETY: as in `on_connect`.
    unsafe {
        if is_udp(ctx)
            && let Some(socket) = socket_of(ctx, true)
        {
            let _is_new = flow::record_sender(socket, current_tgid());
        }
    }
    PASS
}

/// Hook: `BPF_CGROUP_RUN_PROG_UDP4_RECVMSG_LOCK(sk, uaddr, uaddrlen)` (no `uaddrlen` before v6.7)
/// in `net/ipv4/udp.c: udp_recvmsg`, v5.2 and later.
///
/// Runs for a datagram whose reader requests the sender's address (`recvfrom(2)`).
#[cgroup_sock_addr(recvmsg4)]
pub(crate) fn udp_recvmsg4(ctx: SockAddrContext) -> i32 {
    let ctx = ctx.sock_addr;
    // SAFETY: as in `on_connect`; a program of this type may read the IPv4 members.
    unsafe {
        if let Some(socket) = unresolved_socket(ctx) {
            resolve_inbound(ctx, socket, map_v4((*ctx).user_ip4));
        }
    }
    PASS
}

/// Hook: `BPF_CGROUP_RUN_PROG_UDP6_RECVMSG_LOCK(sk, uaddr, uaddrlen)` (no `uaddrlen` before v6.7)
/// in `net/ipv6/udp.c: udpv6_recvmsg`, v5.2 and later. The sender of an IPv4 datagram is mapped.
#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn udp_recvmsg6(ctx: SockAddrContext) -> i32 {
    let ctx = ctx.sock_addr;
    // SAFETY: as in `on_connect`; a program of this type may read the IPv6 members, word by word.
    unsafe {
        if let Some(socket) = unresolved_socket(ctx) {
            let words = (&raw const (*ctx).user_ip6).cast::<u32>();
            let sender = [
                words.read_volatile(),
                words.add(1).read_volatile(),
                words.add(2).read_volatile(),
                words.add(3).read_volatile(),
            ];
            resolve_inbound(ctx, socket, sender);
        }
    }
    PASS
}

/// Returns the socket's storage, if an inbound flow of it has no owner yet.
///
/// # Safety
///
/// `ctx` must be the context of a `cgroup_sock_addr` program.
#[inline(always)]
unsafe fn unresolved_socket(ctx: *mut bpf_sock_addr) -> Option<*mut flow::UdpSocket> {
    // SAFETY: the caller's contract; the socket's values come from the storage.
    unsafe {
        let socket = socket_of(ctx, false)?;
        ((*socket).unresolved_inbound.cast_signed() > 0).then_some(socket)
    }
}

/// Emits the current task, which reads a datagram of `sender`, as the owner of that flow, unless it
/// has one.
///
/// # Safety
///
/// As for [`unresolved_socket`]; `socket` must be its result.
#[inline(always)]
unsafe fn resolve_inbound(ctx: *mut bpf_sock_addr, socket: *mut flow::UdpSocket, sender: Address) {
    // SAFETY: the caller's contract.
    unsafe {
        let sk = (*ctx).__bindgen_anon_1.sk;
        if sk.is_null() || task::is_kernel_thread() {
            return;
        }
        let local_port = (*sk).src_port as u16;
        (*socket).reads_with_address = 1;
        let mut key = flow::all_flows((*socket).cookie);
        key.remote_port = u16::from_be((*ctx).user_port as u16);
        key.local_port = local_port;
        flow::set_remote_addr(&mut key, sender);
        let Some(flow) = UDP_FLOWS.get_ptr_mut(&key) else { return };
        if (*flow).owner_resolved != 0 {
            return;
        }
        (*flow).owner_resolved = 1;
        add(&raw mut (*socket).unresolved_inbound, u64::MAX);
        flow::set_owner(socket, UdpOwnerSource::FirstIo);
        flow::emit_owner(&key, true);
    }
}

/// Emits the current task, which has read a UDP socket, as the owner of its inbound flows without
/// one. Skipped if readers of the socket request the sender's address: `recvmsg` hooks are then
/// exact.
///
/// # Safety
///
/// `sk` must be a pointer that the verifier accepts as a socket.
#[inline(always)]
pub(crate) unsafe fn on_read(sk: *mut c_void) {
    // SAFETY: the caller's contract.
    unsafe {
        let Some(socket) = flow::socket_storage(sk, false) else { return };
        if (*socket).unresolved_inbound.cast_signed() > 0
            && (*socket).reads_with_address == 0
            && !task::is_kernel_thread()
        {
            (*socket).unresolved_inbound = 0;
            flow::set_owner(socket, UdpOwnerSource::FirstIo);
            flow::emit_owner(&flow::all_flows((*socket).cookie), true);
        }
    }
}

/// Records the current task, which has written to a UDP socket, as a sender, and as the owner of an
/// outbound flow without one. The datagram has already passed the `cgroup_skb` programs. `length` is
/// the result of the call: a refused datagram is no longer counted, and has its sender too.
///
/// # Safety
///
/// As for [`on_read`].
#[inline(always)]
pub(crate) unsafe fn on_write(sk: *mut c_void, length: i32) {
    if length >= 0 {
        refusal::note_left();
    }
    // SAFETY: the caller's contract.
    unsafe {
        let Some(socket) = flow::socket_storage(sk, false) else { return };
        if length < 0 && !refusal::undo_refused(socket, length) || task::is_kernel_thread() {
            return;
        }
        if flow::record_sender(socket, current_tgid()) && (*socket).unresolved_outbound != 0 {
            // Each new sender resolves one flow, its own: several may have begun concurrently.
            (*socket).unresolved_outbound = (*socket).unresolved_outbound.wrapping_sub(1);
            flow::emit_owner(&flow::all_flows((*socket).cookie), false);
        }
    }
}

#[inline(always)]
fn current_tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// # Safety
///
/// `ctx` must be the context of a `cgroup_sock_addr` program.
#[inline(always)]
unsafe fn is_udp(ctx: *mut bpf_sock_addr) -> bool {
    // SAFETY: the caller's contract.
    unsafe { (*ctx).protocol == u32::from(IPPROTO_UDP) && (*ctx).type_ == SOCK_DGRAM }
}

/// # Safety
///
/// `ctx` must be the context of a `cgroup_sock_addr` program.
#[inline(always)]
unsafe fn socket_of(ctx: *mut bpf_sock_addr, create: bool) -> Option<*mut flow::UdpSocket> {
    // SAFETY: the caller's contract; the member is checked for null.
    unsafe {
        let sk = (*ctx).__bindgen_anon_1.sk;
        if sk.is_null() { None } else { flow::socket_storage(sk.cast(), create) }
    }
}
