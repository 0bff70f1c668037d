//! The programs that the suites run beside the agent.

use super::{Outcome, Tally};
use crate::host;

/// Program, and the Debian package that has it.
const TOOLS: [(&str, &str); 11] = [
    ("ab", "apache2-utils"),
    ("curl", "curl"),
    ("dnsmasq", "dnsmasq-base"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nginx", "nginx-light"),
    ("nsenter", "util-linux"),
    ("ps", "procps"),
    ("python3", "python3"),
    ("sysctl", "procps"),
    ("unshare", "util-linux"),
];

/// Looks for the tools; root on Debian gets the missing ones.
pub(super) fn ensure() -> anyhow::Result<Outcome> {
    let is_there = |program: &str| host::find_program(program, &[]).is_some();
    let packages = missing(is_there);
    if packages.is_empty() {
        return Ok(Outcome::Done(Tally::PASSED));
    }
    if !host::can_install() {
        let packages = packages.join(" ");
        return Ok(Outcome::Skipped(format!("missing; as root: apt-get install {packages}")));
    }
    host::apt_install(&packages)?;
    Ok(Outcome::Done(Tally::PASSED))
}

/// Packages to install, each once.
fn missing(is_there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let absent = TOOLS.iter().filter(|(program, _)| !is_there(program));
    let mut packages: Vec<&str> = absent.map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_installed_and_once() {
        assert_eq!(missing(|_| true), [""; 0]);
        assert_eq!(
            missing(|program| program == "curl" || program == "ip"),
            [
                "apache2-utils",
                "dnsmasq-base",
                "nftables",
                "nginx-light",
                "procps",
                "python3",
                "util-linux"
            ]
        );
    }
}
