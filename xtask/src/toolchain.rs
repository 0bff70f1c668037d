//! Toolchain for the BPF object: a rustc with the source of `core`, bpf-linker, llvm-objcopy.
//!
//! Nightly is not needed: `RUSTC_BOOTSTRAP=1` enables `-Z build-std` on a stable compiler. Debian's
//! packages have priority, because they include the source and an LLVM compatible with the
//! linker's. A rustup toolchain with the component `rust-src` works as well.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::host;

/// Minimum release for the kernel half; equal to the workspace's `rust-version`.
const RUSTC_MIN: (u32, u32) = (1, 95);
/// Path of the source of `core` below a sysroot.
const RUST_SRC: &str = "lib/rustlib/src/rust/library";
const LINKER_VERSION: &str = "0.13.0";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const PACKAGES: [&str; 5] =
    ["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev", "libpolly-22-dev"];

/// Compiler with its source, linker and objcopy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    pub(crate) linker: PathBuf,
    pub(crate) objcopy: PathBuf,
}

/// A rustc, its cargo, and its source of `core`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compiler {
    pub(crate) rustc: PathBuf,
    pub(crate) cargo: PathBuf,
    /// Directory `…/lib/rustlib/src/rust/library`.
    pub(crate) rust_src: PathBuf,
}

/// Component of the toolchain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Component {
    Compiler,
    Linker,
    Objcopy,
}

impl Toolchain {
    /// Finds the toolchain of this host. As root on Debian, installs missing components.
    pub(crate) fn find_or_install() -> anyhow::Result<Self> {
        let missing = match Self::find() {
            Ok(toolchain) => return Ok(toolchain),
            Err(missing) => missing,
        };
        if !host::can_install() {
            bail!("{}", advice(&missing));
        }
        host::apt_install(&PACKAGES).with_context(|| advice(&missing))?;
        if missing.contains(&Component::Linker) {
            install_linker().with_context(|| advice(&missing))?;
        }
        Self::find().or_else(|missing| bail!("{}", advice(&missing)))
    }

    /// Finds the toolchain; the error has its missing components.
    fn find() -> Result<Self, Vec<Component>> {
        let compiler = find_compiler();
        let linker = host::find_program("bpf-linker", &[cargo_home().join("bin")]);
        let objcopy = find_objcopy(Path::new(LLVM_PREFIX));
        match (compiler, linker, objcopy) {
            (Some(compiler), Some(linker), Some(objcopy)) => Ok(Self { compiler, linker, objcopy }),
            (compiler, linker, objcopy) => {
                let components = [
                    (compiler.is_none(), Component::Compiler),
                    (linker.is_none(), Component::Linker),
                    (objcopy.is_none(), Component::Objcopy),
                ];
                let missing = components.iter().filter(|(is_missing, _)| *is_missing);
                Err(missing.map(|(_, component)| *component).collect())
            }
        }
    }

    /// Output of `rustc --version` and `bpf-linker --version`: equal versions produce equal bytes.
    pub(crate) fn versions(&self) -> anyhow::Result<(String, String)> {
        let rustc = host::output(Command::new(&self.compiler.rustc).arg("--version"))?;
        let linker = host::output(Command::new(&self.linker).arg("--version"))?;
        Ok((rustc, linker))
    }
}

/// Cargo's home directory, with its registry and installed programs.
pub(crate) fn cargo_home() -> PathBuf {
    std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    )
}

fn find_compiler() -> Option<Compiler> {
    ["/usr/bin/rustc", "rustc"].into_iter().find_map(|rustc| {
        let version = host::output(Command::new(rustc).arg("--version")).ok()?;
        let sysroot = host::output(Command::new(rustc).args(["--print", "sysroot"])).ok()?;
        compiler_in(Path::new(&sysroot), &version)
    })
}

