//! Which program goes to which hook, and what takes its place where a kernel refuses it.

use std::fs::File;

use aya::programs::{
    BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr,
    FExit, KProbe, Program, ProgramError, RawTracePoint, TracePoint,
};
use aya::{Btf, Ebpf};
use sensor_ebpf::offsets::Offset;

use super::offsets::KernelTypes;
use super::{accept_hooks, udp_hooks};
use crate::base::error_chain::causes;

/// What became of one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookState {
    /// Attached.
    On,
    /// Refused or absent, and why.
    Off(String),
    /// Not tried, since a better one is on.
    NotNeeded,
}

/// One program and its hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Name of the program in the object.
    pub program: &'static str,
    /// What it is attached to, for people.
    pub attach: &'static str,
    /// What became of it.
    pub state: HookState,
}

/// What is attached, by subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// TCP state changes: one program is on.
    pub tcp_state: Vec<Hook>,
    /// The owner of accepted connections; with none on, the listener's owner stands in.
    pub accept: Vec<Hook>,
    /// Reads and writes (6.3 and later): the owner of an accepted connection where accept cannot be
    /// probed, owners of UDP flows, and response times, which nothing else tells.
    pub io: Vec<Hook>,
    /// Connects that fail before a SYN is sent; with none on, they are not seen.
    pub connect_failure: Vec<Hook>,
    /// Exec, fork, exit, and new cgroups.
    pub process: Vec<Hook>,
    /// UDP datagrams and the owners of their sockets; with none on, there is no UDP.
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

    /// What is on, for people.
    pub fn attached(&self) -> impl Iterator<Item = &'static str> {
        self.iter().filter(|hook| hook.state == HookState::On).map(|hook| hook.attach)
    }

    /// Whether UDP is seen.
    pub fn sees_udp(&self) -> bool {
        self.udp.iter().any(|hook| hook.state == HookState::On)
    }
}

