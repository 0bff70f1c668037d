//! Layout rules that no lint knows, one file a subject; each finding names the location and the
//! remedy.

mod architecture;
mod code;
mod hooks;
mod imports;
mod layers;
mod logs;
mod order;
mod restricted;
mod size;
mod text;
mod words;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::host::Workspace;
use crate::object_lock::{self, LOCK};

pub(crate) use code::Source;

/// Paths (`file` or `file:function`) that may be longer than the rule allows, each with the reason.
const LONG: &[(&str, &str)] = &[];

/// One breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    /// `what; remedy`.
    what: String,
}

impl Finding {
    pub(crate) fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Prints every finding; fails when there is one.
pub(crate) fn tidy(workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let found = findings(workspace)?;
    for finding in &found {
        println!("{finding}");
    }
    println!("tidy: {} findings", found.len());
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every finding in the tree, sorted by location.
pub(crate) fn findings(workspace: &Workspace) -> anyhow::Result<Vec<Finding>> {
    let mut found = lock_findings(workspace);
    let mut used = Vec::new();
    let mut sources = Vec::new();
    for path in workspace.files()? {
        let name = path.to_string_lossy().into_owned();
        let bytes = std::fs::read(workspace.path(&path)).with_context(|| format!("read {name}"))?;
        found.extend(text::findings(&name, &bytes));
        found.extend(words::findings(&name, &bytes));
        if is_rust(&path) {
            sources.push(Source::new(&name, &String::from_utf8_lossy(&bytes)));
        }
    }
    for source in &sources {
        found.extend(size::findings(source, LONG, &mut used));
        found.extend(text::module_doc(source));
        found.extend(restricted::findings(source));
        found.extend(hooks::findings(source));
        found.extend(logs::findings(source));
    }
    for (name, _reason) in LONG.iter().filter(|(name, _)| !used.contains(name)) {
        let what = format!("exception {name:?} is not needed any more; remove it");
        found.push(Finding::new("xtask/src/tidy/mod.rs", 1, what));
    }
    let read = |path: &str| std::fs::read_to_string(workspace.path(path)).ok();
    found.extend(layers::findings(&sources, read("ARCHITECTURE.md").as_deref()));
    found.extend(order::findings(&read));
    found.sort_unstable();
    Ok(found)
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

fn lock_findings(workspace: &Workspace) -> Vec<Finding> {
    let differences =
        object_lock::differences(workspace).unwrap_or_else(|error| vec![format!("{error:#}")]);
    let finding = |what| Finding::new(LOCK, 1, format!("{what}; run cargo xtask build-ebpf"));
    differences.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_does_not_fit_the_sources_is_found() {
        let root = Workspace::here().path("target/xtask-tests/unlocked");
        let _absent = std::fs::remove_dir_all(&root);
        for (path, text) in [
            ("Cargo.toml", "[profile.bpf]\n"),
            ("Cargo.lock", ""),
            ("sensor-ebpf/Cargo.toml", "[package]\n"),
            ("sensor-ebpf/src/main.rs", "//! x\n"),
            ("sensor-ebpf/object/netsensor.bpf.o", "object"),
            (LOCK, "00  sensor-ebpf/src/main.rs\n"),
        ] {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let found: Vec<String> =
            lock_findings(&Workspace::at(&root)).iter().map(ToString::to_string).collect();
        let last = found.last().unwrap();
        assert_eq!(
            last,
            "sensor-ebpf/object/netsensor.bpf.lock:1: sensor-ebpf/object/netsensor.bpf.o is not \
             the object that was locked; run cargo xtask build-ebpf"
        );
        std::fs::remove_file(root.join(LOCK)).unwrap();
        let found = lock_findings(&Workspace::at(&root));
        assert!(found[0].to_string().contains("No such file"), "{found:?}");
    }

    #[test]
    fn each_exception_has_a_reason() {
        for (path, reason) in LONG {
            assert!(reason.len() > 10, "{path}: {reason:?}");
        }
    }
}
