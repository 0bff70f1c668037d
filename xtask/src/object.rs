//! Builds the BPF object from source, and the lock beside it.
//!
//! The object is committed, so that building the agent needs neither LLVM nor nightly. The build is
//! reproducible in any directory: paths are remapped and debug sections stripped. `.BTF` and
//! `.BTF.ext` are kept, because aya and the verifier's log need them.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use btf_rs::{Btf, Type};
use fallible_iterator::FallibleIterator as _;
use object::{Object as _, ObjectSection as _};

use crate::host::{self, Workspace};
use crate::object_lock::{LOCK, Lock, OBJECT};
use crate::toolchain::{Toolchain, cargo_home};

const BUILT: &str = "target/bpf/bpfel-unknown-none/bpf/netsensor-bpf";
/// Path of an object that is built only for comparison.
const FRESH: &str = "target/bpf/netsensor.bpf.o";
const SEPARATOR: &str = "\u{1f}";

/// Comparison of an object built from source with the committed one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// Identical bytes: the object is reproduced.
    Same,
    /// Different bytes from the same tools.
    Different,
    /// Not comparable: the committed object was built by other tools.
    OtherTools { committed: String, local: String },
}

/// Writes the committed object and its lock.
pub(crate) fn build(workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let toolchain = Toolchain::find_or_install()?;
    let object = make(workspace, &toolchain)?;
    let lock = Lock::of_tree(workspace, &object, toolchain.versions()?)?;
    write(&workspace.path(OBJECT), &object)?;
    write(&workspace.path(LOCK), lock.text().as_bytes())?;
    println!("{OBJECT}: {} bytes, sha256 {}", object.len(), lock.object);
    Ok(ExitCode::SUCCESS)
}

/// Writes the object alone, to `path`.
pub(crate) fn build_to(workspace: &Workspace, path: &Path) -> anyhow::Result<ExitCode> {
    let object = make(workspace, &Toolchain::find_or_install()?)?;
    write(path, &object)?;
    println!("{}: {} bytes", path.display(), object.len());
    Ok(ExitCode::SUCCESS)
}

