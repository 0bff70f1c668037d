//! The packaged service on a Debian that is booted for it: installed, watched, broken, killed,
//! rebooted, upgraded and purged; and the newcomer's way from the package to the first alert.
//!
//! It takes root, systemd-nspawn and mmdebstrap, and the packages that `NETSENSOR_DEB` and
//! `NETSENSOR_RPM` name, else those that `cargo xtask package` made. All of a machine's network is a namespace with loopback alone.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends with a panic"
)]
#![expect(clippy::print_stdout, reason = "how far a long test is, and what it measured")]

#[cfg(feature = "kafka")]
mod kafka;
mod life;
mod machine;
mod manifests;
mod newcomer;
mod rpm;
mod stall;
mod tree;

use std::path::{Path, PathBuf};
use std::process::Command;

use sensor_tests::skip_unless;

/// The package under test; `None`, and said so, where the suite cannot run here.
fn package() -> Option<PathBuf> {
    let is_there = |program: &&str| {
        let found = Command::new("sh").args(["-c", "command -v \"$1\"", "sh", program]).output();
        found.is_ok_and(|output| output.status.success())
    };
    let missing = ["systemd-nspawn", "mmdebstrap"].into_iter().find(|program| !is_there(program));
    if skip_unless(nix::unistd::geteuid().is_root(), "a machine is booted by root")
        || skip_unless(missing.is_none(), "systemd-nspawn or mmdebstrap is missing")
        || skip_unless(tree::mirror().is_some(), "apt has no source of Debian's packages here")
    {
        return None;
    }
    let made = made_package("NETSENSOR_DEB", "deb");
    if skip_unless(made.is_some(), "there is no .deb; make it with cargo xtask package") {
        return None;
    }
    made
}

/// The package that `variable` names, else the one that `cargo xtask package` made.
fn made_package(variable: &str, extension: &str) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(variable) {
        return Some(PathBuf::from(named));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/packages");
    let entries = std::fs::read_dir(folder).ok()?;
    let mut packages = entries.filter_map(Result::ok).map(|entry| entry.path());
    packages.find(|path| path.extension().is_some_and(|it| it == extension))
}
