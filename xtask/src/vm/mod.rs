//! The agent on other kernels: Debian's, each in a machine of its own under emulation.
//!
//! A machine has the kernel of a Debian package, and in memory busybox, the release agent with its
//! libraries, the tests' small peer, and `init.sh`, which prints a line for each check on the serial
//! console.

mod kind;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};

use crate::host::{self, Workspace};

pub(crate) use kind::Kind;

const INIT: &str = include_str!("init.sh");
/// Seconds that one machine may take.
const LIMIT: &str = "300";

/// What the machines said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checks {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

/// `cargo xtask vm`.
pub(crate) fn vm(workspace: &Workspace, kind: Kind) -> anyhow::Result<ExitCode> {
    let checks = run(workspace, kind)?;
    println!("{} passed, {} failed", checks.passed, checks.failed);
    Ok(if checks.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Why the machines cannot be started here, if so.
pub(crate) fn hindrance() -> Option<String> {
    if cfg!(not(target_arch = "x86_64")) {
        return Some("the machines are started from x86_64".to_owned());
    }
    (!host::can_install()).then(|| "fetching Debian's kernels needs root and apt-get".to_owned())
}

/// Installs what is missing, and fetches the lists of packages.
fn install(workspace: &Workspace, kind: Kind) -> anyhow::Result<()> {
    let missing = host::missing(kind.tools());
    if !missing.is_empty() {
        host::apt_install(&missing)?;
    }
    host::run(kind.apt(workspace, "apt-get")?.args(["-qq", "update"]))
}

/// Builds the agent, and runs it on every kernel.
pub(crate) fn run(workspace: &Workspace, kind: Kind) -> anyhow::Result<Checks> {
    install(workspace, kind)?;
    kind.build_agent(workspace)?;
    let peer = kind.build_peer(workspace)?;
    let mut machines = Vec::new();
    for (series, exact) in kind.series() {
        let folder = kind.folder(workspace).join(series);
        let Some(kernel) = kernel(workspace, kind, series)? else {
            println!("{series}: not among this Debian's packages");
            continue;
        };
        let initrd = initrd(workspace, kind, &peer, &folder)?;
        machines.push(Machine { kind, series, exact, kernel, initrd });
    }
    if machines.is_empty() {
        bail!("none of the kernels {:?} is among this Debian's packages", kind.series());
    }
    // Each takes one core.
    let said: Vec<anyhow::Result<Said>> = std::thread::scope(|scope| {
        let mut started = Vec::new();
        for machine in &machines {
            started.push(scope.spawn(|| machine.checked()));
        }
        let ended = started.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended
            .map(|said| said.unwrap_or_else(|_panic| bail!("a machine's thread panicked")))
            .collect()
    });
    let mut all = Checks::default();
    for said in said {
        let Said { text, checks } = said?;
        print!("{text}");
        all.passed += checks.passed;
        all.failed += checks.failed;
    }
    Ok(all)
}

/// The image of the newest kernel of a series, fetched once; `None` where there is no such package.
fn kernel(workspace: &Workspace, kind: Kind, series: &str) -> anyhow::Result<Option<PathBuf>> {
    let debian = kind.debian();
    let pattern = format!("^linux-image-{}\\..*-cloud-{debian}$", series.replace('.', "\\."));
    let mut search = kind.apt(workspace, "apt-cache")?;
    let listed = host::output(search.args(["search", "--names-only", &pattern]))?;
    let Some(package) = newest(&listed) else { return Ok(None) };
    let unpacked = fetched(workspace, kind, package, &kind.folder(workspace).join(series))?;
    find(&unpacked.join("boot"), |name| name.starts_with("vmlinuz-")).map(Some)
}

/// A package, unpacked in `folder`; fetched once.
fn fetched(
    workspace: &Workspace,
    kind: Kind,
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

/// A busybox for this kind of machine that needs no libraries.
fn busybox(workspace: &Workspace, kind: Kind) -> anyhow::Result<PathBuf> {
    match kind {
        Kind::X86_64 => host::find_program("busybox", &[]).context("busybox is missing"),
        Kind::Aarch64 => {
            let folder = kind.folder(workspace);
            let unpacked = fetched(workspace, kind, "busybox-static", &folder)?;
            Ok(unpacked.join("bin/busybox"))
        }
    }
}

/// The package with the highest version among lines of `apt-cache search`.
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
    bail!("{}: holds nothing that fits", folder.display())
}

/// What the machine has in memory, as a cpio archive.
fn initrd(
    workspace: &Workspace,
    kind: Kind,
    peer: &Path,
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    }
    for inside in ["bin", "proc", "sys", "dev", "tmp", "root"] {
        fs::create_dir_all(root.join(inside)).context("create the machine's folders")?;
    }
    let agent = kind.built(workspace, "release", "netsensor");
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

/// What a machine has.
struct Machine {
    kind: Kind,
    series: &'static str,
    /// The exact probe of accept, for `init.sh`.
    exact: &'static str,
    kernel: PathBuf,
    initrd: PathBuf,
}

/// What is to be shown of a machine's run.
#[derive(Default)]
struct Said {
    text: String,
    checks: Checks,
}

impl Machine {
    /// Runs the checks. Emulation itself fails now and then; a check that fails twice is ours.
    fn checked(&self) -> anyhow::Result<Said> {
        let first = self.boot()?;
        if first.checks.failed == 0 {
            return Ok(first);
        }
        let again = self.boot()?;
        Ok(Said { text: format!("{}vm: once more\n{}", first.text, again.text), ..again })
    }

    /// Starts the machine, waits for its end, and counts what it says of the checks.
    fn boot(&self) -> anyhow::Result<Said> {
        let (machine, console) = self.kind.machine();
        let mut qemu = Command::new("timeout");
        qemu.arg(LIMIT)
            .args(machine)
            .args(["-accel", "tcg,thread=single", "-smp", "2", "-m", "768"])
            .args(["-nographic", "-nodefaults", "-no-reboot", "-serial", "stdio"])
            .arg("-append")
            // What the kernel does not know it hands to init.
            .arg(format!("console={console} panic=-1 quiet exact={}", self.exact))
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initrd)
            .stdin(Stdio::null());
        let output = qemu.output().context("run QEMU")?;
        let console = String::from_utf8_lossy(&output.stdout);
        let mut said = Said { text: String::new(), checks: tally(&console) };
        for line in console.lines().filter(|line| line.starts_with("vm: ")) {
            said.text.extend([self.series, ": ", line.trim_end(), "\n"]);
        }
        let done = is_done(&console);
        if said.checks.failed > 0 || !done {
            said.text += &console;
        }
        if !done {
            said.text += "vm: the machine did not come to its end\n";
            said.checks.failed += 1;
        }
        Ok(said)
    }
}

fn is_done(said: &str) -> bool {
    said.lines().any(|line| line.trim_end() == "vm: done")
}

fn tally(said: &str) -> Checks {
    let count = |word: &str| said.lines().filter(|line| line.starts_with(word)).count();
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
    fn what_a_machine_says_is_counted() {
        let said = "boot\r\nvm: kernel 6.1\r\nvm: passed a\r\nvm: failed b\r\nvm: passed c\r\n";
        assert_eq!(tally(said), Checks { passed: 2, failed: 1 });
        assert!(!is_done(said));
        assert!(is_done("vm: done\r\n"));
    }
}
