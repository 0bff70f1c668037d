//! Runs of our programs that the kernel left out: it does not run a program that it finds running on
//! the same CPU, as when an interrupt changes a socket while the program works for another one.
//! It counts them (`recursion_misses`, v5.12 and later) and shows the count in the `fdinfo` of the
//! program's descriptor.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileExt as _;

use aya::Ebpf;

use super::attach::{Hook, HookState};
use super::hooks::Hooks;

/// Field of `/proc/self/fdinfo/N`, `bpf_prog_show_fdinfo` in `kernel/bpf/syscall.c`.
const FIELD: &str = "recursion_misses:";

/// Runs that were left out, by what the program tells of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MissedRuns {
    /// Of the programs that tell of TCP.
    pub tcp: u64,
    /// Of those that tell of processes.
    pub process: u64,
    /// Of those that tell of UDP.
    pub udp: u64,
}

/// Bytes of an `fdinfo` that are read; it has some 300.
const FDINFO_MAX: usize = 1024;

/// Where the count of each attached program stands: files that are opened once, and written anew by
/// the kernel each time that they are read from their beginning.
#[derive(Debug, Default)]
pub(super) struct MissedRunCounters {
    tcp: Vec<File>,
    process: Vec<File>,
    udp: Vec<File>,
}

impl MissedRunCounters {
    /// Of what is attached; it must stay loaded while this is read.
    pub(super) fn of(ebpf: &Ebpf, hooks: &Hooks) -> Self {
        let files = |hooks: &[Hook]| -> Vec<File> {
            let on = hooks.iter().filter(|hook| hook.state == HookState::On);
            on.filter_map(|hook| fdinfo(ebpf, hook.program)).collect()
        };
        let tcp = [&hooks.tcp_state, &hooks.accept, &hooks.io, &hooks.connect_failure];
        Self {
            tcp: tcp.into_iter().flat_map(|hooks| files(hooks)).collect(),
            process: files(&hooks.process),
            udp: files(&hooks.udp),
        }
    }

    /// The counts as they stand; 0 where the kernel does not tell.
    pub(super) fn read(&self) -> MissedRuns {
        let mut text = [0; FDINFO_MAX];
        let mut sum = |files: &[File]| -> u64 {
            let count_of = |file: &File| {
                let length = file.read_at(&mut text, 0).ok()?;
                count(std::str::from_utf8(text.get(..length)?).ok()?)
            };
            files.iter().filter_map(count_of).sum()
        };
        MissedRuns { tcp: sum(&self.tcp), process: sum(&self.process), udp: sum(&self.udp) }
    }
}

fn fdinfo(ebpf: &Ebpf, program: &str) -> Option<File> {
    let fd = ebpf.program(program)?.fd().ok()?.as_fd().as_raw_fd();
    File::open(format!("/proc/self/fdinfo/{fd}")).ok()
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
