//! Hooks of UDP. They are attached to the root of the cgroup v2 hierarchy, so that they see every
//! socket of the host, in all network namespaces.
//!
//! Program types: [cgroup_skb](https://docs.ebpf.io/linux/program-type/BPF_PROG_TYPE_CGROUP_SKB/),
//! [cgroup_sock](https://docs.ebpf.io/linux/program-type/BPF_PROG_TYPE_CGROUP_SOCK/) and
//! [cgroup_sock_addr](https://docs.ebpf.io/linux/program-type/BPF_PROG_TYPE_CGROUP_SOCK_ADDR/).

use std::fs::{self, File};

use aya::programs::CgroupSkbAttachType;

use super::attach::{Attach, Attacher, Candidate, Hook, HookState, not_needed, off};
use super::cgroup2::cgroup2_mount;

const MOUNTS: &str = "/proc/mounts";

pub(super) const CANDIDATES: [&[Candidate]; 3] = [&PACKETS, &OWNERS, &SEND];

/// Without both of these there is no UDP; with one of them, one direction alone is counted.
const PACKETS: [Candidate; 2] = [
    Candidate::new(
        "udp_egress",
        "cgroup_skb egress",
        Attach::CgroupSkb(CgroupSkbAttachType::Egress),
    ),
    Candidate::new(
        "udp_ingress",
        "cgroup_skb ingress",
        Attach::CgroupSkb(CgroupSkbAttachType::Ingress),
    ),
];

/// Each adds owners of flows, or the end of sockets.
const OWNERS: [Candidate; 7] = [
    Candidate::new("udp_connect4", "cgroup connect4", Attach::CgroupSockAddr),
    Candidate::new("udp_connect6", "cgroup connect6", Attach::CgroupSockAddr),
    Candidate::new("udp_recvmsg4", "cgroup recvmsg4", Attach::CgroupSockAddr),
    Candidate::new("udp_recvmsg6", "cgroup recvmsg6", Attach::CgroupSockAddr),
    Candidate::new("udp_post_bind4", "cgroup post_bind4", Attach::CgroupSock),
    Candidate::new("udp_post_bind6", "cgroup post_bind6", Attach::CgroupSock),
    Candidate::new("udp_release", "cgroup sock_release", Attach::CgroupSock),
];

/// Senders, where writes are not seen: each of these takes the socket lock once more per datagram.
const SEND: [Candidate; 2] = [
    Candidate::new("udp_sendmsg4", "cgroup sendmsg4", Attach::CgroupSockAddr),
    Candidate::new("udp_sendmsg6", "cgroup sendmsg6", Attach::CgroupSockAddr),
];

/// Program that reports the sender at each write.
const WRITES: &str = "socket_write";

/// Attaches all programs. Without UDP, the first hook has the reason.
pub(super) fn attach(attacher: &mut Attacher<'_>, io: &[Hook]) -> Vec<Hook> {
    match open_root() {
        Ok(root) => attacher.cgroup = Some(root),
        Err(reason) => return without(&reason),
    }
    let mut hooks: Vec<Hook> = PACKETS.iter().map(|packets| attacher.try_one(packets)).collect();
    if !hooks.iter().any(Hook::is_on) {
        hooks.iter_mut().for_each(add_capability_hint);
        return hooks;
    }
    hooks.extend(OWNERS.iter().map(|owners| attacher.try_one(owners)));
    let sees_writes = io.iter().any(|hook| hook.program == WRITES && hook.is_on());
    let send = |send| if sees_writes { not_needed(send) } else { attacher.try_one(send) };
    hooks.extend(SEND.iter().map(send));
    hooks
}

/// Adds the required capability to a reason that only has the kernel's EPERM.
fn add_capability_hint(hook: &mut Hook) {
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

/// Opens the root of the cgroup v2 hierarchy. The error is the reason why there is none.
fn open_root() -> Result<File, String> {
    let mounts = fs::read_to_string(MOUNTS).map_err(|error| format!("read {MOUNTS}: {error}"))?;
    let root = cgroup2_mount(&mounts)
        .ok_or_else(|| format!("no cgroup2 in {MOUNTS}, which UDP requires; mount one"))?;
    File::open(&root).map_err(|error| format!("open {}: {error}", root.display()))
}