/// How a program is attached.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attach {
    BtfTracepoint(&'static str),
    RawTracepoint(&'static str),
    Tracepoint(&'static str, &'static str),
    FExit(&'static str),
    KRetProbe(&'static str),
    /// To every packet that sockets send (or receive).
    CgroupSkb(CgroupSkbAttachType),
    /// To a call on a socket, which the program's section names.
    CgroupSock,
    /// To a call with an address, which the program's section names.
    CgroupSockAddr,
}

/// A program, its hook for people, and how to attach it.
pub(super) type Candidate = (&'static str, &'static str, Attach);

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

/// Attaches what this kernel allows, process hooks first: a connection must never be seen before
/// its process could be.
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

pub(super) struct Attacher<'a> {
    ebpf: &'a mut Ebpf,
    btf: Option<&'a Btf>,
    disable: &'a [String],
    /// The root of the cgroup v2 hierarchy, once there is something to attach to it.
    pub(super) cgroup: Option<File>,
}

impl Attacher<'_> {
    /// Tries each, where the kernel's types tell what these programs read.
    pub(super) fn try_typed(&mut self, candidates: &[Candidate], known: bool) -> Vec<Hook> {
        let of = |candidate| {
            if known { self.try_one(candidate) } else { off(candidate, "needs BTF") }
        };
        candidates.iter().map(of).collect()
    }

    pub(super) fn try_one(&mut self, candidate: &Candidate) -> Hook {
        if self.disable.iter().any(|name| name == candidate.0) {
            return off(candidate, "disabled by the configuration");
        }
        match self.load_and_attach(candidate) {
            Ok(()) => hook(candidate, HookState::On),
            Err(reason) => off(candidate, &reason),
        }
    }

    /// The link is kept by the program, which lives as long as the object.
    fn load_and_attach(&mut self, &(name, _, attach): &Candidate) -> Result<(), String> {
        let program = self
            .ebpf
            .program_mut(name)
            .ok_or_else(|| format!("object has no program {name}; build it with this agent"))?;
        let result = match attach {
            Attach::BtfTracepoint(tracepoint) => {
                let btf = self.btf.ok_or("needs BTF")?;
                typed::<BtfTracePoint>(program)
                    .and_then(|program| program.load(tracepoint, btf).map(|()| program))
                    .and_then(|program| program.attach().map(drop))
            }
            Attach::RawTracepoint(tracepoint) => typed::<RawTracePoint>(program)
                .and_then(|program| program.load().map(|()| program))
                .and_then(|program| program.attach(tracepoint).map(drop)),
            Attach::Tracepoint(category, tracepoint) => typed::<TracePoint>(program)
                .and_then(|program| program.load().map(|()| program))
                .and_then(|program| program.attach(category, tracepoint).map(drop)),
            Attach::FExit(function) => {
                let btf = self.btf.ok_or("needs BTF")?;
                typed::<FExit>(program)
                    .and_then(|program| program.load(function, btf).map(|()| program))
                    .and_then(|program| program.attach().map(drop))
            }
            Attach::KRetProbe(function) => typed::<KProbe>(program)
                .and_then(|program| program.load().map(|()| program))
                .and_then(|program| program.attach(function, 0).map(drop)),
            Attach::CgroupSkb(_) | Attach::CgroupSock | Attach::CgroupSockAddr => {
                let cgroup = self.cgroup.as_ref().ok_or("no cgroup to attach to")?;
                attach_to_cgroup(program, attach, cgroup)
            }
        };
        result.map_err(|error| reason(&error))
    }
}

/// A link to a cgroup is always one of many: programs of others run beside ours, whether they were
/// there before or come later. (`Single` stands for no flags; a link takes none.)
fn attach_to_cgroup(
    program: &mut Program,
    attach: Attach,
    cgroup: &File,
) -> Result<(), ProgramError> {
    let mode = CgroupAttachMode::Single;
    match attach {
        Attach::CgroupSkb(kind) => typed::<CgroupSkb>(program)
            .and_then(|program| program.load().map(|()| program))
            .and_then(|program| program.attach(cgroup, kind, mode).map(drop)),
        Attach::CgroupSock => typed::<CgroupSock>(program)
            .and_then(|program| program.load().map(|()| program))
            .and_then(|program| program.attach(cgroup, mode).map(drop)),
        _ => typed::<CgroupSockAddr>(program)
            .and_then(|program| program.load().map(|()| program))
            .and_then(|program| program.attach(cgroup, mode).map(drop)),
    }
}

fn typed<'a, P>(program: &'a mut Program) -> Result<&'a mut P, ProgramError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    program.try_into()
}

/// `include/linux/errno.h`: not meant for user space, so that the C library has no name for it.
const ENOTSUPP: i32 = 524;

/// The innermost cause in one line; a verifier's log is for the debug log.
fn reason(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        tracing::debug!(log = %verifier_log, "program refused");
        return format!("refused by the kernel: {io_error}");
    }
    let cause = innermost_cause(error);
    let errno = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    if errno == Some(ENOTSUPP) {
        return "not supported by this kernel (ENOTSUPP)".to_owned();
    }
    let text = cause.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// What the last error of the chain says: aya's own repeat it.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    innermost_cause(error).to_string()
}

fn innermost_cause<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> &'e (dyn std::error::Error + 'static) {
    causes(error).last().unwrap_or(error)
}

fn hook(&(program, attach, _): &Candidate, state: HookState) -> Hook {
    Hook { program, attach, state }
}

pub(super) fn off(candidate: &Candidate, reason: &str) -> Hook {
    hook(candidate, HookState::Off(reason.to_owned()))
}

pub(super) fn not_needed(candidate: &Candidate) -> Hook {
    hook(candidate, HookState::NotNeeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_has_no_name_in_user_space_gets_one() {
        let refused = |errno| {
            let io_error = std::io::Error::from_raw_os_error(errno);
            ProgramError::from(aya::sys::SyscallError { call: "bpf_link_create", io_error })
        };
        assert_eq!(reason(&refused(ENOTSUPP)), "not supported by this kernel (ENOTSUPP)");
        assert_eq!(reason(&refused(1)), "Operation not permitted (os error 1)");
    }
}
