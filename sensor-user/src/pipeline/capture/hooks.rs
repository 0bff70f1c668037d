//! The hooks by subject, and the fallback of each where a kernel refuses it.
//!
//! Program types: [tp_btf and raw
//! tracepoints](https://docs.ebpf.io/linux/program-type/BPF_PROG_TYPE_RAW_TRACEPOINT/)
//! ([tracepoints](https://docs.kernel.org/trace/tracepoints.html) of `include/trace/events/`),
//! [fexit](https://docs.ebpf.io/linux/program-type/BPF_PROG_TYPE_TRACING/), and
//! [kretprobe](https://docs.kernel.org/trace/kprobes.html).

use aya::{Btf, Ebpf};
use sensor_ebpf::offsets::Offset;

use super::attach::{Attach, Attacher, Candidate, Hook, not_needed, off};
use super::offsets::KernelTypes;
use super::{accept_hooks, udp_hooks};

/// Hooks by subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// TCP state changes: exactly one program is attached.
    pub tcp_state: Vec<Hook>,
    /// Owners of accepted connections; without any, the owner of the listener is taken.
    pub accept: Vec<Hook>,
    /// Reads and writes (6.3 and later): owners of accepted connections where accept cannot be
    /// probed, owners of UDP flows, and response times, which have no fallback.
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
        self.iter().filter(|hook| hook.is_on()).map(|hook| hook.attach)
    }

    /// True if UDP is seen.
    pub fn sees_udp(&self) -> bool {
        self.udp.iter().any(Hook::is_on)
    }
}

/// Names of all programs that may be attached.
pub fn programs() -> impl Iterator<Item = &'static str> {
    TCP_STATE
        .iter()
        .chain(&accept_hooks::ACCEPT)
        .chain(&accept_hooks::IO)
        .chain(&CONNECT_FAILURE)
        .chain(&PROCESS)
        .chain(udp_hooks::CANDIDATES.into_iter().flatten())
        .map(|candidate| candidate.program)
}

/// TCP state changes, best first: the tracepoint of `inet_sk_state_store` in `net/ipv4/af_inet.c`.
const TCP_STATE: [Candidate; 3] = [
    Candidate::new(
        "inet_sock_set_state_btf",
        "tp_btf inet_sock_set_state",
        Attach::BtfTracepoint("inet_sock_set_state"),
    ),
    Candidate::new(
        "inet_sock_set_state_raw",
        "raw tracepoint inet_sock_set_state",
        Attach::RawTracepoint("inet_sock_set_state"),
    ),
    Candidate::new(
        "inet_sock_set_state_classic",
        "tracepoint sock:inet_sock_set_state",
        Attach::Tracepoint("sock", "inet_sock_set_state"),
    ),
];

const CONNECT_FAILURE: [Candidate; 2] = [
    Candidate::new("tcp_v4_connect_fexit", "fexit tcp_v4_connect", Attach::FExit("tcp_v4_connect")),
    Candidate::new("tcp_v6_connect_fexit", "fexit tcp_v6_connect", Attach::FExit("tcp_v6_connect")),
];

/// Tracepoints of `include/trace/events/sched.h` and `cgroup.h`.
const PROCESS: [Candidate; 4] = [
    Candidate::new(
        "sched_process_exec",
        "raw tracepoint sched_process_exec",
        Attach::RawTracepoint("sched_process_exec"),
    ),
    Candidate::new(
        "sched_process_fork",
        "raw tracepoint sched_process_fork",
        Attach::RawTracepoint("sched_process_fork"),
    ),
    Candidate::new(
        "sched_process_exit",
        "raw tracepoint sched_process_exit",
        Attach::RawTracepoint("sched_process_exit"),
    ),
    Candidate::new(
        "cgroup_mkdir",
        "raw tracepoint cgroup_mkdir",
        Attach::RawTracepoint("cgroup_mkdir"),
    ),
];

/// Attaches the programs that this kernel permits, process hooks first: a connection must never be
/// seen before its process is.
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
            let classic = matches!(candidate.attach, Attach::Tracepoint(..));
            if !classic && !with_offsets {
                return off(candidate, "needs BTF");
            }
            let hook = attacher.try_one(candidate);
            done = hook.is_on();
            hook
        })
        .collect()
}
