//! Where the UDP programs go: to the root of the cgroup v2 hierarchy, so that they see every socket
//! of the host, in whichever network namespace.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use aya::programs::CgroupSkbAttachType;

use super::attach::{Attach, Attacher, Candidate, Hook, HookState, not_needed, off};

const MOUNTS: &str = "/proc/mounts";

/// Without any of these there is no UDP; with one, one direction alone is counted.
const PACKETS: [Candidate; 2] = [
    ("udp_egress", "cgroup_skb egress", Attach::CgroupSkb(CgroupSkbAttachType::Egress)),
    ("udp_ingress", "cgroup_skb ingress", Attach::CgroupSkb(CgroupSkbAttachType::Ingress)),
];

/// Each tells more of owners, or of the end of sockets.
const OWNERS: [Candidate; 7] = [
    ("udp_connect4", "cgroup connect4", Attach::CgroupSockAddr),
    ("udp_connect6", "cgroup connect6", Attach::CgroupSockAddr),
    ("udp_recvmsg4", "cgroup recvmsg4", Attach::CgroupSockAddr),
    ("udp_recvmsg6", "cgroup recvmsg6", Attach::CgroupSockAddr),
    ("udp_post_bind4", "cgroup post_bind4", Attach::CgroupSock),
    ("udp_post_bind6", "cgroup post_bind6", Attach::CgroupSock),
    ("udp_release", "cgroup sock_release", Attach::CgroupSock),
];

/// Writers, where writes are not seen; each of these locks the socket once more for a datagram.
const SEND: [Candidate; 2] = [
    ("udp_sendmsg4", "cgroup sendmsg4", Attach::CgroupSockAddr),
    ("udp_sendmsg6", "cgroup sendmsg6", Attach::CgroupSockAddr),
];

/// The program that sees who writes.
const WRITES: &str = "socket_write";

/// Attaches all, or says at the first why there is no UDP.
pub(super) fn attach(attacher: &mut Attacher<'_>, io: &[Hook]) -> Vec<Hook> {
    match open_root() {
        Ok(root) => attacher.cgroup = Some(root),
        Err(reason) => return without(&reason),
    }
    let mut hooks: Vec<Hook> = PACKETS.iter().map(|packets| attacher.try_one(packets)).collect();
    if hooks.iter().all(|hook| hook.state != HookState::On) {
        hooks.iter_mut().for_each(name_capability);
        return hooks;
    }
    hooks.extend(OWNERS.iter().map(|owners| attacher.try_one(owners)));
    let writes_seen = io.iter().any(|hook| hook.program == WRITES && hook.state == HookState::On);
    let send = |send| if writes_seen { not_needed(send) } else { attacher.try_one(send) };
    hooks.extend(SEND.iter().map(send));
    hooks
}

/// Says what it takes where the kernel only says no.
fn name_capability(hook: &mut Hook) {
    if let HookState::Off(reason) = &mut hook.state
        && reason.contains("not permitted")
    {
        reason.push_str("; it takes root, or CAP_NET_ADMIN beside the others");
    }
}

fn without(reason: &str) -> Vec<Hook> {
    let [egress, ingress] = &PACKETS;
    let rest = OWNERS.iter().chain(&SEND).map(not_needed);
    [off(egress, reason), not_needed(ingress)].into_iter().chain(rest).collect()
}

/// The root of the cgroup v2 hierarchy, or why there is none.
fn open_root() -> Result<File, String> {
    let mounts = fs::read_to_string(MOUNTS).map_err(|error| format!("read {MOUNTS}: {error}"))?;
    let root = cgroup2_mount(&mounts)
        .ok_or_else(|| format!("no cgroup2 in {MOUNTS}, and UDP is seen from there; mount one"))?;
    File::open(&root).map_err(|error| format!("open {}: {error}", root.display()))
}

/// Where the hierarchy of version 2 is mounted, by the text of `/proc/mounts`.
fn cgroup2_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (place, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then(|| Path::new(place).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_version_2_is_found() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(cgroup2_mount(mounts), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(cgroup2_mount("tmpfs /tmp tmpfs rw 0 0\n"), None);
    }
}
