//! State changes of every TCP socket (RFC 9293, section 3.3.2).
//!
//! Three programs do the same; the agent attaches the first that loads. The current task is used
//! only where the caller of a system call must be on the CPU: at connect, at listen, and in the FIN
//! transitions of the closing process.

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_skc_to_tcp_sock};
use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext, TracePointContext};
use sensor_ebpf::offsets::Offset;
use sensor_ebpf::record::{CONNECT_RESTORED, RecordKind, TcpRecord};

use crate::accept_pending;
use crate::emit::{self, Ledger};
use crate::globals::has_tracing_cookie;
use crate::kernel::{Probed, Structure, Typed, untyped};
use crate::probes::{tcp_accept, tcp_latency};
use crate::sock::{
    self, AF_INET, IPPROTO_TCP, TCP_CLOSE, TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_LAST_ACK,
    TCP_LISTEN, TCP_SYN_RECV, TCP_SYN_SENT,
};
use crate::task;

/// Hook: `TP_PROTO(const struct sock *sk, const int oldstate, const int newstate)`,
/// `include/trace/events/sock.h`, `inet_sock_set_state`, v4.16 and later; called in
/// `net/ipv4/af_inet.c: inet_sk_set_state` and `inet_sk_state_store`.
///
/// `tp_btf` takes v5.5, `bpf_skc_to_tcp_sock` (`bpf-helpers(7)`) v5.9. Plain loads take a third of
/// the time of checked reads.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn inet_sock_set_state_btf(ctx: BtfTracePointContext) -> i32 {
    let (sk, old, new): (*const u8, i32, i32) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    let states = (old as u8, new as u8);
    let Some(kind) = classify(states) else { return 0 };
    if matches!(kind, RecordKind::TcpOwner) {
        on_fin(untyped(sk), states);
        return 0;
    }
    // SAFETY: the tracepoint's argument, as the helper requires. It returns null for a socket that
    // is not TCP: the MPTCP socket (protocol 262) fires the same tracepoint as its subflows do.
    let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut().cast()) }.cast::<u8>();
    if tcp.is_null() {
        if matches!(kind, RecordKind::TcpClose) {
            let _was_pending = accept_pending::take(untyped(sk) as u64);
        }
        return 0;
    }
    // SAFETY: the helper's result, which the verifier knows to be a `struct tcp_sock`.
    let tcp = unsafe { Typed::new(tcp) };
    let without_port = matches!(kind, RecordKind::TcpListen)
        && tcp.get::<u16>(Offset::SkNum).unwrap_or(0) == 0
        && has_tracing_cookie();
    if without_port {
        // The kernel chooses a port only after this event (`net/ipv4/inet_connection_sock.c:
        // inet_csk_listen_start`). A socket scan finds it by the cookie, which the record then has.
        // SAFETY: the tracepoint's socket. The verifier knows the global's value and skips the dead
        // branch, so a kernel before 5.12 never sees the helper that it lacks.
        let _cookie = unsafe { bpf_get_socket_cookie(sk.cast_mut().cast()) };
    }
    state_change(sk, tcp, kind, states);
    0
}

/// Hook: as above, as raw tracepoint (v4.17, `BPF_PROG_TYPE_RAW_TRACEPOINT`).
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub(crate) fn inet_sock_set_state_raw(ctx: RawTracePointContext) -> i32 {
    let (sk, old, new): (*const u8, i32, i32) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    let states = (old as u8, new as u8);
    let Some(kind) = classify(states) else { return 0 };
    let tcp = Probed(sk);
    if matches!(kind, RecordKind::TcpOwner) {
        on_fin(sk, states);
    } else if sock::protocol(tcp) == IPPROTO_TCP {
        state_change(sk, tcp, kind, states);
    }
    0
}

/// Emits the current task, which sends a FIN, as the owner of a connection without one.
#[inline(always)]
fn on_fin(sk: *const u8, states: (u8, u8)) {
    if states.0 == TCP_SYN_RECV {
        tcp_accept::emit_early_close(sk);
    } else {
        tcp_accept::emit_first_io(sk);
    }
}

#[inline(always)]
fn state_change(sk: *const u8, tcp: impl Structure, kind: RecordKind, states: (u8, u8)) {
    if matches!(kind, RecordKind::TcpClose) {
        tcp_latency::emit_and_remove(tcp);
    }
    emit::record::<TcpRecord>(Ledger::Tcp, |record| {
        // SAFETY: `record` is the reserved entry, a whole TcpRecord. `tcp` is a tcp_sock, since its
        // protocol is TCP and it is no request socket.
        unsafe {
            sock::fill(record, emit::header::<TcpRecord>(kind, 0), (sk, tcp), states);
            fill_task(record, kind);
            match kind {
                RecordKind::TcpConnect => {
                    (*record).mptcp = sock::mptcp(tcp);
                    if sock::is_restored(tcp) {
                        (*record).header.detail = CONNECT_RESTORED;
                    }
                }
                RecordKind::TcpEstablished => {
                    let mptcp = sock::mptcp(tcp);
                    (*record).mptcp = mptcp;
                    if states.0 == TCP_SYN_RECV {
                        accept_pending::add(sk_address(record));
                        if mptcp != 0 {
                            // Its process reads and writes the MPTCP socket, not the subflows.
                            accept_pending::add(mptcp);
                        }
                    }
                }
                RecordKind::TcpClose => {
                    sock::fill_close(record, tcp);
                    if accept_pending::take(sk_address(record)) {
                        fill_closer(record);
                    }
                }
                RecordKind::TcpUnlisten => sock::restore_local_port(record, tcp),
                _ => {}
            }
        }
    });
}

