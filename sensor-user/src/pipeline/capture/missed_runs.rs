//! Runs of the agent's programs that the kernel skipped.
//!
//! The kernel does not run a program that is running on the same CPU already, such as when an
//! interrupt changes a socket while the program runs for another one (`__bpf_prog_enter` in
//! [kernel/bpf/trampoline.c](https://github.com/torvalds/linux/blob/v6.12/kernel/bpf/trampoline.c)).
//! It counts these runs (`recursion_misses`, v5.12 and later), and shows the count in the `fdinfo`
//! of the program's file descriptor.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileExt as _;

use aya::Ebpf;

use super::attach::Hook;
use super::hooks::Hooks;

/// Field of `/proc/self/fdinfo/N`, `bpf_prog_show_fdinfo` in `kernel/bpf/syscall.c`.
const FIELD: &str = "recursion_misses:";

/// Numbers of skipped runs, by subject of the program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MissedRuns {
    /// Skipped runs of the programs for TCP.
    pub tcp: u64,
    /// Skipped runs of the programs for processes.
    pub process: u64,
    /// Skipped runs of the programs for UDP.
    pub udp: u64,
}

/// Maximum number of bytes read from an `fdinfo`; it has some 300.
const FDINFO_MAX: usize = 1024;

/// The `fdinfo` of each attached program. The files are opened once: the kernel generates their
/// text at each read from offset 0.
#[derive(Debug, Default)]
pub(super) struct MissedRunCounters {
    tcp: Vec<File>,
    process: Vec<File>,
    udp: Vec<File>,
}

impl MissedRunCounters {
    /// Opens the counters of the attached programs, which must stay loaded until the last read.
    pub(super) fn open(ebpf: &Ebpf, hooks: &Hooks) -> Self {
        let files = |hooks: &[Hook]| -> Vec<File> {
            let on = hooks.iter().filter(|hook| hook.is_on());
            on.filter_map(|hook| fdinfo(ebpf, hook.program)).collect()
        };
        let tcp = [&hooks.tcp_state, &hooks.accept, &hooks.io, &hooks.connect_failure];
        Self {
            tcp: tcp.into_iter().flat_map(|hooks| files(hooks)).collect(),
            process: files(&hooks.process),
            udp: files(&hooks.udp),
        }
    }

    /// Current counts; 0 on kernels without them.
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
