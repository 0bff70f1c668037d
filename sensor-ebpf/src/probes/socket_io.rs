//! Reads and writes of every socket, in the task that reads or writes. One program per direction
//! does all the work, since the call of a further program costs as much as the work itself.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use sensor_ebpf::latency::ResponseDirection;
use sensor_ebpf::offsets::Offset;

use crate::kernel::{Structure as _, Typed, untyped};
use crate::packet::IPPROTO_UDP;
use crate::probes::{tcp_accept, tcp_latency, udp_owner};
use crate::sock::{self, IPPROTO_TCP, TCP_CLOSE};

/// `include/linux/socket.h`; the data stays in the queue (`recv(2)`).
const MSG_PEEK: i32 = 2;

/// Hook: `TP_PROTO(struct sock *sk, int ret, int flags)`, `include/trace/events/sock.h`,
/// `sock_send_length`, v6.3 and later; called in `net/socket.c: sock_sendmsg_nosec`.
#[btf_tracepoint(function = "sock_send_length")]
pub(crate) fn socket_write(ctx: BtfTracePointContext) -> i32 {
    let (sk, length): (*const u8, i32) = (ctx.arg(0), ctx.arg(1));
    // SAFETY: the tracepoint's socket, in the task that writes to it.
    unsafe {
        let socket = Typed::new(sk);
        match sock::protocol(socket) {
            IPPROTO_TCP => on_tcp_io(sk, socket, (ResponseDirection::Sent, length > 0)),
            IPPROTO_MPTCP => tcp_accept::emit_first_io(untyped(sk)),
            UDP => udp_owner::on_write(sk.cast_mut().cast(), length),
            _ => {}
        }
    }
    0
}

/// Hook: `TP_PROTO(struct sock *sk, int ret, int flags)`, `include/trace/events/sock.h`,
/// `sock_recv_length`, v6.3 and later; called in `net/socket.c: sock_recvmsg_nosec`.
#[btf_tracepoint(function = "sock_recv_length")]
pub(crate) fn socket_read(ctx: BtfTracePointContext) -> i32 {
    let (sk, length, flags): (*const u8, i32, i32) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    // SAFETY: the tracepoint's socket, in the task that reads it.
    unsafe {
        let socket = Typed::new(sk);
        match sock::protocol(socket) {
            IPPROTO_TCP => {
                let has_payload = length > 0 && flags & MSG_PEEK == 0;
                on_tcp_io(sk, socket, (ResponseDirection::Received, has_payload));
            }
            IPPROTO_MPTCP => tcp_accept::emit_first_io(untyped(sk)),
            UDP if length >= 0 => udp_owner::on_read(sk.cast_mut().cast()),
            _ => {}
        }
    }
    0
}

const UDP: u16 = IPPROTO_UDP as u16;
/// `include/uapi/linux/in.h`.
const IPPROTO_MPTCP: u16 = 262;

/// Updates the response latency of a connection if the call moved payload, and emits the owner of a
/// connection at its first call.
///
/// # Safety
///
/// `sk` must be the tracepoint's socket, and `socket` the same one.
#[inline(always)]
unsafe fn on_tcp_io(
    sk: *const u8,
    socket: Typed,
    (direction, has_payload): (ResponseDirection, bool),
) {
    // No latency after the close record: nothing would emit or remove its map entry.
    let state: u8 = socket.get(Offset::SkState).unwrap_or(TCP_CLOSE);
    // SAFETY: the caller's contract.
    let may_be_first =
        !has_payload || state != TCP_CLOSE && unsafe { tcp_latency::record_call(sk, direction) };
    if may_be_first {
        tcp_accept::emit_first_io(untyped(sk));
    }
}
