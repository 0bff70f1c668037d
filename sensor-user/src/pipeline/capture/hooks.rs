//! The hooks by subject, and the fallback of each where a kernel refuses it.

use aya::{Btf, Ebpf};
use sensor_ebpf::offsets::Offset;

use super::attach::{Attach, Attacher, Candidate, Hook, HookState, not_needed, off};
use super::offsets::KernelTypes;
use super::{accept_hooks, udp_hooks};

/// Hooks by subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// TCP state changes: exactly one program is attached.
    pub tcp_state: Vec<Hook>,
    /// Owners of accepted connections; without any, the owner of the listener is taken.
    pub accept: Vec<Hook>,
    /// Reads and writes (6.3 and later): owners of accepted connections where accept cannot be probed,
    /// owners of UDP flows, and response times, which have no fallback.
    pub io: Vec<Hook>,
    /// Connects that fail before a SYN is sent; without any, they are not seen.
    pub connect_failure: Vec<Hook>,
    /// Exec, fork, exit, and new cgroups.
    pub process: Vec<Hook>,
    /// UDP datagrams and the owners of their sockets; without any, there is no UDP.
    pub udp: Vec<Hook>,
}

impl Hooks {
    /// All hooks, in the order in which they were tried.
    pub fn iter(&self) -> impl Iterator<Item = &Hook> {
        self.tcp_state
            .iter()
            .chain(&self.accept)
            .chain(&self.io)
            .chain(&self.connect_failure)
            .chain(&self.process)
            .chain(&self.udp)
    }

    /// Attached hooks, as shown to operators.
    pub fn attached(&self) -> impl Iterator<Item = &'static str> {
        self.iter().filter(|hook| hook.state == HookState::On).map(|hook| hook.attach)
    }

    /// True if UDP is seen.
    pub fn sees_udp(&self) -> bool {
        self.udp.iter().any(|hook| hook.state == HookState::On)
    }
}

/// Names of all programs that may be attached.
pub const PROGRAMS: [&str; 28] = [
    "inet_sock_set_state_btf",
    "inet_sock_set_state_raw",
    "inet_sock_set_state_classic",
    "inet_csk_accept_fexit4",
    "inet_csk_accept_fexit2",
    "inet_csk_accept_kretprobe",
    "sock_recv_length",
    "sock_send_length",
    "tcp_rcv_space_adjust",
    "socket_write",
    "socket_read",
    "tcp_v4_connect_fexit",
    "tcp_v6_connect_fexit",
    "sched_process_exec",
    "sched_process_fork",
    "sched_process_exit",
    "cgroup_mkdir",
    "udp_egress",
    "udp_ingress",
    "udp_post_bind4",
    "udp_post_bind6",
    "udp_release",
    "udp_connect4",
    "udp_connect6",
    "udp_sendmsg4",
    "udp_sendmsg6",
    "udp_recvmsg4",
    "udp_recvmsg6",
];

const TCP_STATE: [Candidate; 3] = [
    (
        "inet_sock_set_state_btf",
        "tp_btf inet_sock_set_state",
        Attach::BtfTracepoint("inet_sock_set_state"),
    ),
    (
        "inet_sock_set_state_raw",
        "raw tracepoint inet_sock_set_state",
        Attach::RawTracepoint("inet_sock_set_state"),
    ),
    (
        "inet_sock_set_state_classic",
        "tracepoint sock:inet_sock_set_state",
        Attach::Tracepoint("sock", "inet_sock_set_state"),
    ),
];

const CONNECT_FAILURE: [Candidate; 2] = [
    ("tcp_v4_connect_fexit", "fexit tcp_v4_connect", Attach::FExit("tcp_v4_connect")),
    ("tcp_v6_connect_fexit", "fexit tcp_v6_connect", Attach::FExit("tcp_v6_connect")),
];

const PROCESS: [Candidate; 4] = [
    (
        "sched_process_exec",
        "raw tracepoint sched_process_exec",
        Attach::RawTracepoint("sched_process_exec"),
    ),
    (
        "sched_process_fork",
        "raw tracepoint sched_process_fork",
        Attach::RawTracepoint("sched_process_fork"),
    ),
    (
        "sched_process_exit",
        "raw tracepoint sched_process_exit",
        Attach::RawTracepoint("sched_process_exit"),
    ),
    ("cgroup_mkdir", "raw tracepoint cgroup_mkdir", Attach::RawTracepoint("cgroup_mkdir")),
];

/// Attaches the programs that this kernel permits, process hooks first: a connection must never be seen
/// before its process can be.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    btf: Option<&Btf>,
    types: &KernelTypes,
    disable: &[String],
) -> Hooks {
    let mut attacher = Attacher { ebpf, btf, disable, cgroup: None };
    let process = attacher.try_typed(&PROCESS, types.has(Offset::TaskTgid));
    let io = accept_hooks::attach_io(&mut attacher, types);
    let accept = accept_hooks::attach_accept(&mut attacher, types, &io);
    let connect_failure =
        CONNECT_FAILURE.iter().map(|candidate| attacher.try_one(candidate)).collect();
    let tcp_state = attach_tcp_state(&mut attacher, types);
    let udp = udp_hooks::attach(&mut attacher, &io);
    Hooks { tcp_state, accept, io, connect_failure, process, udp }
}

fn attach_tcp_state(attacher: &mut Attacher<'_>, types: &KernelTypes) -> Vec<Hook> {
    let mut done = false;
    let with_offsets = types.has(Offset::SkFamily) && types.has(Offset::SkProtocol);
    TCP_STATE
        .iter()
        .map(|candidate| {
            if done {
                return not_needed(candidate);
            }
            let classic = matches!(candidate.2, Attach::Tracepoint(..));
            if !classic && !with_offsets {
                return off(candidate, "needs BTF");
            }
            let hook = attacher.try_one(candidate);
            done = hook.state == HookState::On;
            hook
        })
        .collect()
}
