//! Runs of our programs that the kernel left out: it does not run a program that it finds running on
//! the same CPU, as when an interrupt changes a socket while the program works for another one.
//! It counts them (`recursion_misses`, v5.12 and later) and shows the count in the `fdinfo` of the
//! program's descriptor.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;

use aya::Ebpf;

use super::hooks::{Hook, HookState, Hooks};

/// Field of `/proc/self/fdinfo/N`, `bpf_prog_show_fdinfo` in `kernel/bpf/syscall.c`.
const FIELD: &str = "recursion_misses:";

/// Runs that were left out, by what the program tells of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Missed {
    /// Of the programs that tell of TCP.
    pub tcp: u64,
    /// Of those that tell of processes.
    pub process: u64,
    /// Of those that tell of UDP.
    pub udp: u64,
}

/// Where the count of each attached program stands.
#[derive(Debug, Default)]
pub(super) struct Misses {
    tcp: Vec<PathBuf>,
    process: Vec<PathBuf>,
    udp: Vec<PathBuf>,
}

impl Misses {
    /// Of what is attached; it must stay loaded while this is read.
    pub(super) fn of(ebpf: &Ebpf, hooks: &Hooks) -> Self {
        let paths = |hooks: &[Hook]| -> Vec<PathBuf> {
            let on = hooks.iter().filter(|hook| hook.state == HookState::On);
            on.filter_map(|hook| fdinfo(ebpf, hook.program)).collect()
        };
        let tcp = [&hooks.tcp_state, &hooks.accept, &hooks.io, &hooks.connect_failure];
        Self {
            tcp: tcp.into_iter().flat_map(|hooks| paths(hooks)).collect(),
            process: paths(&hooks.process),
            udp: paths(&hooks.udp),
        }
    }

    /// The counts as they stand; 0 where the kernel does not tell.
    pub(super) fn read(&self) -> Missed {
        let sum = |paths: &[PathBuf]| {
            let texts = paths.iter().filter_map(|path| std::fs::read_to_string(path).ok());
            texts.filter_map(|text| count(&text)).sum()
        };
        Missed { tcp: sum(&self.tcp), process: sum(&self.process), udp: sum(&self.udp) }
    }
}

fn fdinfo(ebpf: &Ebpf, program: &str) -> Option<PathBuf> {
    let fd = ebpf.program(program)?.fd().ok()?.as_fd().as_raw_fd();
    Some(PathBuf::from(format!("/proc/self/fdinfo/{fd}")))
}

fn count(fdinfo: &str) -> Option<u64> {
    let value = fdinfo.lines().find_map(|line| line.strip_prefix(FIELD))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_the_other_fields() {
        let text =
            "pos:\t0\nprog_type:\t26\nrun_cnt:\t7\nrecursion_misses:\t42\nverified_insns:\t9\n";
        assert_eq!(count(text), Some(42));
        assert_eq!(count("pos:\t0\nprog_type:\t26\n"), None);
    }
}
