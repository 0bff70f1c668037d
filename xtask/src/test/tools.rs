//! Installs the programs that the suites run beside the agent.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Outcome, Tally};
use crate::host::{self, Workspace};

/// Required programs, each with its Debian package.
const TOOLS: [(&str, &str); 15] = [
    ("ab", "apache2-utils"),
    ("curl", "curl"),
    ("dnsmasq", "dnsmasq-base"),
    ("ip", "iproute2"),
    ("lognormalizer", "liblognorm-utils"),
    ("mmdebstrap", "mmdebstrap"),
    ("nft", "nftables"),
    ("nginx", "nginx-light"),
    ("nsenter", "util-linux"),
    ("promtool", "prometheus"),
    ("ps", "procps"),
    ("python3", "python3"),
    ("sysctl", "procps"),
    ("systemd-nspawn", "systemd-container"),
    ("unshare", "util-linux"),
];

/// Python modules that the suites import, each with its pip requirement.
const PYTHON: [(&str, &str); 7] = [
    ("communityid", "communityid==1.5.0"),
    ("duckdb", "duckdb==2.0.1"),
    ("yaml, kubernetes_validate", "kubernetes-validate==1.37.0"),
    ("pycef", "pycef==1.11"),
    ("pymisp", "pymisp==2.5.34.4"),
    ("pymispwarninglists", "pymispwarninglists==1.7.0"),
    ("stix2matcher", "stix2-matcher==3.0.0"),
];
const PYTHON_HOME: &str = "target/python";

/// Finds the tools. As root on Debian, installs missing programs. Python packages are installed
/// from `PyPI` into a venv in the target directory.
pub(super) fn ensure(workspace: &Workspace) -> anyhow::Result<Outcome> {
    match ensure_programs()? {
        Outcome::Done(_) => Ok(ensure_python(&workspace.path(PYTHON_HOME))),
        outcome => Ok(outcome),
    }
}

fn ensure_programs() -> anyhow::Result<Outcome> {
    let is_installed = |program: &str| host::find_program(program, &[]).is_some();
    let packages = missing(is_installed);
    if packages.is_empty() {
        return Ok(Outcome::Done(Tally::PASSED));
    }
    if !host::can_install() {
        let packages = packages.join(" ");
        return Ok(Outcome::Skipped(format!(
            "tools are missing; as root: apt-get install {packages}"
        )));
    }
    host::apt_install(&packages)?;
    Ok(Outcome::Done(Tally::PASSED))
}

fn ensure_python(home: &Path) -> Outcome {
    let venv_python = home.join("bin/python3");
    let has = |python: &Path, module: &str| {
        let import = format!("import {module}");
        let child = Command::new(python).args(["-c", &import]).stderr(Stdio::null()).status();
        child.is_ok_and(|status| status.success())
    };
    let lacks = |module| !has(Path::new("python3"), module) && !has(&venv_python, module);
    let packages: Vec<&str> = PYTHON
        .into_iter()
        .filter(|(module, _)| lacks(module))
        .map(|(_, package)| package)
        .collect();
    if packages.is_empty() {
        return Outcome::Done(Tally::PASSED);
    }
    println!("installing {} into {}", packages.join(" "), home.display());
    let create_venv = || host::run(Command::new("python3").args(["-m", "venv"]).arg(home));
    let created = create_venv().or_else(|error| {
        if !host::can_install() {
            return Err(error);
        }
        // Debian has the module venv in a separate package.
        host::apt_install(&["python3-venv"])?;
        create_venv()
    });
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    match created.and_then(|()| host::run(Command::new(&venv_python).args(pip).args(&packages))) {
        Ok(()) => Outcome::Done(Tally::PASSED),
        Err(error) => Outcome::Skipped(format!(
            "install the Python packages {}: {error:#}",
            packages.join(" ")
        )),
    }
}

/// Debian packages of missing programs, without duplicates.
fn missing(is_installed: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let absent = TOOLS.iter().filter(|(program, _)| !is_installed(program));
    let mut packages: Vec<&str> = absent.map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_package_is_listed_once() {
        assert_eq!(missing(|_| true), [""; 0]);
        assert_eq!(
            missing(|program| program == "curl" || program == "ip"),
            [
                "apache2-utils",
                "dnsmasq-base",
                "liblognorm-utils",
                "mmdebstrap",
                "nftables",
                "nginx-light",
                "procps",
                "prometheus",
                "python3",
                "systemd-container",
                "util-linux"
            ]
        );
    }
}
