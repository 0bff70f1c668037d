//! Packages for Debian and for Red Hat's kin, in `target/packages`.
//!
//! What they hold is staged once, as it is to lie on a host; both are made of that, and checked. The
//! .deb is made by cargo-deb, which is built here once, the .rpm by rpmbuild. `cargo xtask package`
//! packs a build of its own, with the kafka sink; the tests pack the agent that they have.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};

use crate::host::{self, Workspace};

/// Where the packages come to lie.
const OUT: &str = "target/packages";
/// Named in the metadata of `sensor-user/Cargo.toml` too.
const STAGE: &str = "target/packages/stage";
const TOOLS_HOME: &str = "target/tools";
const CARGO_DEB: &str = "3.8.0";
const DIST: [&str; 7] =
    ["build", "--profile", "dist", "--locked", "--package", "sensor-user", "--features=kafka"];

/// Program, and the Debian package that has it.
pub(crate) const TOOLS: [(&str, &str); 5] = [
    ("gzip", "gzip"),
    ("lintian", "lintian"),
    ("rpmbuild", "rpm"),
    ("strip", "binutils"),
    ("systemd-analyze", "systemd"),
];

/// What of the tree goes where.
const FILES: [(&str, &str); 9] = [
    ("LICENSE", "usr/share/doc/netsensor/LICENSE"),
    ("packaging/netsensor.toml", "etc/netsensor/netsensor.toml"),
    ("packaging/systemd/netsensor.service", "usr/lib/systemd/system/netsensor.service"),
    ("packaging/systemd/netsensor.sysusers", "usr/lib/sysusers.d/netsensor.conf"),
    ("examples/indicators.txt", "usr/share/netsensor/indicators.txt"),
    ("examples/netsensor.toml", "usr/share/doc/netsensor/examples/netsensor.toml"),
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

/// What `netsensor manual` writes beside the man pages, and where it goes.
const SCRIPTS: [(&str, &str); 3] = [
    ("netsensor.bash", "usr/share/bash-completion/completions/netsensor"),
    ("_netsensor", "usr/share/zsh/vendor-completions/_netsensor"),
    ("netsensor.fish", "usr/share/fish/vendor_completions.d/netsensor.fish"),
];

/// What was made.
#[derive(Debug)]
pub(crate) struct Packages {
    pub(crate) deb: PathBuf,
    pub(crate) rpm: PathBuf,
}

/// `cargo xtask package`: builds the agent with all its sinks, unless one is named; packs and checks it.
pub(crate) fn package(workspace: &Workspace, binary: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let binary = if let Some(binary) = binary {
        binary
    } else {
        host::run(workspace.cargo().args(DIST).args(["--bin", "netsensor"]))?;
        workspace.path("target/dist/netsensor")
    };
    let made = make(workspace, &binary, &workspace.path(OUT))?;
    for path in [&made.deb, &made.rpm] {
        println!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Packs `binary` for this machine's architecture into the folder `out`, and checks what came out.
pub(crate) fn make(workspace: &Workspace, binary: &Path, out: &Path) -> anyhow::Result<Packages> {
    let missing = host::missing(&TOOLS);
    if !missing.is_empty() {
        if !host::can_install() {
            bail!("package: missing; as root: apt-get install {}", missing.join(" "));
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

/// Puts all that a package holds where it is to lie, under `stage`.
fn stage_files(workspace: &Workspace, binary: &Path, stage: &Path) -> anyhow::Result<()> {
    if stage.exists() {
        fs::remove_dir_all(stage).with_context(|| format!("remove {}", stage.display()))?;
    }
    for (from, to) in FILES {
        put(&workspace.path(from), &stage.join(to), 0o644)?;
    }
    let staged = stage.join("usr/bin/netsensor");
    put(binary, &staged, 0o755)?;
    host::run(Command::new("strip").arg(&staged))?;

    let pages = stage.join("usr/share/man/man1");
    fs::create_dir_all(&pages).with_context(|| format!("make {}", pages.display()))?;
    host::run(Command::new(binary).arg("manual").arg(&pages))?;
    for (from, to) in SCRIPTS {
        let from = pages.join(from);
        put(&from, &stage.join(to), 0o644)?;
        fs::remove_file(&from).with_context(|| format!("remove {}", from.display()))?;
    }
    for entry in fs::read_dir(&pages).with_context(|| format!("list {}", pages.display()))? {
        let page = entry.with_context(|| format!("list {}", pages.display()))?.path();
        // Without its time, so that the same sources give the same bytes.
        host::run(Command::new("gzip").arg("-9n").arg(&page))?;
    }
    Ok(())
}

fn put(from: &Path, to: &Path, mode: u32) -> anyhow::Result<()> {
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
        // Its compressors are optimised in this profile too, and it is made in less than half the time.
        install.args(["install", "--debug", "--locked", "--quiet", "cargo-deb"]).args(version);
        host::run(install.arg("--root").arg(&home))?;
    }
    clear(out, "deb")?;
    let mut deb = workspace.command(&cargo_deb);
    deb.args(["--package", "sensor-user", "--no-build", "--no-strip", "--quiet"]);
    host::run(deb.arg("--output").arg(out))?;
    one(out, "deb")
}

fn make_rpm(workspace: &Workspace, stage: &Path, out: &Path) -> anyhow::Result<PathBuf> {
    let work = workspace.path("target/rpmbuild");
    let defined = |name: &str, value: &Path| format!("{name} {}", value.display());
    clear(out, "rpm")?;
    let mut rpm = workspace.command("rpmbuild");
    rpm.args(["-bb", "--quiet"])
        .args(["--define", &defined("_topdir", &work)])
        .args(["--define", &defined("_rpmdir", out)])
        .args(["--define", "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm"])
        .args(["--define", &defined("stage", stage)])
        .args(["--define", concat!("upstream ", env!("CARGO_PKG_VERSION"))]);
    host::run(rpm.arg(workspace.path("packaging/rpm/netsensor.spec")))?;
    one(out, "rpm")
}

/// Removes what an earlier run made.
fn clear(folder: &Path, extension: &str) -> anyhow::Result<()> {
    for old in with_extension(folder, extension)? {
        fs::remove_file(&old).with_context(|| format!("remove {}", old.display()))?;
    }
    Ok(())
}

/// The only file with that extension.
fn one(folder: &Path, extension: &str) -> anyhow::Result<PathBuf> {
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

/// Lints the .deb, reads the .rpm, and asks how exposed the unit is.
fn check(workspace: &Workspace, deb: &Path, rpm: &Path) -> anyhow::Result<()> {
    // Root builds in CI.
    let lint = ["--fail-on", "error", "--allow-root", "--tag-display-limit", "0"];
    host::run(Command::new("lintian").args(lint).arg(deb))?;
    let listed = host::output(Command::new("rpm").args(["-qpl"]).arg(rpm))?;
    for wanted in ["/usr/bin/netsensor", "/etc/netsensor/netsensor.toml"] {
        anyhow::ensure!(listed.lines().any(|line| line == wanted), "{wanted} is not in the .rpm");
    }
    let unit = workspace.path("packaging/systemd/netsensor.service");
    let limit = ["security", "--offline=true", "--no-pager", "--threshold=25"];
    let output = Command::new("systemd-analyze").args(limit).arg(unit).output();
    let output = output.context("run systemd-analyze")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let verdict = said.lines().last().unwrap_or_default();
    anyhow::ensure!(output.status.success(), "the unit is too exposed: {verdict}");
    println!("{verdict}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_staged_is_there_and_is_in_both_packages() {
        let here = Workspace::here();
        let read = |path: &str| fs::read_to_string(here.path(path)).unwrap();
        let deb = read("sensor-user/Cargo.toml");
        let rpm = read("packaging/rpm/netsensor.spec").replace("%{unit_dir}", UNITS);
        for (from, to) in FILES {
            assert!(here.path(from).is_file(), "{from}");
            // A file, or the folder that it is in.
            let folder = to.rsplit_once('/').map_or(to, |(folder, _)| folder);
            let is_listed = |path: &str| rpm.lines().any(|line| line.ends_with(path));
            assert!(is_listed(to) || is_listed(folder), "{to} is not in the spec");
        }
        for (_, to) in FILES.iter().chain(&SCRIPTS) {
            let folder = to.rsplit_once('/').map_or(*to, |(folder, _)| folder);
            let named = deb.contains(&format!("packages/stage/{folder}/"));
            // cargo-deb takes the unit from where it is, and the license out of a file of its own.
            let is_other = to.starts_with("usr/lib/systemd") || to.ends_with("LICENSE");
            assert!(named || is_other, "{to} is not in the metadata of the .deb");
        }
    }

    /// What the spec calls `unit_dir`.
    const UNITS: &str = "/usr/lib/systemd/system";
}
