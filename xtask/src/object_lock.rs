//! `netsensor.bpf.lock`: sources and tools of the committed BPF object.
//!
//! The file has lines in the format of sha256sum for each source and the object, and `key: value`
//! lines for the rest. The object is up to date if every line except the tools' versions equals the
//! line that would be written now. Tool versions matter only when bytes are compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::host::Workspace;

/// Path of the committed object.
pub(crate) const OBJECT: &str = "sensor-ebpf/object/netsensor.bpf.o";
/// Path of the object's lock.
pub(crate) const LOCK: &str = "sensor-ebpf/object/netsensor.bpf.lock";

/// Lock, parsed from the file or computed from the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lock {
    /// SHA-256 by path of the source.
    pub(crate) sources: BTreeMap<String, String>,
    /// Versions of the kernel half's dependencies, from Cargo.lock.
    pub(crate) packages: BTreeMap<String, String>,
    /// SHA-256 of the object file.
    pub(crate) object: String,
    /// Output of `rustc --version`.
    pub(crate) rustc: String,
    /// Output of `bpf-linker --version`.
    pub(crate) linker: String,
}

impl Lock {
    /// Computes the lock of an object that was built from this tree.
    pub(crate) fn of_tree(
        workspace: &Workspace,
        object: &[u8],
        (rustc, linker): (String, String),
    ) -> anyhow::Result<Self> {
        Ok(Self {
            sources: sources(workspace)?,
            packages: packages(&read(workspace, "Cargo.lock")?),
            object: sha256(object),
            rustc,
            linker,
        })
    }

    /// Reads the committed lock.
    pub(crate) fn read(workspace: &Workspace) -> anyhow::Result<Self> {
        Ok(Self::parse(&read(workspace, LOCK)?))
    }

    fn parse(text: &str) -> Self {
        let mut lock = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((hash, path)) = line.split_once("  ") {
                if path == OBJECT {
                    hash.clone_into(&mut lock.object);
                } else {
                    lock.sources.insert(path.to_owned(), hash.to_owned());
                }
            } else if let Some((key, value)) = line.split_once(": ") {
                match key {
                    "rustc" => value.clone_into(&mut lock.rustc),
                    "linker" => value.clone_into(&mut lock.linker),
                    "total" => {}
                    package => {
                        lock.packages.insert(package.to_owned(), value.to_owned());
                    }
                }
            }
        }
        lock
    }

    /// Text of the lock file.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from("# Made by `cargo xtask build-ebpf`; not for editing.\n");
        for (path, hash) in &self.sources {
            let _infallible = writeln!(text, "{hash}  {path}");
        }
        for (name, version) in &self.packages {
            let _infallible = writeln!(text, "{name}: {version}");
        }
        let _infallible = writeln!(text, "total: {}", sha256(text.as_bytes()));
        let _infallible = writeln!(text, "{}  {OBJECT}", self.object);
        let _infallible = writeln!(text, "rustc: {}\nlinker: {}", self.rustc, self.linker);
        text
    }

    /// Differences between this (committed) lock and the tree's, without the tools.
    pub(crate) fn differences(&self, tree: &Self) -> Vec<String> {
        let mut found = changed("source", &self.sources, &tree.sources);
        found.extend(changed("package", &self.packages, &tree.packages));
        if self.object != tree.object {
            found.push(format!("{OBJECT} is not the object that was locked"));
        }
        found
    }
}

/// Reasons for which the committed object is out of date.
pub(crate) fn differences(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let object = std::fs::read(workspace.path(OBJECT)).with_context(|| format!("read {OBJECT}"))?;
    let tree = Lock::of_tree(workspace, &object, (String::new(), String::new()))?;
    Ok(Lock::read(workspace)?.differences(&tree))
}

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

fn changed(
    kind: &str,
    locked: &BTreeMap<String, String>,
    tree: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in tree {
        match locked.get(name) {
            Some(known) if known == value => {}
            Some(_) => found.push(format!("{kind} {name} has changed")),
            None => found.push(format!("{kind} {name} is new")),
        }
    }
    let removed = locked.keys().filter(|name| !tree.contains_key(*name));
    found.extend(removed.map(|name| format!("{kind} {name} is removed")));
    found
}

