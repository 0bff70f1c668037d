//! The agent on other kernels: Debian's, each in a machine of its own under emulation.
//!
//! A machine has the kernel of a Debian package, and in memory busybox, the release agent with its
//! libraries, the tests' small peer, and `init.sh`, which prints a line for each check on the serial
//! console.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};

use crate::host::{self, Workspace};

/// Series of kernels: the newest cloud kernel of each that Debian has is taken. Both sides of the
/// change of `inet_csk_accept` (6.10), of `sock_recv_length` (6.3), and without mappable BTF (6.16).
const SERIES: [&str; 2] = ["6.1", "6.12"];
const INIT: &str = include_str!("init.sh");
/// Seconds that one machine may take.
const LIMIT: &str = "300";

/// Program, and the Debian package that has it.
const TOOLS: [(&str, &str); 4] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("dpkg-deb", "dpkg"),
];

/// What the machines said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checks {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

/// `cargo xtask vm`: builds the agent and runs it on every kernel.
pub(crate) fn vm(workspace: &Workspace) -> anyhow::Result<ExitCode> {
    host::run(workspace.cargo().args(["build", "--release", "--locked", "--bin", "netsensor"]))?;
    let checks = run(workspace)?;
    println!("{} passed, {} failed", checks.passed, checks.failed);
    Ok(if checks.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Why the machines cannot be started here, if so.
pub(crate) fn hindrance() -> Option<String> {
    if cfg!(not(target_arch = "x86_64")) {
        return Some("the machines are x86_64".to_owned());
    }
    (!host::can_install()).then(|| "fetching Debian's kernels needs root and apt-get".to_owned())
}

/// Runs the release agent, which is built, on every kernel.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<Checks> {
    let missing = TOOLS.iter().filter(|(program, _)| host::find_program(program, &[]).is_none());
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if missing.is_empty() {
        host::run(Command::new("apt-get").args(["-qq", "update"]))?;
    } else {
        host::apt_install(&missing)?;
    }
    let peer = ["build", "--release", "--locked", "--package", "sensor-tests", "--bin", "peer"];
    host::run(workspace.cargo().args(peer))?;
    let mut all = Checks::default();
    for series in SERIES {
        let folder = workspace.path("target/vm").join(series);
        let Some(kernel) = kernel(series, &folder)? else {
            println!("{series}: not among this Debian's packages");
            continue;
        };
        let initrd = initrd(workspace, &folder)?;
        // Emulation itself fails now and then; a check that fails twice is ours.
        let mut checks = boot(series, &kernel, &initrd)?;
        if checks.failed > 0 {
            println!("vm: once more");
            checks = boot(series, &kernel, &initrd)?;
        }
        all.passed += checks.passed;
        all.failed += checks.failed;
    }
    if all == Checks::default() {
        bail!("none of the kernels {SERIES:?} is among this Debian's packages");
    }
    Ok(all)
}

/// The image of the newest kernel of a series, fetched once; `None` where there is no such package.
fn kernel(series: &str, folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    let pattern = format!("^linux-image-{}\\..*-cloud-amd64$", series.replace('.', "\\."));
    let listed =
        host::output(Command::new("apt-cache").args(["search", "--names-only", &pattern]))?;
    let Some(package) = newest(&listed) else { return Ok(None) };
    let unpacked = folder.join(package);
    if !unpacked.is_dir() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        host::run(Command::new("apt-get").args(["-qq", "download", package]).current_dir(folder))?;
        let archive = find(folder, |name| name.starts_with(&format!("{package}_")))?;
        host::run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&unpacked))?;
        fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))?;
    }
    find(&unpacked.join("boot"), |name| name.starts_with("vmlinuz-")).map(Some)
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
fn initrd(workspace: &Workspace, folder: &Path) -> anyhow::Result<PathBuf> {
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    }
    for inside in ["bin", "proc", "sys", "dev", "tmp", "root"] {
        fs::create_dir_all(root.join(inside)).context("create the machine's folders")?;
    }
    let agent = workspace.path("target/release/netsensor");
    let peer = workspace.path("target/release/peer");
    let busybox = host::find_program("busybox", &[]).context("busybox is missing")?;
    copy(&agent, &root.join("bin/netsensor"))?;
    copy(&busybox, &root.join("bin/busybox"))?;
    copy(&peer, &root.join("bin/peer"))?;
    for library in libraries(&host::output(Command::new("ldd").arg(&agent))?) {
        copy(Path::new(library), &root.join(library.trim_start_matches('/')))?;
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

/// Paths of what `ldd` lists, the loader among them.
fn libraries(listed: &str) -> Vec<&str> {
    let words = listed.lines().filter_map(|line| line.split_whitespace().find(is_path));
    words.collect()
}

fn is_path(word: &&str) -> bool {
    word.starts_with('/')
}

/// Starts a machine, shows what it says of the checks, and counts.
fn boot(series: &str, kernel: &Path, initrd: &Path) -> anyhow::Result<Checks> {
    let mut machine = Command::new("timeout");
    machine
        .args([LIMIT, "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=single"])
        .args(["-cpu", "max", "-smp", "2", "-m", "768", "-nographic", "-nodefaults"])
        .args(["-no-reboot", "-serial", "stdio", "-append", "console=ttyS0 panic=-1 quiet"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .stdin(Stdio::null());
    let output = machine.output().context("run qemu-system-x86_64")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut checks = tally(&said);
    for line in said.lines().filter(|line| line.starts_with("vm: ")) {
        println!("{series}: {}", line.trim_end());
    }
    if checks.failed > 0 || !is_done(&said) {
        println!("{said}");
    }
    if !is_done(&said) {
        println!("vm: the machine did not come to its end");
        checks.failed += 1;
    }
    Ok(checks)
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
    fn libraries_are_what_the_loader_names() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                      \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            libraries(listed),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
        );
    }

    #[test]
    fn what_a_machine_says_is_counted() {
        let said = "boot\r\nvm: kernel 6.1\r\nvm: passed a\r\nvm: failed b\r\nvm: passed c\r\n";
        assert_eq!(tally(said), Checks { passed: 2, failed: 1 });
        assert!(!is_done(said));
        assert!(is_done("vm: done\r\n"));
    }
}
