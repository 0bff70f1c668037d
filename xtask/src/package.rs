//! Packages for Debian (.deb) and Red Hat distributions (.rpm), in `target/packages`.
//!
//! The files are staged once in the layout of the target host. Both packages are built from that
//! and checked. cargo-deb, which is built here once, creates the .deb, rpmbuild the .rpm. `cargo
//! xtask package` packages a separate build with the kafka sink; the tests package the agent that
//! they have built.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};

use crate::host::{self, Workspace};

/// Output directory of the packages.
const OUT: &str = "target/packages";
/// Staging directory; also named in the metadata of `sensor-user/Cargo.toml`.
const STAGE: &str = "target/packages/stage";
const TOOLS_HOME: &str = "target/tools";
const CARGO_DEB: &str = "3.8.0";
const DIST: [&str; 7] =
    ["build", "--profile", "dist", "--locked", "--package", "sensor-user", "--features=kafka"];

/// Required programs, each with its Debian package.
pub(crate) const TOOLS: [(&str, &str); 5] = [
    ("gzip", "gzip"),
    ("lintian", "lintian"),
    ("rpmbuild", "rpm"),
    ("strip", "binutils"),
    ("systemd-analyze", "systemd"),
];

/// Files of the tree and their paths in the packages.
const FILES: [(&str, &str); 10] = [
    ("LICENSE", "usr/share/doc/netsensor/LICENSE"),
    ("packaging/netsensor.toml", "etc/netsensor/netsensor.toml"),
    ("packaging/systemd/netsensor.service", "usr/lib/systemd/system/netsensor.service"),
    ("packaging/systemd/netsensor.sysusers", "usr/lib/sysusers.d/netsensor.conf"),
    ("examples/indicators.txt", "usr/share/netsensor/indicators.txt"),
    ("examples/netsensor.toml", "usr/share/doc/netsensor/examples/netsensor.toml"),
    ("docs/netsensor.schema.json", "usr/share/doc/netsensor/examples/netsensor.schema.json"),
    ("packaging/examples/credentials.conf", "usr/share/doc/netsensor/examples/credentials.conf"),
    (
        "packaging/examples/metrics-group.conf",
        "usr/share/doc/netsensor/examples/metrics-group.conf",
    ),
    (
        "packaging/examples/other-namespaces.conf",
        "usr/share/doc/netsensor/examples/other-namespaces.conf",
    ),
];

/// Completion scripts that `netsensor manual` writes, and their paths in the packages.
const SCRIPTS: [(&str, &str); 3] = [
    ("netsensor.bash", "usr/share/bash-completion/completions/netsensor"),
    ("_netsensor", "usr/share/zsh/vendor-completions/_netsensor"),
    ("netsensor.fish", "usr/share/fish/vendor_completions.d/netsensor.fish"),
];

/// Paths of the built packages.
#[derive(Debug)]
pub(crate) struct Packages {
    pub(crate) deb: PathBuf,
    pub(crate) rpm: PathBuf,
}

