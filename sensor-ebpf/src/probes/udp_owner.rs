//! Whose a UDP socket is: who binds, connects, sends and reads it, each seen in the task itself.
//!
//! The programs only look: they return 1, which lets the call go on unchanged.

use core::ffi::c_void;

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use sensor_ebpf::record::UdpOwnerSource;

use crate::flow::{self, UDP_FLOWS};
use crate::globals::add;
use crate::packet::{IPPROTO_UDP, mapped};
use crate::sock::Address;

/// Lets the call go on.
const PASS: i32 = 1;
/// `include/linux/net.h`.
const SOCK_DGRAM: u32 = 2;

/// Hook: `BPF_CGROUP_RUN_PROG_INET4_POST_BIND(sk)` of `__inet_bind`, `net/ipv4/af_inet.c`, v4.17
/// and later. An automatic bind does not come here.
#[cgroup_sock(post_bind4)]
pub(crate) fn udp_post_bind4(ctx: SockContext) -> i32 {
    bound(ctx.sock)
}

/// Hook: `BPF_CGROUP_RUN_PROG_INET6_POST_BIND(sk)` of `__inet6_bind`, `net/ipv6/af_inet6.c`, v4.17
/// and later.
#[cgroup_sock(post_bind6)]
pub(crate) fn udp_post_bind6(ctx: SockContext) -> i32 {
    bound(ctx.sock)
}

#[inline(always)]
fn bound(sk: *mut bpf_sock) -> i32 {
    // SAFETY: the context of a cgroup_sock program, which stands for the socket; its members.
    unsafe {
        if (*sk).protocol == u32::from(IPPROTO_UDP)
            && (*sk).type_ == SOCK_DGRAM
            && let Some(socket) = flow::socket(sk.cast(), true)
        {
            flow::own(socket, UdpOwnerSource::Bound);
        }
    }
    PASS
}

/// Hook: `BPF_CGROUP_RUN_PROG_INET_SOCK_RELEASE(sk)` of `inet_release`, `net/ipv4/af_inet.c`, v5.9
/// and later: the last descriptor is closed.
#[cgroup_sock(sock_release)]
pub(crate) fn udp_release(ctx: SockContext) -> i32 {
    let sk = ctx.sock;
    // SAFETY: as in `bound`.
    unsafe {
        if (*sk).protocol == u32::from(IPPROTO_UDP)
            && let Some(socket) = flow::socket(sk.cast(), false)
            && (*socket).cookie != 0
        {
            flow::tell_release((*socket).cookie);
        }
    }
    PASS
}

/// Hook: `BPF_CGROUP_RUN_PROG_INET4_CONNECT(sk, uaddr, uaddrlen)` of `ip4_datagram_connect` and
/// `udp_pre_connect`, `net/ipv4/udp.c`, v4.17 and later.
#[cgroup_sock_addr(connect4)]
pub(crate) fn udp_connect4(ctx: SockAddrContext) -> i32 {
    connects(ctx.sock_addr)
}

/// Hook: `BPF_CGROUP_RUN_PROG_INET6_CONNECT(sk, uaddr, uaddrlen)` of `udpv6_pre_connect`,
/// `net/ipv6/udp.c`, v4.17 and later.
#[cgroup_sock_addr(connect6)]
pub(crate) fn udp_connect6(ctx: SockAddrContext) -> i32 {
    connects(ctx.sock_addr)
}

#[inline(always)]
fn connects(ctx: *mut bpf_sock_addr) -> i32 {
    // SAFETY: the context of a cgroup_sock_addr program, in the task that calls; its members.
    unsafe {
        if is_udp(ctx)
            && let Some(socket) = socket_of(ctx, true)
        {
            flow::own(socket, UdpOwnerSource::Sent);
        }
    }
    PASS
}

/// Hook: `BPF_CGROUP_RUN_PROG_UDP4_SENDMSG_LOCK(sk, uaddr, uaddrlen, t_ctx)` of `udp_sendmsg`,
/// `net/ipv4/udp.c`, v4.18 and later: a datagram with an address. For kernels without
/// `sock_send_length`, which costs less.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn udp_sendmsg4(ctx: SockAddrContext) -> i32 {
    sends(ctx.sock_addr)
}

/// Hook: `BPF_CGROUP_RUN_PROG_UDP6_SENDMSG_LOCK(sk, uaddr, uaddrlen, t_ctx)` of `udpv6_sendmsg`,
/// `net/ipv6/udp.c`, v4.18 and later. A mapped address comes through `udp_sendmsg`.
#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn udp_sendmsg6(ctx: SockAddrContext) -> i32 {
    sends(ctx.sock_addr)
}

#[inline(always)]
fn sends(ctx: *mut bpf_sock_addr) -> i32 {
    // SAFETY: as in `connects`.
    unsafe {
        if is_udp(ctx)
            && let Some(socket) = socket_of(ctx, true)
        {
            let _new = flow::sends(socket, current_tgid());
        }
    }
    PASS
}

