//! Lists the network namespaces of the host.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::base::proc_threads::live_directory;
use crate::pipeline::capture::netns::{enter_netns, netns_of_link, open_netns};

/// A network namespace, and a file that refers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Namespace {
    pub(super) inode: u32,
    path: PathBuf,
    /// A process in it, if there is one.
    pub(super) pid: Option<u32>,
}

impl Namespace {
    /// Moves the calling thread into the namespace.
    pub(super) fn enter(&self) -> io::Result<()> {
        enter_netns(&open_netns(&self.path, self.inode)?)
    }
}

/// Namespaces of processes, of mounts (as made by `ip netns`), and of `files`; each once, by inode
/// number.
pub(super) fn list(proc_root: &Path, files: &[(u32, PathBuf)]) -> Vec<Namespace> {
    let mut all = BTreeMap::new();
    let mut add = |inode: u32, path: PathBuf, pid: Option<u32>| {
        all.entry(inode).or_insert(Namespace { inode, path, pid });
    };
    for entry in std::fs::read_dir(proc_root).into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let (process, net) = (entry.path(), Path::new("ns/net"));
        let found = |path: PathBuf| Some((link_target(&path)?, path));
        let other_thread = || found(live_directory(&process).join(net));
        if let Some((inode, path)) = found(process.join(net)).or_else(other_thread) {
            add(inode, path, Some(pid));
        }
    }
    let mounts = std::fs::read(proc_root.join("thread-self/mountinfo")).unwrap_or_default();
    for (inode, path) in mounts.split(|byte| *byte == b'\n').filter_map(mount) {
        add(inode, path, None);
    }
    for (inode, path) in files {
        if link_target(path) == Some(*inode) {
            add(*inode, path.clone(), None);
        }
    }
    all.into_values().collect()
}

fn link_target(path: &Path) -> Option<u32> {
    netns_of_link(std::fs::read_link(path).ok()?.as_os_str().as_bytes())
}

/// Parses a line such as
/// `36 35 0:4 net:[4026532281] /run/netns/blue rw shared:1 - nsfs nsfs rw`
/// ([proc_pid_mountinfo(5)](https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html)).
fn mount(line: &[u8]) -> Option<(u32, PathBuf)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let inode = netns_of_link(fields.nth(3)?)?;
    let path = std::ffi::OsString::from_vec(unescape(fields.next()?));
    Some((inode, path.into()))
}

/// Decodes octal escapes such as `\040`: the kernel escapes space, tab, newline and backslash
/// (`seq_path` in `fs/seq_file.c`).
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, tail)) = rest.split_first() {
        let code = match (byte, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'))
            }
            _ => None,
        };
        plain.push(code.unwrap_or(*byte));
        rest = if code.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::capture::netns::HomeNetns;

    #[test]
    fn a_mounted_namespace_is_read_with_its_path() {
        let line = br"36 35 0:4 net:[4026532281] /run/netns/a\040b\134 rw shared:1 - nsfs nsfs rw";
        assert_eq!(mount(line), Some((4_026_532_281, PathBuf::from(r"/run/netns/a b\"))));
        for other in [&b"36 35 8:1 / / rw - ext4 /dev/sda1 rw"[..], b"", b"1 2 3 net:[x] /a"] {
            assert_eq!(mount(other), None);
        }
    }

    #[test]
    fn the_own_namespace_is_listed_once() {
        let own = HomeNetns::of_this_thread(Path::new("/proc")).unwrap().inode();
        let all = list(Path::new("/proc"), &[(own, "/proc/self/ns/net".into())]);
        let own: Vec<&Namespace> = all.iter().filter(|it| it.inode == own).collect();
        assert_eq!(own.len(), 1);
        assert!(own[0].pid.is_some());
    }
}
