//! Which network namespaces there are, and how to enter one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};

/// A network namespace and a file that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Namespace {
    pub(super) inode: u32,
    path: PathBuf,
    /// A process in it, if there is one.
    pub(super) pid: Option<u32>,
}

impl Namespace {
    /// Moves this thread into it (`setns(2)`; takes `CAP_SYS_ADMIN`).
    pub(super) fn enter(&self) -> io::Result<()> {
        let file = File::open(&self.path)?;
        if inode(&file) != Some(self.inode) {
            // The process or the mount is another one's now.
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(setns(&file, CloneFlags::CLONE_NEWNET)?)
    }
}

/// Inode number of a namespace's file, by which the kernel names the namespace too.
pub(super) fn inode(file: &File) -> Option<u32> {
    file.metadata().ok().and_then(|metadata| u32::try_from(metadata.ino()).ok())
}

/// Namespaces that a process is in, that are mounted (`ip netns` does), or that one of `files`
/// names; each once, by inode number.
pub(super) fn list(proc_root: &Path, files: &[(u32, PathBuf)]) -> Vec<Namespace> {
    let mut all = BTreeMap::new();
    let mut add = |inode: u32, path: PathBuf, pid: Option<u32>| {
        all.entry(inode).or_insert(Namespace { inode, path, pid });
    };
    for entry in std::fs::read_dir(proc_root).into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let path = entry.path().join("ns/net");
        if let Some(inode) = link_target(&path) {
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

/// The inode number out of `net:[4026531840]`.
pub fn inode_of_name(name: &[u8]) -> Option<u32> {
    let digits = name.strip_prefix(b"net:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn link_target(path: &Path) -> Option<u32> {
    let target = std::fs::read_link(path).ok()?;
    inode_of_name(&target.into_os_string().into_vec())
}

/// `36 35 0:4 net:[4026532281] /run/netns/blue rw shared:1 - nsfs nsfs rw` of `proc_pid_mountinfo(5)`.
fn mount(line: &[u8]) -> Option<(u32, PathBuf)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let inode = inode_of_name(fields.nth(3)?)?;
    let path = std::ffi::OsString::from_vec(unescaped(fields.next()?));
    Some((inode, path.into()))
}

/// Blank, tab, newline and backslash stand as `\040` and so on.
fn unescaped(text: &[u8]) -> Vec<u8> {
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
        let own = inode(&File::open("/proc/self/ns/net").unwrap()).unwrap();
        let all = list(Path::new("/proc"), &[(own, "/proc/self/ns/net".into())]);
        let own: Vec<&Namespace> = all.iter().filter(|it| it.inode == own).collect();
        assert_eq!(own.len(), 1);
        assert!(own[0].pid.is_some());
    }
}
