//! The packaged service on a Debian booted for the test: installed, monitored, broken, killed,
//! rebooted, upgraded and purged; and the quick start from the package to the first alert.
//!
//! Needs root, systemd-nspawn and mmdebstrap, and the packages in `NETSENSOR_DEB` and
//! `NETSENSOR_RPM`, else those of `cargo xtask package`. A machine's network is a namespace with
//! loopback only.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends with a panic"
)]
#![expect(clippy::print_stdout, reason = "progress and measurements of a long test")]

#[cfg(feature = "kafka")]
mod kafka;
mod lifecycle;
mod machine;
mod manifests;
mod quickstart;
mod rpm;
mod stall;
mod tree;

use std::path::{Path, PathBuf};
use std::process::Command;

use sensor_tests::skip_unless;

/// The package under test; `None`, with the reason, if the suite cannot run here.
fn package() -> Option<PathBuf> {
    let is_installed = |program: &&str| {
        let found = Command::new("sh").args(["-c", "command -v \"$1\"", "sh", program]).output();
        found.is_ok_and(|output| output.status.success())
    };
    let missing =
        ["systemd-nspawn", "mmdebstrap"].into_iter().find(|program| !is_installed(program));
    if skip_unless(nix::unistd::geteuid().is_root(), "booting a machine needs root")
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

/// The package from `variable`, else the one that `cargo xtask package` built.
fn made_package(variable: &str, extension: &str) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(variable) {
        return Some(PathBuf::from(named));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/packages");
    let entries = std::fs::read_dir(folder).ok()?;
    let mut packages = entries.filter_map(Result::ok).map(|entry| entry.path());
    packages.find(|path| path.extension().is_some_and(|it| it == extension))
}
