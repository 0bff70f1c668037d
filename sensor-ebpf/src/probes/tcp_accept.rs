//! Accept: whose an inbound connection is.
//!
//! `inet_csk_accept` returns the socket to the task that accepted it. Where neither fexit nor
//! kretprobe may be attached, the first task to read or write the socket is its owner (a worker
//! reads what it accepted), then the one that closes it. Until any of these, the owner of the
//! listener stands in, and the record says so.

use aya_ebpf::macros::{fexit, kretprobe, raw_tracepoint};
use aya_ebpf::programs::{FExitContext, RawTracePointContext, RetProbeContext};
use sensor_ebpf::record::{OwnerSource, RecordKind, TcpRecord};

use crate::emit::{self, Ledger};
use crate::globals::ACCEPT_PENDING;
use crate::sock::{self, TCP_ESTABLISHED};
use crate::task;

/// Hook: `struct sock *inet_csk_accept(struct sock *sk, int flags, int *err, bool kern)`,
/// `net/ipv4/inet_connection_sock.c`, up to v6.9: the result is argument 4.
#[fexit(function = "inet_csk_accept")]
pub(crate) fn inet_csk_accept_fexit4(ctx: FExitContext) -> i32 {
    accepted(ctx.arg(4));
    0
}

/// Hook: `struct sock *inet_csk_accept(struct sock *sk, struct proto_accept_arg *arg)`,
/// `net/ipv4/inet_connection_sock.c`, v6.10 and later: the result is argument 2.
#[fexit(function = "inet_csk_accept")]
pub(crate) fn inet_csk_accept_fexit2(ctx: FExitContext) -> i32 {
    accepted(ctx.arg(2));
    0
}

/// Hook: the return of `inet_csk_accept`, any signature.
#[kretprobe]
pub(crate) fn inet_csk_accept_kretprobe(ctx: RetProbeContext) -> u32 {
    accepted(ctx.ret());
    0
}

#[inline(always)]
fn accepted(sk: *const u8) {
    if !sk.is_null() {
        own(sk, OwnerSource::Accept);
    }
}

/// Hook: `TP_PROTO(struct sock *sk, int ret, int flags)`, `include/trace/events/sock.h`,
/// `sock_recv_length`, v6.3 and later. Fires for every read of every socket, in the reader.
#[raw_tracepoint(tracepoint = "sock_recv_length")]
pub(crate) fn sock_recv_length(ctx: RawTracePointContext) -> i32 {
    own(ctx.arg(0), OwnerSource::FirstIo);
    0
}

/// Hook: `TP_PROTO(struct sock *sk, int ret, int flags)`, `include/trace/events/sock.h`,
/// `sock_send_length`, v6.3 and later. Fires for every write of every socket, in the writer.
#[raw_tracepoint(tracepoint = "sock_send_length")]
pub(crate) fn sock_send_length(ctx: RawTracePointContext) -> i32 {
    own(ctx.arg(0), OwnerSource::FirstIo);
    0
}

/// Hook: `TP_PROTO(struct sock *sk)`, `include/trace/events/tcp.h`, `tcp_rcv_space_adjust`,
/// v4.16 and later. Fires when data is copied to a reader, in the reader.
#[raw_tracepoint(tracepoint = "tcp_rcv_space_adjust")]
pub(crate) fn tcp_rcv_space_adjust(ctx: RawTracePointContext) -> i32 {
    own(ctx.arg(0), OwnerSource::FirstIo);
    0
}

/// Says that the current task owns `sk`, once, if `sk` is a connection that nobody owns yet.
#[inline(always)]
pub(crate) fn own(sk: *const u8, source: OwnerSource) {
    if ACCEPT_PENDING.get_ptr(sk as u64).is_none() || ACCEPT_PENDING.remove(sk as u64).is_err() {
        return;
    }
    emit::record::<TcpRecord>(Ledger::Tcp, |record| {
        let header = emit::header::<TcpRecord>(RecordKind::TcpOwner, source as u32);
        let states = (TCP_ESTABLISHED, TCP_ESTABLISHED);
        // SAFETY: `record` is the reserved entry, a whole TcpRecord.
        unsafe {
            sock::fill_empty(record, header, sk, states);
            task::fill_current(&raw mut (*record).task);
        }
    });
}

/// Drops `sk` from the table of connections without an owner.
#[inline(always)]
pub(crate) fn forget(sk: *const u8) {
    // A connection that is not in the table has an owner already: nothing to do.
    if ACCEPT_PENDING.get_ptr(sk as u64).is_some() {
        let _absent = ACCEPT_PENDING.remove(sk as u64);
    }
}
