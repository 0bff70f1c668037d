//! Kinds of machines: what differs between them, from the compiler to the serial console.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::host::{self, Workspace};

/// A kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// What `cargo xtask test` runs.
    #[value(name = "x86_64")]
    X86_64,
    /// Compiled across, and run by hand: it takes ten minutes more.
    #[value(name = "aarch64")]
    Aarch64,
}

/// A kernel to run: the series, the newest cloud kernel of which is taken, and the exact probe of
/// accept that it allows.
pub(super) type Series = (&'static str, &'static str);

const AARCH64: &str = "aarch64-unknown-linux-gnu";
/// Where Debian's cross compiler has the libraries of the machines that it compiles for.
const AARCH64_LIBRARIES: &str = "/usr/aarch64-linux-gnu/lib";

impl Kind {
    /// Both sides of the change of `inet_csk_accept` (6.10), of `sock_recv_length` (6.3), and without
    /// mappable BTF (6.16). On aarch64 fexit came with 6.4.
    pub(super) const fn series(self) -> &'static [Series] {
        match self {
            Self::X86_64 => &[("6.1", "fexit"), ("6.12", "fexit")],
            Self::Aarch64 => &[("6.1", "kretprobe"), ("6.12", "fexit")],
        }
    }

    /// Programs that are needed, each with the Debian package that has it.
    pub(super) const fn tools(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::X86_64 => &[
                ("qemu-system-x86_64", "qemu-system-x86"),
                ("busybox", "busybox-static"),
                ("cpio", "cpio"),
                ("dpkg-deb", "dpkg"),
            ],
            Self::Aarch64 => &[
                ("qemu-system-aarch64", "qemu-system-arm"),
                ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
                ("cpio", "cpio"),
                ("dpkg-deb", "dpkg"),
            ],
        }
    }

    /// What Debian calls it.
    pub(super) const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// What is kept of it.
    pub(super) fn folder(self, workspace: &Workspace) -> PathBuf {
        let all = workspace.path("target/vm");
        match self {
            Self::X86_64 => all,
            Self::Aarch64 => all.join("aarch64"),
        }
    }

    /// Builds the agent.
    pub(super) fn build_agent(self, workspace: &Workspace) -> anyhow::Result<()> {
        self.build(workspace, &host::BUILD_AGENT)
    }

    /// Builds the tests' peer and says where it is: as the suites have it, whose run has built it, or
    /// beside the agent.
    pub(super) fn build_peer(self, workspace: &Workspace) -> anyhow::Result<PathBuf> {
        let (command, profile): (&[&str], _) = match self {
            Self::X86_64 => (&["test", "--no-run", "--test=kernel"], "debug"),
            Self::Aarch64 => (&["build", "--release", "--bin=peer"], "release"),
        };
        self.build(workspace, &[command, &["--locked", "--package=sensor-tests"]].concat())?;
        Ok(self.built(workspace, profile, "peer"))
    }

    fn build(self, workspace: &Workspace, command: &[&str]) -> anyhow::Result<()> {
        let mut cargo = workspace.cargo();
        cargo.args(command);
        if self == Self::Aarch64 {
            // Where the target is not installed the compiler says which command installs it.
            cargo.args(["--target", AARCH64]);
            cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
        }
        host::run(&mut cargo)
    }

    /// Where a program of that profile is built.
    pub(super) fn built(self, workspace: &Workspace, profile: &str, name: &str) -> PathBuf {
        let target = workspace.path("target");
        match self {
            Self::X86_64 => target.join(profile).join(name),
            Self::Aarch64 => target.join(AARCH64).join(profile).join(name),
        }
    }

    /// The libraries of a program: where each is here, and where it belongs.
    pub(super) fn libraries(self, program: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
        if self == Self::X86_64 {
            let listed = host::output(Command::new("ldd").arg(program))?;
            let own = |path: &str| (PathBuf::from(path), path.to_owned());
            return Ok(paths(&listed).into_iter().map(own).collect());
        }
        let names = ["ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libgcc_s.so.1"];
        let at = |name: &str| (Path::new(AARCH64_LIBRARIES).join(name), format!("/lib/{name}"));
        Ok(names.map(at).into())
    }

    /// A command of apt that sees this kind's packages. Those of another kind have lists of their
    /// own, so that nothing changes for the machine that this runs on.
    pub(super) fn apt(self, workspace: &Workspace, program: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(program);
        if self == Self::Aarch64 {
            let folder = self.folder(workspace).join("apt");
            for inside in ["state/lists/partial", "cache/archives/partial"] {
                let inside = folder.join(inside);
                fs::create_dir_all(&inside)
                    .with_context(|| format!("create {}", inside.display()))?;
            }
            let at = folder.display();
            let text = format!(
                "APT::Architecture \"arm64\";\nAPT::Architectures {{ \"arm64\"; }};\n\
                 Dir::State \"{at}/state\";\nDir::State::status \"/dev/null\";\n\
                 Dir::Cache \"{at}/cache\";\n"
            );
            let file = folder.join("apt.conf");
            fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
            command.env("APT_CONFIG", file);
        }
        Ok(command)
    }

    /// QEMU with a machine of this kind, without its kernel; and its serial console.
    pub(super) const fn machine(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::X86_64 => (&["qemu-system-x86_64", "-machine", "q35", "-cpu", "max"], "ttyS0"),
            Self::Aarch64 => {
                (&["qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a72"], "ttyAMA0")
            }
        }
    }
}

/// Paths of what `ldd` lists, the loader among them.
fn paths(listed: &str) -> Vec<&str> {
    let is_path = |word: &&str| word.starts_with('/');
    listed.lines().filter_map(|line| line.split_whitespace().find(is_path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_what_the_loader_names() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                      \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            paths(listed),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
        );
    }
}