/// Hook: `BPF_CGROUP_RUN_PROG_UDP4_RECVMSG_LOCK(sk, uaddr, uaddrlen)` of `udp_recvmsg`,
/// `net/ipv4/udp.c`, v5.2 and later: a datagram whose reader wants the sender's address.
#[cgroup_sock_addr(recvmsg4)]
pub(crate) fn udp_recvmsg4(ctx: SockAddrContext) -> i32 {
    let ctx = ctx.sock_addr;
    // SAFETY: as in `connects`; a program of this type may read the IPv4 members.
    unsafe {
        if let Some(socket) = wants_owner(ctx) {
            reads(ctx, socket, mapped((*ctx).user_ip4));
        }
    }
    PASS
}

/// Hook: `BPF_CGROUP_RUN_PROG_UDP6_RECVMSG_LOCK(sk, uaddr, uaddrlen)` of `udpv6_recvmsg`,
/// `net/ipv6/udp.c`, v5.2 and later. The sender of an IPv4 datagram is mapped.
#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn udp_recvmsg6(ctx: SockAddrContext) -> i32 {
    let ctx = ctx.sock_addr;
    // SAFETY: as in `connects`; a program of this type may read the IPv6 members, word by word.
    unsafe {
        if let Some(socket) = wants_owner(ctx) {
            let words = (&raw const (*ctx).user_ip6).cast::<u32>();
            let sender = [
                words.read_volatile(),
                words.add(1).read_volatile(),
                words.add(2).read_volatile(),
                words.add(3).read_volatile(),
            ];
            reads(ctx, socket, sender);
        }
    }
    PASS
}

/// The socket, if a flow of it has no owner yet.
///
/// # Safety
///
/// `ctx` must be the context of a `cgroup_sock_addr` program.
#[inline(always)]
unsafe fn wants_owner(ctx: *mut bpf_sock_addr) -> Option<*mut flow::UdpSocket> {
    // SAFETY: the caller's promise; the socket's values come from the storage.
    unsafe {
        let socket = socket_of(ctx, false)?;
        ((*socket).unread.cast_signed() > 0).then_some(socket)
    }
}

/// The current task reads a datagram of `sender`: it owns that flow, if nobody does.
///
/// # Safety
///
/// As for [`wants_owner`], whose result `socket` is.
#[inline(always)]
unsafe fn reads(ctx: *mut bpf_sock_addr, socket: *mut flow::UdpSocket, sender: Address) {
    // SAFETY: the caller's promise.
    unsafe {
        (*socket).reads_addressed = 1;
        let mut key = flow::any_flow((*socket).cookie);
        key.remote_port = u16::from_be((*ctx).user_port as u16);
        flow::set_remote(&mut key, sender);
        let Some(flow) = UDP_FLOWS.get_ptr_mut(&key) else { return };
        if (*flow).owner_resolved != 0 {
            return;
        }
        (*flow).owner_resolved = 1;
        add(&raw mut (*socket).unread, u64::MAX);
        flow::own(socket, UdpOwnerSource::FirstIo);
        flow::tell_owner(&key, true);
    }
}

/// The current task has read a UDP socket, whether or not it wanted the sender's address. On a socket
/// whose readers do they are known better.
///
/// # Safety
///
/// `sk` must be what the verifier takes for a socket.
#[inline(always)]
pub(crate) unsafe fn has_read(sk: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(socket) = flow::socket(sk, false) else { return };
        if (*socket).unread.cast_signed() > 0 && (*socket).reads_addressed == 0 {
            (*socket).unread = 0;
            flow::own(socket, UdpOwnerSource::FirstIo);
            flow::tell_owner(&flow::any_flow((*socket).cookie), true);
        }
    }
}

/// The current task has written to a UDP socket; the datagram has passed the other programs.
///
/// # Safety
///
/// As for [`has_read`].
#[inline(always)]
pub(crate) unsafe fn has_written(sk: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(socket) = flow::socket(sk, false) else { return };
        if flow::sends(socket, current_tgid()) && (*socket).unsent != 0 {
            // Each new sender settles its own: several may have begun at once.
            (*socket).unsent = (*socket).unsent.wrapping_sub(1);
            flow::tell_owner(&flow::any_flow((*socket).cookie), false);
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
    // SAFETY: the caller's promise.
    unsafe { (*ctx).protocol == u32::from(IPPROTO_UDP) && (*ctx).type_ == SOCK_DGRAM }
}

/// # Safety
///
/// `ctx` must be the context of a `cgroup_sock_addr` program.
#[inline(always)]
unsafe fn socket_of(ctx: *mut bpf_sock_addr, create: bool) -> Option<*mut flow::UdpSocket> {
    // SAFETY: the caller's promise; the member is checked for null.
    unsafe {
        let sk = (*ctx).__bindgen_anon_1.sk;
        if sk.is_null() { None } else { flow::socket(sk.cast(), create) }
    }
}
