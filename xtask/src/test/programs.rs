//! Installs the programs whose connections the suite `truth` compares with the agent's records.

use super::{Outcome, Tally};
use crate::host;

/// Programs of the suite `truth`, each with its Debian package.
const TRUTH: [(&str, &str); 14] = [
    ("busybox", "busybox-static"),
    ("chronyd", "chrony"),
    ("dig", "bind9-dnsutils"),
    ("haproxy", "haproxy"),
    ("inetd", "openbsd-inetd"),
    ("iperf3", "iperf3"),
    ("pg_createcluster", "postgresql"),
    ("pgbouncer", "pgbouncer"),
    ("podman", "podman"),
    ("redis-server", "redis-server"),
    ("ssh", "openssh-client"),
    ("sshd", "openssh-server"),
    ("tcpdump", "tcpdump"),
    ("unbound", "unbound"),
];

/// Installs what is missing, as root on Debian. A test without its program is skipped.
pub(super) fn ensure() -> anyhow::Result<Outcome> {
    let packages = host::missing(&TRUTH);
    if packages.is_empty() {
        return Ok(Outcome::Done(Tally::PASSED));
    }
    let packages_text = packages.join(" ");
    if !host::can_install() {
        return Ok(Outcome::Skipped(format!(
            "programs are missing; as root: apt-get install {packages_text}"
        )));
    }
    host::apt_install(&packages).map(|()| Outcome::Done(Tally::PASSED)).or_else(|error| {
        Ok(Outcome::Skipped(format!("apt-get install {packages_text}: {error:#}")))
    })
}