/// Implements `cargo xtask package`: packages `binary`, or a new build of the agent with all sinks.
pub(crate) fn package(workspace: &Workspace, binary: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let binary = if let Some(binary) = binary {
        binary
    } else {
        host::run(workspace.cargo().args(DIST).args(["--bin", "netsensor"]))?;
        workspace.path("target/dist/netsensor")
    };
    let packages = make(workspace, &binary, &workspace.path(OUT))?;
    for path in [&packages.deb, &packages.rpm] {
        println!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Creates and checks packages of `binary` for this host's architecture in the directory `out`.
pub(crate) fn make(workspace: &Workspace, binary: &Path, out: &Path) -> anyhow::Result<Packages> {
    let missing = host::missing(&TOOLS);
    if !missing.is_empty() {
        if !host::can_install() {
            bail!("package: tools are missing; as root: apt-get install {}", missing.join(" "));
        }
        host::apt_install(&missing)?;
    }
    fs::create_dir_all(out).with_context(|| format!("make {}", out.display()))?;
    let stage = workspace.path(STAGE);
    stage_files(workspace, binary, &stage)?;
    let deb = make_deb(workspace, out)?;
    let rpm = make_rpm(workspace, &stage, out)?;
    check(workspace, &deb, &rpm)?;
    Ok(Packages { deb, rpm })
}

/// Copies all files of a package to their paths below `stage`.
fn stage_files(workspace: &Workspace, binary: &Path, stage: &Path) -> anyhow::Result<()> {
    if stage.exists() {
        fs::remove_dir_all(stage).with_context(|| format!("remove {}", stage.display()))?;
    }
    for (from, to) in FILES {
        copy(&workspace.path(from), &stage.join(to), 0o644)?;
    }
    let staged = stage.join("usr/bin/netsensor");
    copy(binary, &staged, 0o755)?;
    host::run(Command::new("strip").arg(&staged))?;

    let pages = stage.join("usr/share/man/man1");
    fs::create_dir_all(&pages).with_context(|| format!("make {}", pages.display()))?;
    host::run(Command::new(binary).arg("manual").arg(&pages))?;
    for (from, to) in SCRIPTS {
        let from = pages.join(from);
        copy(&from, &stage.join(to), 0o644)?;
        fs::remove_file(&from).with_context(|| format!("remove {}", from.display()))?;
    }
    for entry in fs::read_dir(&pages).with_context(|| format!("list {}", pages.display()))? {
        let page = entry.with_context(|| format!("list {}", pages.display()))?.path();
        // `-n` omits the timestamp, for a reproducible package.
        host::run(Command::new("gzip").arg("-9n").arg(&page))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path, mode: u32) -> anyhow::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    fs::set_permissions(to, PermissionsExt::from_mode(mode))
        .with_context(|| format!("set the mode of {}", to.display()))
}

fn make_deb(workspace: &Workspace, out: &Path) -> anyhow::Result<PathBuf> {
    let home = workspace.path(TOOLS_HOME);
    let cargo_deb = home.join("bin/cargo-deb");
    let is_pinned = |program: &Path| {
        let version = host::output(Command::new(program).arg("--version"));
        version.is_ok_and(|version| version.ends_with(CARGO_DEB))
    };
    if !is_pinned(&cargo_deb) {
        let version = ["--version", CARGO_DEB];
        let mut install = workspace.cargo();
        // Its compressors are optimised in the debug profile too, and the build takes less than
        // half the time.
        install.args(["install", "--debug", "--locked", "--quiet", "cargo-deb"]).args(version);
        host::run(install.arg("--root").arg(&home))?;
    }
    remove_with_extension(out, "deb")?;
    let mut deb = workspace.command(&cargo_deb);
    deb.args(["--package", "sensor-user", "--no-build", "--no-strip", "--quiet"]);
    host::run(deb.arg("--output").arg(out))?;
    only_with_extension(out, "deb")
}

fn make_rpm(workspace: &Workspace, stage: &Path, out: &Path) -> anyhow::Result<PathBuf> {
    let work = workspace.path("target/rpmbuild");
    let define = |name: &str, value: &Path| format!("{name} {}", value.display());
    remove_with_extension(out, "rpm")?;
    let mut rpm = workspace.command("rpmbuild");
    rpm.args(["-bb", "--quiet"])
        .args(["--define", &define("_topdir", &work)])
        .args(["--define", &define("_rpmdir", out)])
        .args(["--define", "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm"])
        .args(["--define", &define("stage", stage)])
        .args(["--define", concat!("upstream ", env!("CARGO_PKG_VERSION"))]);
    host::run(rpm.arg(workspace.path("packaging/rpm/netsensor.spec")))?;
    only_with_extension(out, "rpm")
}

/// Removes the packages of an earlier run.
fn remove_with_extension(folder: &Path, extension: &str) -> anyhow::Result<()> {
    for old in with_extension(folder, extension)? {
        fs::remove_file(&old).with_context(|| format!("remove {}", old.display()))?;
    }
    Ok(())
}

/// Path of the only file with this extension.
fn only_with_extension(folder: &Path, extension: &str) -> anyhow::Result<PathBuf> {
    match with_extension(folder, extension)?.as_slice() {
        [only] => Ok(only.clone()),
        found => bail!("{}: {} files end in .{extension}", folder.display(), found.len()),
    }
}

fn with_extension(folder: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension().is_some_and(|it| it == extension)).collect())
}

/// Lints the .deb, checks the files of the .rpm and the exposure level of the unit.
fn check(workspace: &Workspace, deb: &Path, rpm: &Path) -> anyhow::Result<()> {
    // CI builds as root.
    let lint = ["--fail-on", "error", "--allow-root", "--tag-display-limit", "0"];
    host::run(Command::new("lintian").args(lint).arg(deb))?;
    let listed = host::output(Command::new("rpm").args(["-qpl"]).arg(rpm))?;
    for path in ["/usr/bin/netsensor", "/etc/netsensor/netsensor.toml"] {
        anyhow::ensure!(listed.lines().any(|line| line == path), "{path} is not in the .rpm");
    }
    let unit = workspace.path("packaging/systemd/netsensor.service");
    let limit = ["security", "--offline=true", "--no-pager", "--threshold=25"];
    let output = Command::new("systemd-analyze").args(limit).arg(unit).output();
    let output = output.context("run systemd-analyze")?;
    let report = String::from_utf8_lossy(&output.stdout);
    let verdict = report.lines().last().unwrap_or_default();
    anyhow::ensure!(output.status.success(), "the unit is too exposed: {verdict}");
    println!("{verdict}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staged_files_exist_and_are_in_both_packages() {
        let here = Workspace::here();
        let read = |path: &str| fs::read_to_string(here.path(path)).unwrap();
        let deb = read("sensor-user/Cargo.toml");
        let rpm = read("packaging/rpm/netsensor.spec").replace("%{unit_dir}", UNITS);
        for (from, to) in FILES {
            assert!(here.path(from).is_file(), "{from}");
            // The file, or its directory.
            let folder = to.rsplit_once('/').map_or(to, |(folder, _)| folder);
            let is_listed = |path: &str| rpm.lines().any(|line| line.ends_with(path));
            assert!(is_listed(to) || is_listed(folder), "{to} is not in the spec");
        }
        for (_, to) in FILES.iter().chain(&SCRIPTS) {
            let folder = to.rsplit_once('/').map_or(*to, |(folder, _)| folder);
            let is_in_deb = deb.contains(&format!("packages/stage/{folder}/"));
            // cargo-deb reads the unit from its source path and has a setting for the license.
            let is_other = to.starts_with("usr/lib/systemd") || to.ends_with("LICENSE");
            assert!(is_in_deb || is_other, "{to} is not in the metadata of the .deb");
        }
    }

    /// Value of the spec's macro `unit_dir`.
    const UNITS: &str = "/usr/lib/systemd/system";
}
