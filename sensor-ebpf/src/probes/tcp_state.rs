//! TCP life: every state change of every TCP socket.
//!
//! Three programs with one body; the agent attaches the first that loads. The current task is
//! used only where the caller of a system call must be on the CPU: at connect, at listen, and in
//! the closing process's own FIN transitions.

use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext, TracePointContext};
use sensor_ebpf::maps::LossCounter;
use sensor_ebpf::record::{OwnerSource, RecordKind, TcpRecord};

use crate::emit::{self, Ledger};
use crate::globals::{ACCEPT_PENDING, count};
use crate::probes::tcp_accept;
use crate::sock::{
    self, AF_INET, IPPROTO_TCP, TCP_CLOSE, TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_LAST_ACK,
    TCP_LISTEN, TCP_SYN_RECV, TCP_SYN_SENT,
};
use crate::task;

/// Hook: `TP_PROTO(const struct sock *sk, const int oldstate, const int newstate)`,
/// `include/trace/events/sock.h`, `inet_sock_set_state`, v4.16 and later; as `tp_btf` v5.5.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn inet_sock_set_state_btf(ctx: BtfTracePointContext) -> i32 {
    let (sk, old, new): (*const u8, i32, i32) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    state_change(sk, old as u8, new as u8);
    0
}

/// Hook: as above, as raw tracepoint (v4.17).
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub(crate) fn inet_sock_set_state_raw(ctx: RawTracePointContext) -> i32 {
    let (sk, old, new): (*const u8, i32, i32) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    state_change(sk, old as u8, new as u8);
    0
}

#[inline(always)]
fn state_change(sk: *const u8, old: u8, new: u8) {
    let Some(kind) = classify(old, new) else { return };
    // MPTCP's own socket (protocol 262) fires the same tracepoint beside its subflows.
    if sock::protocol(sk) != IPPROTO_TCP {
        return;
    }
    match kind {
        RecordKind::TcpOwner => {
            tcp_accept::own(sk, OwnerSource::FirstIo);
            return;
        }
        RecordKind::TcpEstablished if old == TCP_SYN_RECV => remember_pending(sk),
        RecordKind::TcpClose => before_close(sk),
        _ => {}
    }
    emit::record::<TcpRecord>(Ledger::Tcp, |record| {
        // SAFETY: `record` is the reserved entry, a whole TcpRecord; `sk` is the tracepoint's
        // socket, a tcp_sock since its protocol is TCP and it is past the request stage.
        unsafe {
            sock::fill(record, emit::header::<TcpRecord>(kind, 0), sk, (old, new));
            fill_task(record, kind);
            match kind {
                RecordKind::TcpClose => sock::fill_close(record, sk),
                RecordKind::TcpUnlisten => sock::fill_kept_port(record, sk),
                _ => {}
            }
        }
    });
}

/// What a transition means to us.
#[inline(always)]
const fn classify(old: u8, new: u8) -> Option<RecordKind> {
    match (old, new) {
        (TCP_CLOSE, TCP_SYN_SENT) => Some(RecordKind::TcpConnect),
        (TCP_SYN_SENT | TCP_SYN_RECV, TCP_ESTABLISHED) => Some(RecordKind::TcpEstablished),
        // ESTABLISHED to FIN_WAIT1 and CLOSE_WAIT to LAST_ACK happen in the closing task.
        (_, TCP_FIN_WAIT1 | TCP_LAST_ACK) => Some(RecordKind::TcpOwner),
        (TCP_CLOSE, TCP_LISTEN) => Some(RecordKind::TcpListen),
        (TCP_LISTEN, TCP_CLOSE) => Some(RecordKind::TcpUnlisten),
        (TCP_CLOSE, TCP_CLOSE) => None,
        (_, TCP_CLOSE) => Some(RecordKind::TcpClose),
        _ => None,
    }
}

/// The current task where it is the one that acts, nobody elsewhere.
///
/// # Safety
///
/// `record` must be writable.
#[inline(always)]
unsafe fn fill_task(record: *mut TcpRecord, kind: RecordKind) {
    // SAFETY: the caller's promise.
    unsafe {
        let ids = &raw mut (*record).task;
        match kind {
            RecordKind::TcpConnect | RecordKind::TcpListen => task::fill_current(ids),
            _ => task::fill_nobody(ids),
        }
    }
}

