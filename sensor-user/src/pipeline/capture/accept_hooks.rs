//! Hooks of accept, and of socket I/O (every read and write).

use sensor_ebpf::offsets::Offset;

use super::attach::{Attach, Attacher, Candidate, Hook, not_needed, off};
use super::offsets::KernelTypes;

/// Owners of accepted connections, best first. The signature of `inet_csk_accept` (`net/ipv4/
/// inet_connection_sock.c`) selects one of the first two.
pub(super) const ACCEPT: [Candidate; 6] = [
    Candidate::new(
        "inet_csk_accept_fexit4",
        "fexit inet_csk_accept",
        Attach::FExit("inet_csk_accept"),
    ),
    Candidate::new(
        "inet_csk_accept_fexit2",
        "fexit inet_csk_accept",
        Attach::FExit("inet_csk_accept"),
    ),
    Candidate::new(
        "inet_csk_accept_kretprobe",
        "kretprobe inet_csk_accept",
        Attach::KRetProbe("inet_csk_accept"),
    ),
    Candidate::new(
        "sock_recv_length",
        "raw tracepoint sock_recv_length",
        Attach::RawTracepoint("sock_recv_length"),
    ),
    Candidate::new(
        "sock_send_length",
        "raw tracepoint sock_send_length",
        Attach::RawTracepoint("sock_send_length"),
    ),
    Candidate::new(
        "tcp_rcv_space_adjust",
        "raw tracepoint tcp_rcv_space_adjust",
        Attach::RawTracepoint("tcp_rcv_space_adjust"),
    ),
];

/// Typed tracepoints of `include/trace/events/sock.h`, v6.3 and later.
pub(super) const IO: [Candidate; 2] = [
    Candidate::new(
        "socket_write",
        "tp_btf sock_send_length",
        Attach::BtfTracepoint("sock_send_length"),
    ),
    Candidate::new(
        "socket_read",
        "tp_btf sock_recv_length",
        Attach::BtfTracepoint("sock_recv_length"),
    ),
];

/// Offset of a function's result in `struct pt_regs`: `ax` in `arch/x86/include/asm/ptrace.h`,
/// `regs[0]` in `arch/arm64/include/asm/ptrace.h`. These structures are user-space API too, so they
/// do not change.
pub(super) const RESULT_REGISTER_OFFSET: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(80)
} else if cfg!(target_arch = "aarch64") {
    Some(0)
} else {
    None
};

/// Attaches the hooks of reads and writes, if the kernel has typed tracepoints for them.
pub(super) fn attach_io(attacher: &mut Attacher<'_>, types: &KernelTypes) -> Vec<Hook> {
    attacher.try_typed(&IO, types.has(Offset::TaskTgid) && types.has(Offset::SkProtocol))
}

/// Attaches the hooks that report the owner of an accepted connection.
///
/// fexit alone is exact. A kretprobe can miss calls (its slots for concurrent calls are few), so
/// the first read backs it. The next choice is the first read or write of any kind, the last one
/// the first read that copies data.
pub(super) fn attach_accept(
    attacher: &mut Attacher<'_>,
    types: &KernelTypes,
    io: &[Hook],
) -> Vec<Hook> {
    let [fexit4, fexit2, kretprobe, recv, send, tcp_recv] = &ACCEPT;
    let fexit = match types.accept_parameters {
        Some(4) => attacher.try_one(fexit4),
        Some(2) => attacher.try_one(fexit2),
        Some(other) => off(fexit2, &format!("unknown signature of {other} parameters")),
        None => off(fexit2, "not in this kernel's BTF"),
    };
    if fexit.is_on() {
        let fallbacks = [kretprobe, recv, send, tcp_recv];
        return std::iter::once(fexit).chain(fallbacks.map(not_needed)).collect();
    }
    let kretprobe = match RESULT_REGISTER_OFFSET {
        Some(_) => attacher.try_one(kretprobe),
        None => off(kretprobe, "the registers of this architecture are unknown"),
    };
    let has_io = io.iter().all(Hook::is_on);
    let (recv, send) = if has_io || kretprobe.is_on() {
        (not_needed(recv), not_needed(send))
    } else {
        (attacher.try_one(recv), attacher.try_one(send))
    };
    let tcp_recv =
        if has_io || recv.is_on() { not_needed(tcp_recv) } else { attacher.try_one(tcp_recv) };
    vec![fexit, kretprobe, recv, send, tcp_recv]
}
