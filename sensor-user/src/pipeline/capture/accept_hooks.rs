//! Who touches a connection: hooks of accept, and of every read and write.

use sensor_ebpf::offsets::Offset;

use super::attach::{Attach, Attacher, Candidate, Hook, HookState, not_needed, off};
use super::offsets::KernelTypes;

const ACCEPT_FEXIT_4: Candidate =
    ("inet_csk_accept_fexit4", "fexit inet_csk_accept", Attach::FExit("inet_csk_accept"));
const ACCEPT_FEXIT_2: Candidate =
    ("inet_csk_accept_fexit2", "fexit inet_csk_accept", Attach::FExit("inet_csk_accept"));
const ACCEPT_KRETPROBE: Candidate = (
    "inet_csk_accept_kretprobe",
    "kretprobe inet_csk_accept",
    Attach::KRetProbe("inet_csk_accept"),
);
const FIRST_RECV: Candidate = (
    "sock_recv_length",
    "raw tracepoint sock_recv_length",
    Attach::RawTracepoint("sock_recv_length"),
);
const FIRST_SEND: Candidate = (
    "sock_send_length",
    "raw tracepoint sock_send_length",
    Attach::RawTracepoint("sock_send_length"),
);
const FIRST_TCP_RECV: Candidate = (
    "tcp_rcv_space_adjust",
    "raw tracepoint tcp_rcv_space_adjust",
    Attach::RawTracepoint("tcp_rcv_space_adjust"),
);

const IO: [Candidate; 2] = [
    ("socket_write", "tp_btf sock_send_length", Attach::BtfTracepoint("sock_send_length")),
    ("socket_read", "tp_btf sock_recv_length", Attach::BtfTracepoint("sock_recv_length")),
];

/// Where `struct pt_regs` has a function's result: `ax` in `arch/x86/include/asm/ptrace.h`, `regs[0]`
/// in `arch/arm64/include/asm/ptrace.h`. User space reads these structures too, so they do not change.
pub(super) const RESULT_REGISTER_AT: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(80)
} else if cfg!(target_arch = "aarch64") {
    Some(0)
} else {
    None
};

/// Reads and writes, where the kernel has these tracepoints with types.
pub(super) fn attach_io(attacher: &mut Attacher<'_>, types: &KernelTypes) -> Vec<Hook> {
    attacher.try_typed(&IO, types.has(Offset::TaskTgid) && types.has(Offset::SkProtocol))
}

/// fexit alone is exact. kretprobe can miss (it has few slots for calls under way), so the first
/// read backs it. Else the first read or write of any kind; else the first read that copies data.
pub(super) fn attach_accept(
    attacher: &mut Attacher<'_>,
    types: &KernelTypes,
    io: &[Hook],
) -> Vec<Hook> {
    let fexit = match types.accept_parameters {
        Some(4) => attacher.try_one(&ACCEPT_FEXIT_4),
        Some(2) => attacher.try_one(&ACCEPT_FEXIT_2),
        Some(other) => off(&ACCEPT_FEXIT_2, &format!("unknown signature of {other} parameters")),
        None => off(&ACCEPT_FEXIT_2, "not in this kernel's BTF"),
    };
    let fallbacks = [ACCEPT_KRETPROBE, FIRST_RECV, FIRST_SEND, FIRST_TCP_RECV];
    if fexit.state == HookState::On {
        return std::iter::once(fexit).chain(fallbacks.iter().map(not_needed)).collect();
    }
    let kretprobe = match RESULT_REGISTER_AT {
        Some(_) => attacher.try_one(&ACCEPT_KRETPROBE),
        None => off(&ACCEPT_KRETPROBE, "the registers of this kind of machine are not known"),
    };
    let io_is_on = io.iter().all(|hook| hook.state == HookState::On);
    let (recv, send) = if io_is_on || kretprobe.state == HookState::On {
        (not_needed(&FIRST_RECV), not_needed(&FIRST_SEND))
    } else {
        (attacher.try_one(&FIRST_RECV), attacher.try_one(&FIRST_SEND))
    };
    let tcp_recv = if io_is_on || recv.state == HookState::On {
        not_needed(&FIRST_TCP_RECV)
    } else {
        attacher.try_one(&FIRST_TCP_RECV)
    };
    vec![fexit, kretprobe, recv, send, tcp_recv]
}
