//! What /proc tells of one process.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use sensor_ebpf::record::ARGS_MAX_LEN;
use serde::{Deserialize, Serialize};

use crate::pipeline::decode;

/// Kernel clock ticks a second as /proc shows them (`USER_HZ`, 100 on every architecture of ours).
pub(super) const NS_PER_TICK: u64 = 1_000_000_000 / 100;

/// Where the facts of a running process come from.
pub trait ProcSource: Debug + Send {
    /// Its facts; `None` when it is gone or not ours to see.
    fn facts(&self, pid: u32) -> Option<ProcFacts>;
    /// Its start, ns since boot, cut to the tick, and the folder that it works in.
    fn working_directory(&self, pid: u32) -> Option<(u64, String)>;
}

/// From /proc itself.
#[derive(Debug)]
pub struct ProcFolder(PathBuf);

impl ProcFolder {
    /// `root` is `/proc`.
    pub fn new(root: &Path) -> Self {
        Self(root.to_owned())
    }
}

impl ProcSource for ProcFolder {
    fn facts(&self, pid: u32) -> Option<ProcFacts> {
        ProcFacts::read(&self.0, pid)
    }

    fn working_directory(&self, pid: u32) -> Option<(u64, String)> {
        Some((start_boot_ns(&self.0, pid)?, working_directory(&self.0, pid)?))
    }
}

/// Facts of a running process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcFacts {
    pub(super) parent_pid: u32,
    /// Start in ticks since boot: coarser than the kernel's own ns.
    pub(super) start_ticks: u64,
    pub(super) comm: String,
    pub(super) path: String,
    pub(super) command_line: String,
    pub(super) uid: u32,
    /// Path of its cgroup of version 2; "" when it is in none.
    pub(super) cgroup: String,
}

impl ProcFacts {
    /// Reads `<root>/<pid>`; `None` when it is gone or not ours to see.
    pub(super) fn read(root: &Path, pid: u32) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let folder = root.join(pid.to_string());
        let stat = std::fs::read(folder.join("stat")).ok()?;
        let (comm, parent_pid, start_ticks) = parse_stat(&String::from_utf8_lossy(&stat))?;
        let path = std::fs::read_link(folder.join("exe")).map_or_else(
            |_| String::new(),
            |target: PathBuf| {
                let target = target.to_string_lossy().into_owned();
                target.strip_suffix(" (deleted)").unwrap_or(&target).to_owned()
            },
        );
        Some(Self {
            parent_pid,
            start_ticks,
            comm,
            path,
            command_line: command_line(&folder.join("cmdline")),
            uid: std::fs::metadata(&folder).ok()?.uid(),
            cgroup: cgroup(&std::fs::read(folder.join("cgroup")).unwrap_or_default()),
        })
    }

    /// Whether this is the process that the kernel says began at `start_boot_ns` (0: any).
    pub(super) const fn began_at(&self, start_boot_ns: u64) -> bool {
        start_boot_ns == 0 || start_boot_ns / NS_PER_TICK == self.start_ticks
    }

    /// Start, ns since boot, cut to the tick.
    pub(super) const fn start_boot_ns(&self) -> u64 {
        self.start_ticks.saturating_mul(NS_PER_TICK)
    }
}

/// Start of the process `<root>/<pid>`, ns since boot, cut to the tick; `None` when it is gone.
pub(super) fn start_boot_ns(root: &Path, pid: u32) -> Option<u64> {
    let stat = std::fs::read(root.join(pid.to_string()).join("stat")).ok()?;
    let (_, _, start_ticks) = parse_stat(&String::from_utf8_lossy(&stat))?;
    Some(start_ticks.saturating_mul(NS_PER_TICK))
}

/// Folder that the process `<root>/<pid>` works in; `None` when it is gone or not ours to see.
fn working_directory(root: &Path, pid: u32) -> Option<String> {
    let target = std::fs::read_link(root.join(pid.to_string()).join("cwd")).ok()?;
    Some(target.to_string_lossy().into_owned())
}

/// Process ids in `root`.
pub(super) fn running(root: &Path) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// `pid (comm) state ppid … starttime` of `proc_pid_stat(5)`; comm may hold anything, `)` too.
fn parse_stat(stat: &str) -> Option<(String, u32, u64)> {
    let (head, tail) = stat.rsplit_once(')')?;
    let (_, comm) = head.split_once('(')?;
    let mut fields = tail.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    // Field 22; the state is field 3, the parent field 4.
    let start = fields.nth(17)?.parse().ok()?;
    Some((comm.to_owned(), parent, start))
}

/// Out of `0::/path` among the lines of `cgroups(7)`'s `/proc/PID/cgroup`.
fn cgroup(lines: &[u8]) -> String {
    let mut lines = lines.split(|byte| *byte == b'\n');
    let path = lines.find_map(|line| line.strip_prefix(b"0::")).unwrap_or_default();
    String::from_utf8_lossy(path).into_owned()
}

/// As in exec records: bounded, joined by spaces.
fn command_line(path: &Path) -> String {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(ARGS_MAX_LEN as u64).read_to_end(&mut bytes));
    let cut = read.is_ok_and(|len| len == ARGS_MAX_LEN);
    decode::command_line(&bytes, cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 5 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1 2";
        assert_eq!(parse_stat(stat), Some(("a) b (c)".to_owned(), 5, 4711)));
    }

    #[test]
    fn the_cgroup_is_that_of_version_2() {
        assert_eq!(cgroup(b"12:pids:/a\n0::/docker/1\n"), "/docker/1");
        assert_eq!(cgroup(b"12:pids:/a\n"), "");
    }

    #[test]
    fn this_process_is_read() {
        let facts = ProcFacts::read(Path::new("/proc"), std::process::id()).unwrap();
        assert_eq!(facts.path, std::env::current_exe().unwrap().to_string_lossy());
        assert!(facts.began_at(0) && facts.began_at(facts.start_boot_ns()));
        assert!(!facts.began_at(facts.start_boot_ns() + 20_000_000));
        assert!(!facts.command_line.is_empty());
    }
}
