//! Runs the agent on Debian's kernels, each in an emulated machine.
//!
//! A machine boots the kernel of a Debian package with an initrd. The initrd contains busybox, the
//! release agent with its libraries, the tests' `peer`, and `init.sh`, which prints a line for each
//! check on the serial console.

mod machine_type;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};

use crate::host::{self, Workspace};

pub(crate) use machine_type::MachineType;

const INIT: &str = include_str!("init.sh");
/// Time limit of one machine in seconds.
const LIMIT_SECONDS: &str = "300";

/// Numbers of passed and failed checks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checks {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

/// Implements `cargo xtask vm`.
pub(crate) fn vm(workspace: &Workspace, kind: MachineType) -> anyhow::Result<ExitCode> {
    let checks = run(workspace, kind)?;
    println!("{} passed, {} failed", checks.passed, checks.failed);
    Ok(if checks.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reason for which the machines cannot run on this host, if any.
pub(crate) fn unavailable_reason() -> Option<String> {
    if cfg!(not(target_arch = "x86_64")) {
        return Some("the machines run on x86_64 hosts only".to_owned());
    }
    (!host::can_install()).then(|| "fetching Debian's kernels needs root and apt-get".to_owned())
}

/// Installs missing tools, and fetches the package lists.
fn install(workspace: &Workspace, kind: MachineType) -> anyhow::Result<()> {
    let missing = host::missing(kind.tools());
    if !missing.is_empty() {
        host::apt_install(&missing)?;
    }
    host::run(kind.apt(workspace, "apt-get")?.args(["-qq", "update"]))
}

/// Builds the agent and runs it on every kernel.
pub(crate) fn run(workspace: &Workspace, kind: MachineType) -> anyhow::Result<Checks> {
    install(workspace, kind)?;
    kind.build_agent(workspace)?;
    let peer = kind.build_peer(workspace)?;
    let mut machines = Vec::new();
    for (series, exact) in kind.series() {
        let folder = kind.folder(workspace).join(series);
        let Some(kernel) = kernel(workspace, kind, series)? else {
            println!("{series}: not available in this Debian release");
            continue;
        };
        let initrd = initrd(workspace, kind, &peer, &folder)?;
        machines.push(Machine { kind, series, exact, kernel, initrd });
    }
    if machines.is_empty() {
        bail!("none of the kernels {:?} is available in this Debian release", kind.series());
    }
    // All machines run in parallel; each uses one core.
    let reports: Vec<anyhow::Result<MachineReport>> = std::thread::scope(|scope| {
        let mut started = Vec::new();
        for machine in &machines {
            started.push(scope.spawn(|| machine.run_checks()));
        }
        let ended = started.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended
            .map(|report| report.unwrap_or_else(|_panic| bail!("a machine's thread panicked")))
            .collect()
    });
    let mut all = Checks::default();
    for report in reports {
        let MachineReport { text, checks } = report?;
        print!("{text}");
        all.passed += checks.passed;
        all.failed += checks.failed;
    }
    Ok(all)
}

/// Path of the newest kernel image of a series, downloaded once. `None` if no package exists.
fn kernel(
    workspace: &Workspace,
    kind: MachineType,
    series: &str,
) -> anyhow::Result<Option<PathBuf>> {
    let debian = kind.debian_name();
    let pattern = format!("^linux-image-{}\\..*-cloud-{debian}$", series.replace('.', "\\."));
    let mut search = kind.apt(workspace, "apt-cache")?;
    let listed = host::output(search.args(["search", "--names-only", &pattern]))?;
    let Some(package) = newest(&listed) else { return Ok(None) };
    let unpacked = fetch_package(workspace, kind, package, &kind.folder(workspace).join(series))?;
    find(&unpacked.join("boot"), |name| name.starts_with("vmlinuz-")).map(Some)
}

/// Downloads and unpacks a package in `folder`, once. Returns its directory.
fn fetch_package(
    workspace: &Workspace,
    kind: MachineType,
    package: &str,
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let unpacked = folder.join(package);
    if !unpacked.is_dir() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let mut apt = kind.apt(workspace, "apt-get")?;
        host::run(apt.args(["-qq", "download", package]).current_dir(folder))?;
        let archive = find(folder, |name| name.starts_with(&format!("{package}_")))?;
        host::run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&unpacked))?;
        fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))?;
    }
    Ok(unpacked)
}

/// Path of a statically linked busybox for this machine type.
fn busybox(workspace: &Workspace, kind: MachineType) -> anyhow::Result<PathBuf> {
    match kind {
        MachineType::X86_64 => host::find_program("busybox", &[]).context("busybox is missing"),
        MachineType::Aarch64 => {
            let folder = kind.folder(workspace);
            let unpacked = fetch_package(workspace, kind, "busybox-static", &folder)?;
            Ok(unpacked.join("bin/busybox"))
        }
    }
}

