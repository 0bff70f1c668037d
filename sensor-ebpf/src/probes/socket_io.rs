//! Every read and write of every socket, in the task that reads or writes: one program each for all
//! that is to be known of it, since each program more costs as much as its work.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use sensor_ebpf::latency::ResponseDirection;
use sensor_ebpf::offsets::Offset;

use crate::kernel::{Structure as _, Typed, untyped};
use crate::packet::IPPROTO_UDP;
use crate::probes::{tcp_accept, tcp_latency, udp_owner};
use crate::sock::{self, IPPROTO_TCP, TCP_CLOSE};

/// `include/linux/socket.h`: what is read stays to be read.
const MSG_PEEK: i32 = 2;

/// Hook: `TP_PROTO(struct sock *sk, int ret, int flags)`, `include/trace/events/sock.h`,
/// `sock_send_length`, v6.3 and later.
#[btf_tracepoint(function = "sock_send_length")]
pub(crate) fn socket_write(ctx: BtfTracePointContext) -> i32 {
    let (sk, length): (*const u8, i32) = (ctx.arg(0), ctx.arg(1));
    // SAFETY: the tracepoint's socket, in the task that writes to it.
    unsafe {
        let socket = Typed::new(sk);
        match sock::protocol(socket) {
            IPPROTO_TCP => of_connection(sk, socket, (ResponseDirection::Sent, length > 0)),
            UDP if length >= 0 => udp_owner::has_written(sk.cast_mut().cast()),
            _ => {}
        }
    }
    0
}

/// Hook: `TP_PROTO(struct sock *sk, int ret, int flags)`, `include/trace/events/sock.h`,
/// `sock_recv_length`, v6.3 and later.
#[btf_tracepoint(function = "sock_recv_length")]
pub(crate) fn socket_read(ctx: BtfTracePointContext) -> i32 {
    let (sk, length, flags): (*const u8, i32, i32) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    // SAFETY: the tracepoint's socket, in the task that reads it.
    unsafe {
        let socket = Typed::new(sk);
        match sock::protocol(socket) {
            IPPROTO_TCP => {
                let moved = length > 0 && flags & MSG_PEEK == 0;
                of_connection(sk, socket, (ResponseDirection::Received, moved));
            }
            UDP if length >= 0 => udp_owner::has_read(sk.cast_mut().cast()),
            _ => {}
        }
    }
    0
}

const UDP: u16 = IPPROTO_UDP as u16;

/// Whose a connection is, at its first touch; its turns, when payload `moved`.
///
/// # Safety
///
/// `sk` must be the tracepoint's socket, and `socket` the same.
#[inline(always)]
unsafe fn of_connection(sk: *const u8, socket: Typed, (way, moved): (ResponseDirection, bool)) {
    // What is read after the end is told to nobody any more.
    let state: u8 = socket.get(Offset::SkState).unwrap_or(TCP_CLOSE);
    // SAFETY: the caller's promise.
    let first = !moved || state != TCP_CLOSE && unsafe { tcp_latency::moves(sk, way) };
    if first {
        tcp_accept::own(untyped(sk));
    }
}
