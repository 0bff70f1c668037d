//! `ProcFacts`: facts about one process, from /proc.

use std::fmt::Debug;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sensor_ebpf::record::ARGS_MAX_LEN;
use serde::{Deserialize, Serialize};

use crate::base::proc_stat::{NS_PER_TICK, ProcStat};
use crate::base::proc_threads::live_directory;
use crate::pipeline::decode;

/// Source of facts about running processes.
pub trait ProcSource: Debug + Send {
    /// Facts about a process; `None` if it has ended, or is invisible.
    fn facts(&self, pid: u32) -> Option<ProcFacts>;
    /// Start of a process, ns since boot, rounded down to a clock tick, and its working directory.
    fn working_directory(&self, pid: u32) -> Option<(u64, String)>;
}

/// A mounted /proc as the source.
#[derive(Debug)]
pub struct ProcFolder(PathBuf);

impl ProcFolder {
    /// Source that reads `root`, which is `/proc`.
    pub fn new(root: &Path) -> Self {
        Self(root.to_owned())
    }
}

impl ProcSource for ProcFolder {
    fn facts(&self, pid: u32) -> Option<ProcFacts> {
        ProcFacts::read(&self.0, pid)
    }

    fn working_directory(&self, pid: u32) -> Option<(u64, String)> {
        let start_boot_ns = start_boot_ns(&self.0, pid)?;
        let target =
            std::fs::read_link(live_directory(&directory(&self.0, pid)).join("cwd")).ok()?;
        Some((start_boot_ns, target.to_string_lossy().into_owned()))
    }
}

/// Facts about a running process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcFacts {
    pub(super) parent_pid: u32,
    /// Start, ns since boot, rounded down to a clock tick.
    pub(super) start_boot_ns: u64,
    pub(super) comm: String,
    pub(super) path: String,
    pub(super) command_line: String,
    pub(super) uid: u32,
    /// Path of its cgroup v2; "" if it has none.
    pub(super) cgroup: String,
}

impl ProcFacts {
    /// Reads `<root>/<pid>`; `None` if the process has ended, or is invisible.
    pub(super) fn read(root: &Path, pid: u32) -> Option<Self> {
        let directory = directory(root, pid);
        let stat = ProcStat::read(&directory)?;
        let live = live_directory(&directory);
        let path = std::fs::read_link(live.join("exe")).map_or_else(
            |_| String::new(),
            |target| {
                let target = target.to_string_lossy().into_owned();
                target.strip_suffix(" (deleted)").unwrap_or(&target).to_owned()
            },
        );
        Some(Self {
            parent_pid: stat.parent_pid,
            start_boot_ns: stat.start_boot_ns(),
            comm: stat.comm,
            path,
            command_line: command_line(&live.join("cmdline")),
            uid: std::fs::metadata(&directory).ok()?.uid(),
            cgroup: cgroup(&std::fs::read(directory.join("cgroup")).unwrap_or_default()),
        })
    }

    /// True if these are facts about the process that started at `start_boot_ns` by the kernel's
    /// clock (0: any).
    pub(super) const fn began_at(&self, start_boot_ns: u64) -> bool {
        start_boot_ns == 0 || round_down_to_tick(start_boot_ns) == self.start_boot_ns
    }
}

/// Rounds a time down to a clock tick, as /proc does.
pub(super) const fn round_down_to_tick(ns: u64) -> u64 {
    ns - ns % NS_PER_TICK
}

/// Start of the process `<root>/<pid>`, ns since boot, rounded down to a clock tick; `None` if it
/// has ended.
pub(super) fn start_boot_ns(root: &Path, pid: u32) -> Option<u64> {
    Some(ProcStat::read(&directory(root, pid))?.start_boot_ns())
}

/// Ids of the running processes.
pub(super) fn running(root: &Path) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn directory(root: &Path, pid: u32) -> PathBuf {
    root.join(pid.to_string())
}

/// The path in the line `0::/path` of `/proc/PID/cgroup`
/// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
fn cgroup(lines: &[u8]) -> String {
    let mut lines = lines.split(|byte| *byte == b'\n');
    let path = lines.find_map(|line| line.strip_prefix(b"0::")).unwrap_or_default();
    String::from_utf8_lossy(path).into_owned()
}

/// Arguments of a process as in exec records: bounded, joined by spaces.
fn command_line(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(ARGS_MAX_LEN as u64).read_to_end(&mut bytes));
    let is_truncated = read.is_ok_and(|len| len == ARGS_MAX_LEN);
    decode::command_line(&bytes, is_truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_is_that_of_version_2() {
        assert_eq!(cgroup(b"12:pids:/a\n0::/docker/1\n"), "/docker/1");
        assert_eq!(cgroup(b"12:pids:/a\n"), "");
    }

    #[test]
    fn this_process_is_read() {
        let facts = ProcFacts::read(Path::new("/proc"), std::process::id()).unwrap();
        assert_eq!(facts.path, std::env::current_exe().unwrap().to_string_lossy());
        assert!(facts.began_at(0) && facts.began_at(facts.start_boot_ns));
        assert!(!facts.began_at(facts.start_boot_ns + 20_000_000));
        assert!(!facts.command_line.is_empty());
    }
}
