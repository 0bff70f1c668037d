//! Types of emulated machines and their differences, from the compiler to the serial console.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::host::{self, Workspace};

/// Architecture of an emulated machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum MachineType {
    /// Default; part of `cargo xtask test`.
    #[value(name = "x86_64")]
    X86_64,
    /// Cross-compiled and run manually; takes ten minutes more.
    #[value(name = "aarch64")]
    Aarch64,
}

/// Kernel series and its best probe of accept. The newest cloud kernel of the series is used.
pub(super) type Series = (&'static str, &'static str);

const AARCH64: &str = "aarch64-unknown-linux-gnu";
/// Directory of the target's libraries in Debian's cross compiler.
const AARCH64_LIBRARIES: &str = "/usr/aarch64-linux-gnu/lib";

impl MachineType {
    /// Kernel series to run: before and after the changes of `sock_recv_length` (6.3) and
    /// `inet_csk_accept` (6.10), and without mappable BTF (6.16). On aarch64, fexit requires 6.4.
    pub(super) const fn series(self) -> &'static [Series] {
        match self {
            Self::X86_64 => &[("6.1", "fexit"), ("6.12", "fexit")],
            Self::Aarch64 => &[("6.1", "kretprobe"), ("6.12", "fexit")],
        }
    }

    /// Required programs, each with its Debian package.
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

    /// Debian's name of the architecture.
    pub(super) const fn debian_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// Cache directory of this machine type.
    pub(super) fn folder(self, workspace: &Workspace) -> PathBuf {
        let all = workspace.path("target/vm");
        match self {
            Self::X86_64 => all,
            Self::Aarch64 => all.join("aarch64"),
        }
    }

    /// Builds the agent for this machine type.
    pub(super) fn build_agent(self, workspace: &Workspace) -> anyhow::Result<()> {
        self.build(workspace, &host::BUILD_AGENT)
    }

    /// Builds the tests' `peer` and returns its path: on `x86_64` the debug build that the suites
    /// have already built, else a release build beside the agent.
    pub(super) fn build_peer(self, workspace: &Workspace) -> anyhow::Result<PathBuf> {
        let (command, profile): (&[&str], _) = match self {
            Self::X86_64 => (&["test", "--no-run", "--test=kernel"], "debug"),
            Self::Aarch64 => (&["build", "--release", "--bin=peer"], "release"),
        };
        self.build(workspace, &[command, &["--locked", "--package=sensor-tests"]].concat())?;
        Ok(self.built_path(workspace, profile, "peer"))
    }

    fn build(self, workspace: &Workspace, command: &[&str]) -> anyhow::Result<()> {
        let mut cargo = workspace.cargo();
        cargo.args(command);
        if self == Self::Aarch64 {
            // If the target is not installed, the compiler's error has the command to install it.
            cargo.args(["--target", AARCH64]);
            cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
        }
        host::run(&mut cargo)
    }

    /// Path of a built program of this profile.
    pub(super) fn built_path(self, workspace: &Workspace, profile: &str, name: &str) -> PathBuf {
        let target = workspace.path("target");
        match self {
            Self::X86_64 => target.join(profile).join(name),
            Self::Aarch64 => target.join(AARCH64).join(profile).join(name),
        }
    }

    /// Libraries of a program: path on this host and path in the machine.
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

    /// Apt command for this architecture's packages. A foreign architecture has separate package
    /// lists, so that the host's configuration is unchanged.
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

    /// QEMU command of the machine, without its kernel, and the name of its serial console.
    pub(super) const fn qemu_command(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::X86_64 => (&["qemu-system-x86_64", "-machine", "q35", "-cpu", "max"], "ttyS0"),
            Self::Aarch64 => {
                (&["qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a72"], "ttyAMA0")
            }
        }
    }
}

/// Paths in the output of `ldd`, the loader's included.
fn paths(listed: &str) -> Vec<&str> {
    let is_path = |word: &&str| word.starts_with('/');
    listed.lines().filter_map(|line| line.split_whitespace().find(is_path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_the_paths_in_the_output_of_ldd() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                      \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            paths(listed),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
        );
    }
}
