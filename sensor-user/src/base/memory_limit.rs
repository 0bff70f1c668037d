//! `memory_limit`: how much memory this process and its children may take.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The smallest limit of this process's control groups, or the memory of the host, bytes. Read at the first
/// call: the files are not readable once the agent is confined. `u64::MAX` if nothing is known.
pub fn memory_limit() -> u64 {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    *LIMIT.get_or_init(|| read(Path::new("/")))
}

/// Reads below `root`: `/proc/self/cgroup` (cgroups(7)), `memory.max` (version 2) or
/// `memory.limit_in_bytes` (version 1) of the group and of each above it, and `MemTotal`.
fn read(root: &Path) -> u64 {
    let own = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut limits: Vec<u64> = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|it| it == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let relative = PathBuf::from(path.trim_start_matches('/'));
        let groups = relative.ancestors().map(|group| root.join(mount).join(group).join(file));
        limits.extend(
            groups.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()),
        );
    }
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|total| total.split_ascii_whitespace().next()?.parse().ok());
    limits.extend(kibibytes.map(|it: u64| it.saturating_mul(1024)));
    limits.into_iter().min().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_of_all_groups_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(read(folder.path()), u64::MAX);
        write("proc/meminfo", "MemTotal:       2048 kB\nMemFree: 1 kB\n");
        assert_eq!(read(folder.path()), 2 << 20);
        write("proc/self/cgroup", "0::/system.slice/netsensor.service\n");
        write("sys/fs/cgroup/system.slice/netsensor.service/memory.max", "max\n");
        assert_eq!(read(folder.path()), 2 << 20);
        write("sys/fs/cgroup/system.slice/memory.max", "1048576\n");
        assert_eq!(read(folder.path()), 1 << 20);
        write("proc/self/cgroup", "5:cpu:/a\n3:memory:/b\n");
        write("sys/fs/cgroup/memory/b/memory.limit_in_bytes", "65536\n");
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(read(folder.path()), 65536);
    }
}