/// Returns the socket's address as a number. The verifier forbids arithmetic on a pointer whose
/// type it knows, but treats a value that is read back from the ring as a plain number.
///
/// # Safety
///
/// `record` must have been filled by [`sock::fill`].
#[inline(always)]
unsafe fn sk_address(record: *const TcpRecord) -> u64 {
    // SAFETY: the caller's contract. Volatile, or the compiler would reuse the stored pointer.
    unsafe { (&raw const (*record).sk).read_volatile() }
}

/// Fills the task of a connection that ends without an owner. An abort by its own process
/// (`SO_LINGER` 0 or unread data, `socket(7)`) runs in that process and sets no error. A reset or a
/// timeout sets one and runs in any task.
///
/// # Safety
///
/// `record` must have been filled by [`sock::fill_close`].
#[inline(always)]
unsafe fn fill_closer(record: *mut TcpRecord) {
    // SAFETY: the caller's contract.
    unsafe {
        if (*record).error == 0 && !task::is_kernel_thread() {
            task::fill_current(&raw mut (*record).task);
        }
    }
}

/// Returns the record kind of a transition, if it has one.
#[inline(always)]
const fn classify(states: (u8, u8)) -> Option<RecordKind> {
    match states {
        (TCP_CLOSE, TCP_SYN_SENT) => Some(RecordKind::TcpConnect),
        (TCP_SYN_SENT | TCP_SYN_RECV, TCP_ESTABLISHED) => Some(RecordKind::TcpEstablished),
        // ESTABLISHED to FIN_WAIT1 and CLOSE_WAIT to LAST_ACK run in the closing task.
        (_, TCP_FIN_WAIT1 | TCP_LAST_ACK) => Some(RecordKind::TcpOwner),
        (TCP_CLOSE, TCP_LISTEN) => Some(RecordKind::TcpListen),
        (TCP_LISTEN, TCP_CLOSE) => Some(RecordKind::TcpUnlisten),
        (TCP_CLOSE, TCP_CLOSE) => None,
        (_, TCP_CLOSE) => Some(RecordKind::TcpClose),
        _ => None,
    }
}

/// Fills the current task where it is the actor, and no task elsewhere.
///
/// # Safety
///
/// `record` must be writable.
#[inline(always)]
unsafe fn fill_task(record: *mut TcpRecord, kind: RecordKind) {
    // SAFETY: the caller's contract.
    unsafe {
        let ids = &raw mut (*record).task;
        match kind {
            // A kernel thread connects on behalf of another task (MPTCP, NFS).
            RecordKind::TcpConnect if task::is_kernel_thread() => task::fill_none(ids),
            RecordKind::TcpConnect | RecordKind::TcpListen => task::fill_current(ids),
            _ => task::fill_none(ids),
        }
    }
}

/// Offsets of the classic tracepoint's fields: `events/sock/inet_sock_set_state/format` in tracefs,
/// unchanged from 5.8 to 7.0.
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

/// Hook: as above, through tracefs and perf (`Documentation/trace/events.rst`), for kernels without
/// BTF. It reads only the event's own fields: no byte counts, no error, no namespace.
#[tracepoint(category = "sock", name = "inet_sock_set_state")]
pub(crate) fn inet_sock_set_state_classic(ctx: TracePointContext) -> u32 {
    classic_state_change(&ctx).unwrap_or(0)
}

#[inline(always)]
fn classic_state_change(ctx: &TracePointContext) -> Option<u32> {
    let sk: *const u8 = classic_field(ctx, classic::SKADDR)?;
    let old = classic_field::<i32>(ctx, classic::OLDSTATE)?;
    let new = classic_field::<i32>(ctx, classic::NEWSTATE)?;
    let states = (old as u8, new as u8);
    let kind = classify(states)?;
    if classic_field::<u16>(ctx, classic::PROTOCOL)? != IPPROTO_TCP {
        return None;
    }
    match kind {
        RecordKind::TcpOwner => {
            tcp_accept::emit_first_io(sk);
            return None;
        }
        RecordKind::TcpEstablished if states.0 == TCP_SYN_RECV => accept_pending::add(sk as u64),
        RecordKind::TcpClose => {
            let _was_pending = accept_pending::take(sk as u64);
        }
        _ => {}
    }
    emit::record::<TcpRecord>(Ledger::Tcp, |record| {
        let header = emit::header::<TcpRecord>(kind, 0);
        // SAFETY: `record` is the reserved entry, a whole TcpRecord.
        unsafe {
            sock::fill_empty(record, header, sk, states);
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
    // SAFETY: the caller's contract.
    unsafe {
        (*record).family = family;
        (*record).local_port = classic_field(ctx, classic::SPORT).unwrap_or(0);
        (*record).remote_port = classic_field(ctx, classic::DPORT).unwrap_or(0);
        let (local, remote) = if family == AF_INET {
            let v4 = |at| sock::from_v4(classic_field(ctx, at).unwrap_or(0));
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