#[inline(always)]
fn remember_pending(sk: *const u8) {
    if ACCEPT_PENDING.insert(sk as u64, 1, 0).is_err() {
        count(LossCounter::AcceptPendingFull);
    }
}

/// A connection that ends untouched: an abort by its own process (linger 0, unread data) runs in
/// that process and leaves no error; a reset or a time-out leaves one and runs anywhere.
#[inline(always)]
fn before_close(sk: *const u8) {
    if sock::error(sk) == 0 {
        tcp_accept::own(sk, OwnerSource::FirstIo);
    } else {
        tcp_accept::forget(sk);
    }
}

/// Offsets of the classic tracepoint's fields
/// (`events/sock/inet_sock_set_state/format`; the same from 5.8 to 7.0).
mod classic {
    pub(super) const SKADDR: usize = 8;
    pub(super) const OLDSTATE: usize = 16;
    pub(super) const NEWSTATE: usize = 20;
    pub(super) const SPORT: usize = 24;
    pub(super) const DPORT: usize = 26;
    pub(super) const FAMILY: usize = 28;
    pub(super) const PROTOCOL: usize = 30;
    pub(super) const SADDR: usize = 32;
    pub(super) const DADDR: usize = 36;
    pub(super) const SADDR_V6: usize = 40;
    pub(super) const DADDR_V6: usize = 56;
}

/// Hook: as above, through tracefs and perf: for a kernel without BTF, from the event's own
/// fields alone. No byte counts, no error, no namespace.
#[tracepoint(category = "sock", name = "inet_sock_set_state")]
pub(crate) fn inet_sock_set_state_classic(ctx: TracePointContext) -> u32 {
    classic_state_change(&ctx).unwrap_or(0)
}

#[inline(always)]
fn classic_state_change(ctx: &TracePointContext) -> Option<u32> {
    let sk: *const u8 = classic_field(ctx, classic::SKADDR)?;
    let old = classic_field::<i32>(ctx, classic::OLDSTATE)? as u8;
    let new = classic_field::<i32>(ctx, classic::NEWSTATE)? as u8;
    let kind = classify(old, new)?;
    if classic_field::<u16>(ctx, classic::PROTOCOL)? != IPPROTO_TCP {
        return None;
    }
    match kind {
        RecordKind::TcpOwner => {
            tcp_accept::own(sk, OwnerSource::FirstIo);
            return None;
        }
        RecordKind::TcpEstablished if old == TCP_SYN_RECV => remember_pending(sk),
        RecordKind::TcpClose => tcp_accept::forget(sk),
        _ => {}
    }
    emit::record::<TcpRecord>(Ledger::Tcp, |record| {
        let header = emit::header::<TcpRecord>(kind, 0);
        // SAFETY: `record` is the reserved entry, a whole TcpRecord.
        unsafe {
            sock::fill_empty(record, header, sk, (old, new));
            fill_task(record, kind);
            fill_classic(record, ctx);
        }
    });
    None
}

/// # Safety
///
/// `record` must be writable.
#[inline(always)]
unsafe fn fill_classic(record: *mut TcpRecord, ctx: &TracePointContext) {
    let family = classic_field(ctx, classic::FAMILY).unwrap_or(0);
    // SAFETY: the caller's promise.
    unsafe {
        (*record).family = family;
        (*record).local_port = classic_field(ctx, classic::SPORT).unwrap_or(0);
        (*record).remote_port = classic_field(ctx, classic::DPORT).unwrap_or(0);
        let (local, remote) = if family == AF_INET {
            let v4 = |at| sock::widen(classic_field(ctx, at).unwrap_or(0));
            (v4(classic::SADDR), v4(classic::DADDR))
        } else {
            let v6 = |at| classic_field(ctx, at).unwrap_or([0; 4]);
            (v6(classic::SADDR_V6), v6(classic::DADDR_V6))
        };
        sock::set_address(&raw mut (*record).local_addr, local);
        sock::set_address(&raw mut (*record).remote_addr, remote);
    }
}

#[inline(always)]
fn classic_field<T>(ctx: &TracePointContext, at: usize) -> Option<T> {
    // SAFETY: the offsets are those of the event's format; the read is checked by the kernel.
    unsafe { ctx.read_at(at) }.ok()
}
