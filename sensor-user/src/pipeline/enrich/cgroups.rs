//! `Cgroups`: the container of a cgroup v2 id, by the path of the cgroup
//! ([cgroup v2](https://docs.kernel.org/admin-guide/cgroup-v2.html)).
//!
//! Paths are from `cgroup_mkdir` records, so that short-lived containers are known too. Earlier
//! cgroups are from a walk of the cgroup2 mount at start. At most [`MAX`] containers are kept; the
//! least recently used is evicted first (counted).

use std::fs;
use std::os::unix::fs::DirEntryExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::base::collections;
use crate::base::collections::Table;
use crate::base::counters::Stats;
use crate::pipeline::capture::cgroup2_mount;
use crate::pipeline::decode::CgroupMkdir;

/// Maximum number of cgroups of containers.
const MAX: usize = 65_536;
/// Maximum number of directories that the walk at start enters.
const WALK_MAX: usize = 100_000;

/// Containers by cgroup id; cgroups outside of containers are not kept.
#[derive(Debug)]
pub(super) struct Cgroups {
    containers: Table<u64, String>,
    stats: Arc<Stats>,
}

impl Cgroups {
    pub(super) fn new(stats: Arc<Stats>) -> Self {
        Self { containers: collections::table(MAX), stats }
    }

    /// Reads the existing cgroups, below the cgroup2 mount in the file `mounts` (`/proc/mounts`).
    pub(super) fn scan(&mut self, mounts: &Path) {
        let Some(root) = cgroup2_mount(&fs::read_to_string(mounts).unwrap_or_default()) else {
            return;
        };
        let mut directories = vec![root.clone()];
        let mut entered = 0;
        while let Some(directory) = directories.pop() {
            entered += 1;
            if entered > WALK_MAX {
                tracing::warn!(max = WALK_MAX, "too many cgroups to read all at start");
                return;
            }
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    let path = entry.path();
                    let inside = path.strip_prefix(&root).unwrap_or(&path);
                    // The inode number is the cgroup's id (`cgroup_id` in include/linux/cgroup.h).
                    self.insert(entry.ino(), &inside.to_string_lossy());
                    directories.push(path);
                }
            }
        }
    }

    /// Adds a new cgroup.
    pub(super) fn add(&mut self, cgroup: &CgroupMkdir) {
        self.insert(cgroup.id, &cgroup.path);
    }

    /// Container id of a cgroup; "" outside of containers.
    pub(super) fn container(&mut self, id: u64) -> &str {
        self.containers.get(&id).map_or("", String::as_str)
    }

    fn insert(&mut self, id: u64, path: &str) {
        let Some(container) = container_of(path) else {
            // The id may have been that of a container before.
            self.containers.pop(&id);
            return;
        };
        if let Some((evicted, _)) = self.containers.push(id, container)
            && evicted != id
        {
            self.stats.cgroups_evicted.increment();
        }
    }
}

/// Container id in a cgroup path: of several, the innermost.
///
/// Docker, containerd, CRI-O and Podman use the 64 hex digits of the id, alone (cgroupfs) or in a
/// scope (`docker-<id>.scope`, `cri-containerd-<id>.scope`, `crio-<id>.scope`,
/// `libpod-<id>.scope`). LXC and systemd-nspawn use the name of the machine (`lxc/<name>`,
/// `lxc.payload.<name>`, `machine-<name>.scope`, `systemd-nspawn@<name>.service`).
pub(super) fn container_of(path: &str) -> Option<String> {
    let components: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let parents = std::iter::once("").chain(components.iter().copied());
    let named = components.iter().zip(parents).filter_map(|(component, parent)| {
        by_id(component).map(str::to_owned).or_else(|| by_name(component, parent))
    });
    named.last()
}

fn by_id(component: &str) -> Option<&str> {
    let bare = component.strip_suffix(".scope").unwrap_or(component);
    let id = bare.rsplit(['-', ':']).next()?;
    let whole = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    // `crio-conmon-<id>` and `libpod-conmon-<id>` are of the container's monitor, not of the
    // container.
    (whole && !bare.contains("conmon")).then_some(id)
}

fn by_name(component: &str, parent: &str) -> Option<String> {
    if parent == "lxc" || parent == "lxc.payload" {
        return Some(component.to_owned());
    }
    if let Some(name) = component.strip_prefix("lxc.payload.") {
        return (!name.is_empty()).then(|| name.to_owned());
    }
    let machine = || component.strip_prefix("machine-")?.strip_suffix(".scope");
    let nspawn = || component.strip_prefix("systemd-nspawn@")?.strip_suffix(".service");
    let name = unescape(machine().or_else(nspawn)?);
    // libvirt registers its virtual machines there too, whose processes are processes of this host.
    (!name.is_empty() && !name.starts_with("qemu-")).then_some(name)
}