/// Hashes of the kernel half's sources, its manifest, and its build profiles.
fn sources(workspace: &Workspace) -> anyhow::Result<BTreeMap<String, String>> {
    let mut hashes = BTreeMap::new();
    for path in workspace.files()? {
        let name = path.to_string_lossy().into_owned();
        let is_source = path.starts_with("sensor-ebpf/src")
            && path.extension().is_some_and(|extension| extension == "rs");
        if is_source || path == Path::new("sensor-ebpf/Cargo.toml") {
            let bytes =
                std::fs::read(workspace.path(&path)).with_context(|| format!("read {name}"))?;
            hashes.insert(name, sha256(&bytes));
        }
    }
    let manifest = read(workspace, "Cargo.toml")?;
    for header in ["[profile.release]", "[profile.bpf]"] {
        hashes
            .insert(format!("Cargo.toml {header}"), sha256(section(&manifest, header).as_bytes()));
    }
    Ok(hashes)
}

/// Lines of a TOML table, without its header, comments and empty lines.
fn section(manifest: &str, header: &str) -> String {
    let mut lines = manifest.lines().skip_while(|line| line.trim() != header).skip(1);
    let inside = lines.by_ref().take_while(|line| !line.starts_with('['));
    inside.filter(|line| !line.trim().is_empty() && !line.starts_with('#')).fold(
        String::new(),
        |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        },
    )
}

/// Versions of `aya-ebpf` and its subcrates in a Cargo.lock.
fn packages(cargo_lock: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut name = "";
    for line in cargo_lock.lines() {
        if let Some(value) = line.strip_prefix("name = ") {
            name = value.trim_matches('"');
        } else if let Some(value) = line.strip_prefix("version = ")
            && name.starts_with("aya-ebpf")
        {
            found.insert(name.to_owned(), value.trim_matches('"').to_owned());
        }
    }
    found
}

fn read(workspace: &Workspace, path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(workspace.path(path)).with_context(|| format!("read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Lock {
        Lock {
            sources: BTreeMap::from([
                ("sensor-ebpf/src/main.rs".into(), "11".into()),
                ("Cargo.toml [profile.bpf]".into(), "22".into()),
            ]),
            packages: BTreeMap::from([("aya-ebpf".into(), "0.2.1".into())]),
            object: "33".into(),
            rustc: "rustc 1.96.0 (x)".into(),
            linker: "bpf-linker 0.13.0".into(),
        }
    }

    #[test]
    fn the_text_round_trips() {
        assert_eq!(Lock::parse(&lock().text()), lock());
    }

    #[test]
    fn each_difference_from_the_tree_is_reported() {
        assert_eq!(lock().differences(&lock()), [""; 0]);
        let mut tree = lock();
        tree.sources.insert("sensor-ebpf/src/main.rs".into(), "12".into());
        tree.sources.insert("sensor-ebpf/src/new.rs".into(), "13".into());
        tree.sources.remove("Cargo.toml [profile.bpf]");
        tree.packages.insert("aya-ebpf".into(), "0.2.2".into());
        tree.object = "34".into();
        tree.rustc = "another one".into();
        assert_eq!(
            lock().differences(&tree),
            [
                "source sensor-ebpf/src/main.rs has changed",
                "source sensor-ebpf/src/new.rs is new",
                "source Cargo.toml [profile.bpf] is removed",
                "package aya-ebpf has changed",
                "sensor-ebpf/object/netsensor.bpf.o is not the object that was locked",
            ]
        );
    }

    #[test]
    fn only_the_kernel_half_of_cargo_lock_counts() {
        let text = "[[package]]\nname = \"aya\"\nversion = \"0.14.0\"\n\n\
                    [[package]]\nname = \"aya-ebpf\"\nversion = \"0.2.1\"\n";
        assert_eq!(packages(text), BTreeMap::from([("aya-ebpf".into(), "0.2.1".into())]));
    }

    #[test]
    fn a_profile_ends_at_the_next_table_and_ignores_comments() {
        let text = "[a]\nx = 1\n\n# why\n[b]\n# because\ny = 2\n\n[c]\nz = 3\n";
        assert_eq!(section(text, "[b]"), "y = 2\n");
        assert_eq!(section(text, "[d]"), "");
    }

    #[test]
    fn sources_of_this_tree_are_found() {
        let found = sources(&Workspace::here()).unwrap();
        assert!(found.contains_key("sensor-ebpf/src/main.rs"), "{found:?}");
        assert!(found.contains_key("sensor-ebpf/Cargo.toml"), "{found:?}");
    }
}
