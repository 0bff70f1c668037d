//! The mount point of the cgroup v2 hierarchy.

use std::path::PathBuf;

/// Mount point of the cgroup v2 hierarchy in the text of `/proc/mounts`
/// ([proc_pid_mounts(5)](https://man7.org/linux/man-pages/man5/proc_pid_mounts.5.html)).
pub fn cgroup2_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (mount_point, file_system) = (fields.nth(1)?, fields.next()?);
        (file_system == "cgroup2").then(|| PathBuf::from(mount_point))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_version_2_is_found() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(cgroup2_mount(mounts), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(cgroup2_mount("tmpfs /tmp tmpfs rw 0 0\n"), None);
        assert_eq!(cgroup2_mount(""), None);
    }
}