/// Reports whether the committed object is reproduced from the sources.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let (path, comparison) = build_and_compare(workspace)?;
    match comparison {
        Comparison::Same => println!("{OBJECT}: reproduced, identical bytes"),
        Comparison::OtherTools { committed, local } => {
            println!("{OBJECT}: not compared: built by {committed}, the local tools are {local}");
        }
        Comparison::Different => {
            let path = path.display();
            println!(
                "{OBJECT}: differs from the sources' build ({path}); run cargo xtask build-ebpf"
            );
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds into the target directory. Returns the path of the fresh object and its comparison.
pub(crate) fn build_and_compare(workspace: &Workspace) -> anyhow::Result<(PathBuf, Comparison)> {
    let toolchain = Toolchain::find_or_install()?;
    let object = make(workspace, &toolchain)?;
    let path = workspace.path(FRESH);
    write(&path, &object)?;
    let fresh = Lock::of_tree(workspace, &object, toolchain.versions()?)?;
    let committed = Lock::read(workspace)
        .context("nothing to compare with; create it with cargo xtask build-ebpf")?;
    Ok((path, compare(&committed, &fresh)))
}

fn compare(committed: &Lock, fresh: &Lock) -> Comparison {
    let tools = |lock: &Lock| format!("{} and {}", lock.rustc, lock.linker);
    if committed.object == fresh.object {
        Comparison::Same
    } else if tools(committed) == tools(fresh) {
        Comparison::Different
    } else {
        Comparison::OtherTools { committed: tools(committed), local: tools(fresh) }
    }
}

/// Builds and strips the object. Returns its bytes.
fn make(workspace: &Workspace, toolchain: &Toolchain) -> anyhow::Result<Vec<u8>> {
    // The registry's directories must exist before they can be remapped.
    host::run(cargo(workspace, toolchain).args(["fetch", "--quiet", "--locked"]))
        .context("fetch the dependencies of the BPF object")?;
    let flags = rustflags(workspace.root(), toolchain, &registries(&cargo_home()));
    host::run(
        cargo(workspace, toolchain)
            .args(["build", "--quiet", "--locked", "--profile", "bpf", "--package", "sensor-ebpf"])
            .args(["--features", "object", "--bin", "netsensor-bpf"])
            .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"])
            .args(["--target-dir", "target/bpf"])
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join(SEPARATOR)),
    )
    .context("build the BPF object")?;
    let stripped = workspace.path("target/bpf/stripped.o");
    host::run(
        Command::new(&toolchain.objcopy)
            .arg("--strip-debug")
            .arg(workspace.path(BUILT))
            .arg(&stripped),
    )
    .context("strip the BPF object")?;
    let object =
        std::fs::read(&stripped).with_context(|| format!("read {}", stripped.display()))?;
    verify(&object, workspace.root())?;
    let declared = forward_declarations(btf(&object)?).context("BPF object: read .BTF")?;
    if declared.len() > 1 {
        bail!(
            "BPF object: .BTF declares {} without defining them, in an order that differs between \
             links; the cause is a closure that captures a structure by reference: make it `move`",
            declared.join(" and ")
        );
    }
    Ok(object)
}

/// Returns the section `.BTF`.
fn btf(object: &[u8]) -> anyhow::Result<&[u8]> {
    let file = object::File::parse(object).context("BPF object: read the ELF file")?;
    let section =
        file.section_by_name(".BTF").context("BPF object: section \".BTF\" is missing")?;
    section.data().context("BPF object: read section \".BTF\"")
}

/// Names of the structures that BTF declares but does not define: only pointers refer to them.
///
/// LLVM adds them at the end, in the order of memory addresses (`FixupDerivedTypes`, a map of
/// pointers, in `BTFDebug.h`). The order of two of them therefore differs between links.
fn forward_declarations(btf: &[u8]) -> Result<Vec<String>, btf_rs::Error> {
    let btf = Btf::from_bytes(btf)?;
    btf.type_iter()
        .filter_map(|kind| match kind {
            Type::Fwd(declared) => btf.resolve_name(&declared).map(Some),
            _ => Ok(None),
        })
        .collect()
}

/// Command for the toolchain's cargo, without variables that would change the build.
fn cargo(workspace: &Workspace, toolchain: &Toolchain) -> Command {
    let mut cargo = workspace.command(&toolchain.compiler.cargo);
    cargo
        .env("RUSTC", &toolchain.compiler.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC_WRAPPER", "")
        .env("RUSTC_WORKSPACE_WRAPPER", "");
    for name in [
        "CARGO",
        "CARGO_BUILD_TARGET",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_INCREMENTAL",
        "CARGO_TARGET_DIR",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
    ] {
        cargo.env_remove(name);
    }
    cargo
}

fn rustflags(root: &Path, toolchain: &Toolchain, registries: &[PathBuf]) -> Vec<String> {
    let mut flags = vec![
        format!("-Clinker={}", toolchain.linker.display()),
        "-Clink-arg=--btf".to_owned(),
        // Otherwise the linker replaces each memset and memcpy with a call to a byte loop.
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        format!("--remap-path-prefix={}=.", root.display()),
        format!("--remap-path-prefix={}=rust-src", toolchain.compiler.rust_src.display()),
    ];
    // The last matching rule wins, and a registry may be inside the tree.
    for registry in registries {
        flags.push(format!("--remap-path-prefix={}=registry", registry.display()));
    }
    flags
}

/// Directories with the sources of crates, one per registry.
fn registries(cargo_home: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cargo_home.join("registry/src")).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths
}

/// Checks that the object has the required sections, no debug sections and no local paths.
fn verify(object: &[u8], root: &Path) -> anyhow::Result<()> {
    for section in [".BTF\0", ".BTF.ext\0", "license\0"] {
        if !contains(object, section.as_bytes()) {
            bail!("BPF object: section {:?} is missing", section.trim_end_matches('\0'));
        }
    }
    if contains(object, b".debug_info\0") {
        bail!("BPF object: still has debug sections after llvm-objcopy --strip-debug");
    }
    let root = format!("{}/", root.display());
    if contains(object, root.as_bytes()) {
        bail!("BPF object: contains {root:?}, so its bytes depend on the build directory");
    }
    Ok(())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("create {}", directory.display()))?;
    }
    std::fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolchain::Compiler;

    fn lock(object: &str, rustc: &str) -> Lock {
        Lock { object: object.into(), rustc: rustc.into(), linker: "l".into(), ..Lock::default() }
    }

    #[test]
    fn bytes_are_compared_only_between_equal_tools() {
        let committed = lock("1", "a");
        assert_eq!(compare(&committed, &lock("1", "b")), Comparison::Same);
        assert_eq!(compare(&committed, &lock("2", "a")), Comparison::Different);
        assert_eq!(
            compare(&committed, &lock("2", "b")),
            Comparison::OtherTools { committed: "a and l".into(), local: "b and l".into() }
        );
    }

    #[test]
    fn an_object_without_btf_or_with_debug_or_paths_is_refused() {
        let root = Path::new("/src/tree");
        let good = b".BTF\0.BTF.ext\0license\0".as_slice();
        verify(good, root).unwrap();
        for (bad, expected) in [
            (b".BTF.ext\0license\0".to_vec(), "section \".BTF\" is missing"),
            ([good, b".debug_info\0"].concat(), "still has debug sections"),
            ([good, b"/src/tree/a.rs"].concat(), "contains \"/src/tree/\""),
        ] {
            let error = verify(&bad, root).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    /// BTF (`include/uapi/linux/btf.h`, little endian) with two forward declarations.
    #[test]
    fn forward_declarations_are_found() {
        const KIND_FWD: u32 = 7 << 24;
        let names = b"\0one\0two\0";
        let types: Vec<u8> =
            [1, KIND_FWD, 0, 5, KIND_FWD, 0].into_iter().flat_map(u32::to_le_bytes).collect();
        let lengths = [24, 0, 24, 24, 9];
        let mut btf = vec![0x9f, 0xeb, 1, 0];
        btf.extend(lengths.into_iter().flat_map(u32::to_le_bytes));
        btf.extend(types);
        btf.extend(names);

        assert_eq!(forward_declarations(&btf).unwrap(), ["one", "two"]);
        forward_declarations(&btf[..20]).unwrap_err();
    }

    #[test]
    fn every_path_in_debug_information_is_remapped() {
        let toolchain = Toolchain {
            compiler: Compiler {
                rustc: "/u/rustc".into(),
                cargo: "/u/cargo".into(),
                rust_src: "/u/src".into(),
            },
            linker: "/l/bpf-linker".into(),
            objcopy: "/l/objcopy".into(),
        };
        let flags = rustflags(Path::new("/tree"), &toolchain, &["/c/one".into()]);
        for mapping in ["/tree=.", "/u/src=rust-src", "/c/one=registry"] {
            assert!(
                flags.contains(&format!("--remap-path-prefix={mapping}")),
                "{mapping}: {flags:?}"
            );
        }
        assert!(flags.contains(&"-Clinker=/l/bpf-linker".to_owned()));
    }
}