/// Package with the highest version in the output of `apt-cache search`.
fn newest(listed: &str) -> Option<&str> {
    let packages = listed.lines().filter_map(|line| line.split(' ').next());
    packages.max_by_key(|package| {
        let numbers = package.split(|c: char| !c.is_ascii_digit());
        numbers.filter_map(|number| number.parse().ok()).collect::<Vec<u64>>()
    })
}

fn find(folder: &Path, fits: impl Fn(&str) -> bool) -> anyhow::Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", folder.display()))?;
        if fits(&entry.file_name().to_string_lossy()) {
            return Ok(entry.path());
        }
    }
    bail!("{}: has no matching file", folder.display())
}

/// Creates the machine's initrd, a cpio archive. Returns its path.
fn initrd(
    workspace: &Workspace,
    kind: MachineType,
    peer: &Path,
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    }
    for inside in ["bin", "proc", "sys", "dev", "tmp", "root"] {
        fs::create_dir_all(root.join(inside)).context("create the machine's directories")?;
    }
    let agent = kind.built_path(workspace, "release", "netsensor");
    copy(&agent, &root.join("bin/netsensor"))?;
    copy(peer, &root.join("bin/peer"))?;
    copy(&busybox(workspace, kind)?, &root.join("bin/busybox"))?;
    for (library, inside) in kind.libraries(&agent)? {
        copy(&library, &root.join(inside.trim_start_matches('/')))?;
    }
    let init = root.join("init");
    fs::write(&init, INIT).context("write the machine's init")?;
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&init, executable).context("write the machine's init")?;
    let archive = folder.join("initrd");
    let pack = "find . | cpio --quiet -o -H newc > ../initrd";
    host::run(Command::new("sh").args(["-c", pack]).current_dir(&root))?;
    Ok(archive)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}

/// Configuration of a machine.
struct Machine {
    kind: MachineType,
    series: &'static str,
    /// Best probe of accept, for `init.sh`.
    exact: &'static str,
    kernel: PathBuf,
    initrd: PathBuf,
}

/// Output to print for a machine, and the results of its checks.
#[derive(Default)]
struct MachineReport {
    text: String,
    checks: Checks,
}

impl Machine {
    /// Runs the checks, with one retry, since emulation itself fails occasionally.
    fn run_checks(&self) -> anyhow::Result<MachineReport> {
        let first = self.boot()?;
        if first.checks.failed == 0 {
            return Ok(first);
        }
        let second = self.boot()?;
        Ok(MachineReport { text: format!("{}vm: retry\n{}", first.text, second.text), ..second })
    }

    /// Boots the machine, waits until it powers off, and counts the results of its checks.
    fn boot(&self) -> anyhow::Result<MachineReport> {
        let (machine, console) = self.kind.qemu_command();
        let mut qemu = Command::new("timeout");
        qemu.arg(LIMIT_SECONDS)
            .args(machine)
            .args(["-accel", "tcg,thread=single", "-smp", "2", "-m", "768"])
            .args(["-nographic", "-nodefaults", "-no-reboot", "-serial", "stdio"])
            .arg("-append")
            // The kernel passes unknown parameters to init as environment variables.
            .arg(format!("console={console} panic=-1 quiet exact={}", self.exact))
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initrd)
            .stdin(Stdio::null());
        let output = qemu.output().context("run QEMU")?;
        let console = String::from_utf8_lossy(&output.stdout);
        let mut report = MachineReport { text: String::new(), checks: tally(&console) };
        for line in console.lines().filter(|line| line.starts_with("vm: ")) {
            report.text.extend([self.series, ": ", line.trim_end(), "\n"]);
        }
        let done = is_done(&console);
        if report.checks.failed > 0 || !done {
            report.text += &console;
        }
        if !done {
            report.text += "vm: the machine did not complete its checks\n";
            report.checks.failed += 1;
        }
        Ok(report)
    }
}

fn is_done(console: &str) -> bool {
    console.lines().any(|line| line.trim_end() == "vm: done")
}

fn tally(console: &str) -> Checks {
    let count = |word: &str| console.lines().filter(|line| line.starts_with(word)).count();
    Checks { passed: count("vm: passed "), failed: count("vm: failed ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_package_is_the_one_with_the_highest_numbers() {
        let listed = "linux-image-6.1.0-9-cloud-amd64 - Linux\n\
                      linux-image-6.1.0-55-cloud-amd64 - Linux\n\
                      linux-image-6.1.0-47-cloud-amd64 - Linux\n";
        assert_eq!(newest(listed), Some("linux-image-6.1.0-55-cloud-amd64"));
        assert_eq!(newest(""), None);
    }

    #[test]
    fn results_on_the_console_are_counted() {
        let console = "boot\r\nvm: kernel 6.1\r\nvm: passed a\r\nvm: failed b\r\nvm: passed c\r\n";
        assert_eq!(tally(console), Checks { passed: 2, failed: 1 });
        assert!(!is_done(console));
        assert!(is_done("vm: done\r\n"));
    }
}