/// Decodes `\xNN` in the name of a systemd unit (systemd.unit(5), "String Escaping for Inclusion in
/// Unit Names").
fn unescape(unit: &str) -> String {
    let mut name = Vec::new();
    let mut rest = unit.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = match rest {
            [b'\\', b'x', high, low, ..] => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                digit(*high)
                    .zip(digit(*low))
                    .and_then(|(high, low)| u8::try_from(high * 16 + low).ok())
            }
            _ => None,
        };
        name.push(code.unwrap_or(first));
        rest = if code.is_some() { rest.get(4..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_path_names_its_container() {
        let user = "/user.slice/user-1000.slice/user@1000.service";
        let pods = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod7_8.slice";
        for (path, container) in [
            // Docker: cgroupfs, systemd, rootless, in a slice of the operator.
            (format!("/docker/{ID}"), Some(ID)),
            (format!("/system.slice/docker-{ID}.scope"), Some(ID)),
            (format!("{user}/user.slice/docker-{ID}.scope"), Some(ID)),
            (format!("/my.slice/docker-{ID}.scope/init"), Some(ID)),
            ("/docker/short".to_owned(), None),
            ("/system.slice/docker.service".to_owned(), None),
            // containerd: nerdctl, and the CRI with both drivers.
            (format!("/default/{ID}"), Some(ID)),
            (format!("/system.slice/nerdctl-{ID}.scope"), Some(ID)),
            (format!("/kubepods/besteffort/pod7/{ID}"), Some(ID)),
            (format!("{pods}/cri-containerd-{ID}.scope"), Some(ID)),
            (format!("/kubepods.slice/a.slice:cri-containerd:{ID}"), Some(ID)),
            (pods.to_owned(), None),
            ("/kubepods/burstable/pod7".to_owned(), None),
            // CRI-O: both drivers, crun's inner group, the monitor.
            (format!("{pods}/crio-{ID}.scope"), Some(ID)),
            (format!("{pods}/crio-{ID}.scope/container"), Some(ID)),
            (format!("/kubepods/burstable/pod7/crio-{ID}"), Some(ID)),
            (format!("{pods}/crio-conmon-{ID}.scope"), None),
            // Podman: root, a user, cgroupfs, in a pod, the monitor.
            (format!("/machine.slice/libpod-{ID}.scope"), Some(ID)),
            (format!("/machine.slice/libpod-{ID}.scope/container/app"), Some(ID)),
            (format!("{user}/user.slice/libpod-{ID}.scope/container"), Some(ID)),
            (format!("/libpod_parent/libpod-{ID}"), Some(ID)),
            (format!("/machine.slice/machine-libpod_pod_{ID}.slice"), None),
            (format!("{user}/user.slice/libpod-conmon-{ID}.scope"), None),
            // LXC.
            ("/lxc/web/system.slice/a.service".to_owned(), Some("web")),
            ("/lxc.payload/web".to_owned(), Some("web")),
            ("/lxc.payload.web-1/init.scope".to_owned(), Some("web-1")),
            ("/lxc.payload.".to_owned(), None),
            ("/lxc.monitor.web".to_owned(), None),
            // systemd-nspawn and machined, whose names are escaped; a virtual machine of libvirt.
            ("/machine.slice/machine-web.scope/payload".to_owned(), Some("web")),
            (r"/machine.slice/machine-my\x2dweb.scope".to_owned(), Some("my-web")),
            ("/machine.slice/systemd-nspawn@web.service/payload".to_owned(), Some("web")),
            (r"/machine.slice/systemd-nspawn@a\x2db\x5fc.service".to_owned(), Some("a-b_c")),
            (r"/machine.slice/machine-qemu\x2d1\x2dvm.scope".to_owned(), None),
            // Other units, and malformed names.
            ("/system.slice/ssh.service".to_owned(), None),
            (format!("{user}/app.slice/app-a.scope"), None),
            (r"/machine.slice/machine-\x.scope".to_owned(), Some(r"\x")),
            (r"/machine.slice/machine-\xzz\x2.scope".to_owned(), Some(r"\xzz\x2")),
            (format!("/{}", "a".repeat(64)), Some(&*"a".repeat(64))),
            (format!("/{}", "g".repeat(64)), None),
            (String::new(), None),
            ("/".to_owned(), None),
        ] {
            assert_eq!(container_of(&path).as_deref(), container, "{path}");
        }
    }

    #[test]
    fn the_innermost_container_counts() {
        let other = ID.replace('0', "f");
        for path in [
            format!("/docker/{ID}/docker/{other}"),
            format!("/docker/{ID}/kubelet/kubepods/burstable/pod7/cri-containerd-{other}.scope"),
            format!("/lxc.payload.web/system.slice/docker-{other}.scope"),
            format!(
                "/machine.slice/libpod-{ID}.scope/container/machine.slice/libpod-{other}.scope"
            ),
        ] {
            assert_eq!(container_of(&path), Some(other.clone()), "{path}");
        }
        let path = format!("/system.slice/docker-{ID}.scope/lxc.payload.web");
        assert_eq!(container_of(&path).as_deref(), Some("web"));
    }

    #[test]
    fn a_reused_id_is_that_of_the_new_cgroup() {
        let mut cgroups = Cgroups::new(Arc::new(Stats::default()));
        cgroups.add(&CgroupMkdir { id: 7, path: format!("/docker/{ID}") });
        assert_eq!(cgroups.container(7), ID);
        cgroups.add(&CgroupMkdir { id: 7, path: "/system.slice".to_owned() });
        assert_eq!(cgroups.container(7), "");
    }
}
