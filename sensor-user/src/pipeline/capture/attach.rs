//! Attachment of one BPF program to its hook, for all lists of hooks.

use std::fs::File;

use aya::programs::{
    BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr,
    FExit, KProbe, Program, ProgramError, RawTracePoint, TracePoint,
};
use aya::{Btf, Ebpf};

use crate::base::error_chain::causes;

/// State of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookState {
    /// The program is attached.
    On,
    /// The kernel refuses or lacks it, with the reason.
    Off(String),
    /// Not tried, since a better program is attached.
    NotNeeded,
}

/// One program and its hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Name of the program in the object.
    pub program: &'static str,
    /// Hook, as shown to operators.
    pub attach: &'static str,
    /// State of the program.
    pub state: HookState,
}

impl Hook {
    /// True if the program is attached.
    pub fn is_on(&self) -> bool {
        self.state == HookState::On
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
    /// Every packet that sockets send (or receive).
    CgroupSkb(CgroupSkbAttachType),
    /// A call on a socket; the section of the program names it.
    CgroupSock,
    /// A call with an address; the section of the program names it.
    CgroupSockAddr,
}

/// A program that may be attached.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) program: &'static str,
    /// Hook, as shown to operators.
    hook: &'static str,
    pub(super) attach: Attach,
}

impl Candidate {
    pub(super) const fn new(program: &'static str, hook: &'static str, attach: Attach) -> Self {
        Self { program, hook, attach }
    }

    fn with_state(&self, state: HookState) -> Hook {
        Hook { program: self.program, attach: self.hook, state }
    }
}

/// Attaches programs of a loaded object.
pub(super) struct Attacher<'a> {
    pub(super) ebpf: &'a mut Ebpf,
    pub(super) btf: Option<&'a Btf>,
    pub(super) disable: &'a [String],
    /// Root of the cgroup v2 hierarchy, once a program is attached to it.
    pub(super) cgroup: Option<File>,
}

impl Attacher<'_> {
    /// Tries each program, if the kernel's types have the members that they read.
    pub(super) fn try_typed(&mut self, candidates: &[Candidate], known: bool) -> Vec<Hook> {
        let of = |candidate| {
            if known { self.try_one(candidate) } else { off(candidate, "needs BTF") }
        };
        candidates.iter().map(of).collect()
    }

    pub(super) fn try_one(&mut self, candidate: &Candidate) -> Hook {
        if self.disable.iter().any(|name| name == candidate.program) {
            return off(candidate, "disabled by the configuration");
        }
        match self.load_and_attach(candidate) {
            Ok(()) => candidate.with_state(HookState::On),
            Err(reason) => off(candidate, &reason),
        }
    }

    /// Attaches a program. The program owns the link, and lives as long as the object.
    fn load_and_attach(&mut self, candidate: &Candidate) -> Result<(), String> {
        let &Candidate { program: name, attach, .. } = candidate;
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

/// Attaches a program to a cgroup by a link (`cgroup_bpf_link_attach` in `kernel/bpf/cgroup.c`).
///
/// A link always permits others: programs of other software run as well, whether they were attached
/// before or after. (`Single` stands for no flags; a link takes none.)
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

/// The innermost cause in one line; the log of the verifier goes to the debug log.
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

/// Text of the last error of the chain, which aya's own errors repeat.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    innermost_cause(error).to_string()
}

fn innermost_cause<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> &'e (dyn std::error::Error + 'static) {
    causes(error).last().unwrap_or(error)
}

pub(super) fn off(candidate: &Candidate, reason: &str) -> Hook {
    candidate.with_state(HookState::Off(reason.to_owned()))
}

pub(super) fn not_needed(candidate: &Candidate) -> Hook {
    candidate.with_state(HookState::NotNeeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_without_a_name_in_user_space_gets_one() {
        let refused = |errno| {
            let io_error = std::io::Error::from_raw_os_error(errno);
            ProgramError::from(aya::sys::SyscallError { call: "bpf_link_create", io_error })
        };
        assert_eq!(reason(&refused(ENOTSUPP)), "not supported by this kernel (ENOTSUPP)");
        assert_eq!(reason(&refused(1)), "Operation not permitted (os error 1)");
    }
}
