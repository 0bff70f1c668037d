//! Owner of an inbound connection.
//!
//! `inet_csk_accept` returns the socket to the task that accepted it (`accept(2)`). Where neither
//! fexit nor kretprobe can be attached, the owner is the first task that reads or writes the socket
//! (a worker reads what it accepted), else the task that closes it. Until then the agent uses the
//! owner of the listener, and its records carry that source.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::macros::{fexit, kretprobe, raw_tracepoint};
use aya_ebpf::programs::{FExitContext, RawTracePointContext, RetProbeContext};
use sensor_ebpf::offsets::Offset;
use sensor_ebpf::record::{OwnerSource, RecordKind, TcpRecord};

use crate::accept_pending;
use crate::emit::{self, Ledger};
use crate::globals::result_register;
use crate::kernel::{Probed, Structure as _, untyped};
use crate::sock::{self, IPPROTO_TCP, TCP_ESTABLISHED};
use crate::task;

const ESTABLISHED: (u8, u8) = (TCP_ESTABLISHED, TCP_ESTABLISHED);

/// Hook: `struct sock *inet_csk_accept(struct sock *sk, int flags, int *err, bool kern)`,
/// `net/ipv4/inet_connection_sock.c: inet_csk_accept`, up to v6.9: the result is argument 4. fexit:
/// BPF trampoline, `kernel/bpf/trampoline.c`, v5.5 and later.
#[fexit(function = "inet_csk_accept")]
pub(crate) fn inet_csk_accept_fexit4(ctx: FExitContext) -> i32 {
    emit_accepted(untyped(ctx.arg(4)), OwnerSource::Accept);
    0
}

/// Hook: `struct sock *inet_csk_accept(struct sock *sk, struct proto_accept_arg *arg)`,
/// `net/ipv4/inet_connection_sock.c: inet_csk_accept`, v6.10 and later: the result is argument 2.
#[fexit(function = "inet_csk_accept")]
pub(crate) fn inet_csk_accept_fexit2(ctx: FExitContext) -> i32 {
    emit_accepted(untyped(ctx.arg(2)), OwnerSource::Accept);
    0
}

/// Hook: return of `inet_csk_accept`, any signature. Kretprobe: `Documentation/trace/kprobes.rst`.
#[kretprobe]
pub(crate) fn inet_csk_accept_kretprobe(ctx: RetProbeContext) -> u32 {
    let Some(register) = result_register() else { return 0 };
    let address = ctx.as_ptr().cast::<u8>().wrapping_add(register).cast::<*const u8>();
    // SAFETY: the helper checks every address and fails instead of faulting.
    if let Ok(sk) = unsafe { bpf_probe_read_kernel(address) } {
        emit_accepted(sk, OwnerSource::Accept);
    }
    0
}

/// Emits the current task as the owner of `sk`, which it closes before the handshake is complete.
/// With TCP Fast Open (RFC 7413) such a connection was accepted, read and written already, and it
/// never becomes established.
#[inline(always)]
pub(crate) fn emit_early_close(sk: *const u8) {
    if !task::is_kernel_thread() {
        emit_accepted(sk, OwnerSource::FirstIo);
    }
}

/// Emits the current task as the owner of `sk`. With TCP Fast Open this may precede the handshake's
/// end, so the record includes the addresses.
#[inline(always)]
fn emit_accepted(sk: *const u8, source: OwnerSource) {
    if sk.is_null() {
        return;
    }
    let _was_pending = accept_pending::take(sk as u64);
    let socket = Probed(sk);
    // Without BTF neither protocol nor addresses can be read.
    let protocol: Option<u16> = socket.get(Offset::SkProtocol);
    if protocol.is_some_and(|protocol| protocol != IPPROTO_TCP) {
        return;
    }
    emit::record::<TcpRecord>(Ledger::Tcp, move |record| {
        let header = emit::header::<TcpRecord>(RecordKind::TcpOwner, source as u32);
        // SAFETY: `record` is the reserved entry, a whole TcpRecord.
        unsafe {
            if protocol.is_some() {
                sock::fill(record, header, (sk, socket), ESTABLISHED);
            } else {
                sock::fill_empty(record, header, sk, ESTABLISHED);
            }
            task::fill_current(&raw mut (*record).task);
        }
    });
}

/// Hook: `TP_PROTO(struct sock *sk, int ret, int flags)`, `include/trace/events/sock.h`,
/// `sock_recv_length`, v6.3 and later; called in `net/socket.c: sock_recvmsg_nosec` for every read
/// of every socket, in the reader.
#[raw_tracepoint(tracepoint = "sock_recv_length")]
pub(crate) fn sock_recv_length(ctx: RawTracePointContext) -> i32 {
    emit_first_io(ctx.arg(0));
    0
}

/// Hook: `TP_PROTO(struct sock *sk, int ret, int flags)`, `include/trace/events/sock.h`,
/// `sock_send_length`, v6.3 and later; called in `net/socket.c: sock_sendmsg_nosec` for every write
/// of every socket, in the writer.
#[raw_tracepoint(tracepoint = "sock_send_length")]
pub(crate) fn sock_send_length(ctx: RawTracePointContext) -> i32 {
    emit_first_io(ctx.arg(0));
    0
}

/// Hook: `TP_PROTO(struct sock *sk)`, `include/trace/events/tcp.h`, `tcp_rcv_space_adjust`,
/// v4.16 and later; called in `net/ipv4/tcp_input.c: tcp_rcv_space_adjust` when data is copied to a
/// reader, in the reader.
#[raw_tracepoint(tracepoint = "tcp_rcv_space_adjust")]
pub(crate) fn tcp_rcv_space_adjust(ctx: RawTracePointContext) -> i32 {
    emit_first_io(ctx.arg(0));
    0
}

/// Emits the current task as the owner of `sk`, if `sk` is a connection without an owner.
#[inline(always)]
pub(crate) fn emit_first_io(sk: *const u8) {
    if !accept_pending::contains(sk as u64) {
        return;
    }
    // A kernel thread acts on behalf of another task (MPTCP, io_uring, a late last close).
    if task::is_kernel_thread() || !accept_pending::take(sk as u64) {
        return;
    }
    emit::record::<TcpRecord>(Ledger::Tcp, |record| {
        let header = emit::header::<TcpRecord>(RecordKind::TcpOwner, OwnerSource::FirstIo as u32);
        // SAFETY: `record` is the reserved entry, a whole TcpRecord.
        unsafe {
            sock::fill_empty(record, header, sk, ESTABLISHED);
            task::fill_current(&raw mut (*record).task);
        }
    });
}