/// Compiler of a sysroot, if it is new enough and has the source. The paths of rustc and cargo are
/// absolute, because a rustup proxy would select a toolchain by the environment.
fn compiler_in(sysroot: &Path, version: &str) -> Option<Compiler> {
    let compiler = Compiler {
        rustc: sysroot.join("bin/rustc"),
        cargo: sysroot.join("bin/cargo"),
        rust_src: sysroot.join(RUST_SRC),
    };
    let is_usable = release(version)? >= RUSTC_MIN
        && compiler.rustc.is_file()
        && compiler.cargo.is_file()
        && compiler.rust_src.join("core/src/lib.rs").is_file();
    is_usable.then_some(compiler)
}

/// Parses the release: `(1, 96)` for `rustc 1.96.0 (ac68faa20 2026-05-25)`.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn find_objcopy(llvm_prefix: &Path) -> Option<PathBuf> {
    let versioned = llvm_prefix.join("bin/llvm-objcopy");
    if versioned.is_file() {
        return Some(versioned);
    }
    host::find_program("llvm-objcopy", &[])
}

fn install_linker() -> anyhow::Result<()> {
    let compiler = find_compiler().context("no compiler with source after the installation")?;
    println!("installing bpf-linker {LINKER_VERSION}");
    let mut install = Command::new(&compiler.cargo);
    install
        .args(["install", "bpf-linker", "--locked", "--version", LINKER_VERSION])
        .args(["--no-default-features", "--features", "llvm-22"])
        .env("LLVM_PREFIX", LLVM_PREFIX)
        .env("RUSTC", &compiler.rustc)
        .env_remove("RUSTUP_TOOLCHAIN");
    host::run(&mut install)
}

/// Error message with the missing components and the commands that install them.
fn advice(missing: &[Component]) -> String {
    let mut text = String::from("BPF toolchain: not found:");
    for component in missing {
        text.push_str(match component {
            Component::Compiler => "\n  a rustc of 1.95 or later with the source of core",
            Component::Linker => "\n  bpf-linker, on PATH or in ~/.cargo/bin",
            Component::Objcopy => "\n  llvm-objcopy, on PATH or in /usr/lib/llvm-22/bin",
        });
    }
    text.push_str("\non Debian, as root:\n");
    let _infallible =
        writeln!(text, "  apt-get install -y --no-install-recommends {}", PACKAGES.join(" "));
    let _infallible = writeln!(
        text,
        "  LLVM_PREFIX={LLVM_PREFIX} cargo install bpf-linker --locked --version \
         {LINKER_VERSION} --no-default-features --features llvm-22"
    );
    text.push_str("elsewhere: rustup component add rust-src, and bpf-linker as above");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Workspace;

    #[test]
    fn the_release_is_read_from_the_version_line() {
        for (line, expected) in [
            ("rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)", Some((1, 96))),
            ("rustc 1.98.0-nightly (0 2026-06-01)", Some((1, 98))),
            ("rustc", None),
            ("", None),
        ] {
            assert_eq!(release(line), expected, "{line:?}");
        }
    }

    #[test]
    fn a_sysroot_must_be_new_enough_and_complete() {
        let scratch = Workspace::here().path("target/xtask-tests/sysroot");
        let _absent = std::fs::remove_dir_all(&scratch);
        let version = "rustc 1.96.0 (x)";
        std::fs::create_dir_all(scratch.join("bin")).unwrap();
        for file in ["bin/rustc", "bin/cargo"] {
            std::fs::write(scratch.join(file), "").unwrap();
        }
        assert_eq!(compiler_in(&scratch, version), None, "no source");
        let core = scratch.join(RUST_SRC).join("core/src");
        std::fs::create_dir_all(&core).unwrap();
        std::fs::write(core.join("lib.rs"), "").unwrap();
        let found = compiler_in(&scratch, version).unwrap();
        assert_eq!(found.cargo, scratch.join("bin/cargo"));
        assert_eq!(compiler_in(&scratch, "rustc 1.63.0 (x)"), None, "too old");
    }

    #[test]
    fn the_advice_has_the_missing_components_and_the_commands() {
        let text = advice(&[Component::Linker]);
        assert!(text.contains("bpf-linker, on PATH"), "{text}");
        assert!(!text.contains("a rustc of"), "{text}");
        assert!(text.contains("apt-get install") && text.contains("cargo install"), "{text}");
    }
}
