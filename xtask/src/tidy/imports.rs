//! Imports: the modules of the agent, and which of them each takes names from.
//!
//! Read from the tokens of `use` statements and of paths in code; unit tests are left out. A name that
//! a module re-exports counts as an import of the module that defines it.

use std::collections::{BTreeMap, BTreeSet};

use super::Source;

const AGENT: &str = "sensor-user/src/";
/// Re-exports that are followed one after the other at most.
const HOPS_MAX: usize = 8;

/// A path in the crate, as `["pipeline", "capture", "loader"]`; the root is empty.
pub(super) type Path = Vec<String>;

/// One module takes names from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Import {
    pub(super) from: Path,
    pub(super) to: Path,
    /// File of `from`, relative to the workspace.
    pub(super) file: String,
    pub(super) line: usize,
}

/// Modules of the agent.
#[derive(Debug, Default)]
pub(super) struct Modules {
    files: BTreeMap<Path, String>,
    /// Names that each module imports, and where they come from.
    names: BTreeMap<Path, BTreeMap<String, Path>>,
    paths: Vec<(Path, usize, Path)>,
}

impl Modules {
    /// Reads the modules out of all sources of the workspace.
    pub(super) fn read(sources: &[Source]) -> Self {
        let mut modules = Self::default();
        let agent: Vec<(Path, &Source)> = sources
            .iter()
            .filter_map(|source| Some((module_path(&source.path)?, source)))
            .collect();
        for (path, source) in &agent {
            modules.files.insert(path.clone(), source.path.clone());
        }
        for (path, source) in &agent {
            modules.read_source(path, source);
        }
        modules
    }

    /// Imports between two different modules, each pair with its first line.
    pub(super) fn imports(&self) -> Vec<Import> {
        let mut seen = BTreeSet::new();
        let mut imports = Vec::new();
        for (from, line, written) in &self.paths {
            let to = self.defining_module(written, HOPS_MAX);
            if to != *from && seen.insert((from.clone(), to.clone())) {
                let file = self.files.get(from).cloned().unwrap_or_default();
                imports.push(Import { from: from.clone(), to, file, line: *line });
            }
        }
        imports
    }

    fn read_source(&mut self, path: &Path, source: &Source) {
        let code = without_tests(&source.code);
        for (line, written) in use_paths(code) {
            let Some(absolute) = self.absolute(path, &written.segments) else { continue };
            self.names.entry(path.clone()).or_default().insert(written.name, absolute.clone());
            self.paths.push((path.clone(), line, absolute));
        }
        for (line, segments) in code_paths(code) {
            if let Some(absolute) = self.absolute(path, &segments) {
                self.paths.push((path.clone(), line, absolute));
            }
        }
    }

    /// The path from the root of the crate; `None` for a path into another crate.
    fn absolute(&self, module: &Path, segments: &[String]) -> Option<Path> {
        let (first, rest) = segments.split_first()?;
        let mut base = match first.as_str() {
            "crate" => Path::new(),
            "self" => module.clone(),
            "super" => parent(module),
            _ => {
                let child = [module.as_slice(), std::slice::from_ref(first)].concat();
                self.files.contains_key(&child).then_some(child)?
            }
        };
        for segment in rest {
            if segment == "super" {
                base = parent(&base);
            } else if segment != "self" && segment != "*" {
                base.push(segment.clone());
            }
        }
        Some(base)
    }

    /// The module that defines what `path` names.
    fn defining_module(&self, path: &Path, hops: usize) -> Path {
        let mut module = path.clone();
        while !self.files.contains_key(&module) && !module.is_empty() {
            module.pop();
        }
        let imported = path
            .get(module.len())
            .and_then(|name| self.names.get(&module)?.get(name))
            .filter(|target| *target != path);
        match imported {
            Some(target) if hops > 0 => self.defining_module(target, hops - 1),
            _ => module,
        }
    }
}

/// Module of a file of the agent; `None` for its tests and other files.
fn module_path(file: &str) -> Option<Path> {
    let inner = file.strip_prefix(AGENT)?.strip_suffix(".rs")?;
    let mut path: Path = inner.split('/').map(str::to_owned).collect();
    if path.iter().any(|part| part == "tests" || part.ends_with("_tests")) || inner == "main" {
        return None;
    }
    if path.last().is_some_and(|last| last == "mod" || last == "lib") {
        path.pop();
    }
    Some(path)
}

fn parent(path: &Path) -> Path {
    path.split_last().map(|(_, above)| above.to_vec()).unwrap_or_default()
}

/// The lines before the module of unit tests, which comes last in a file.
fn without_tests(code: &[String]) -> &[String] {
    let is_start = |lines: &[String]| {
        matches!(lines, [attribute, next] if attribute.trim() == "#[cfg(test)]"
            && next.trim().starts_with("mod ") && next.trim().ends_with('{'))
    };
    let end = code.windows(2).position(is_start).unwrap_or(code.len());
    code.get(..end).unwrap_or(code)
}

/// A leaf of a `use` tree.
struct Leaf {
    segments: Path,
    name: String,
}

/// Leaves of all `use` statements, with their lines.
fn use_paths(code: &[String]) -> Vec<(usize, Leaf)> {
    let mut leaves = Vec::new();
    let mut lines = (1..).zip(code);
    while let Some((number, line)) = lines.next() {
        let Some(mut tree) = use_tree(line) else { continue };
        while !tree.contains(';') {
            let Some((_, more)) = lines.next() else { break };
            tree.push_str(more.trim());
        }
        let mut found = Vec::new();
        expand(&Path::new(), tree.split(';').next().unwrap_or_default(), &mut found);
        leaves.extend(found.into_iter().map(|leaf| (number, leaf)));
    }
    leaves
}

/// What follows `use` in the first line of a statement.
fn use_tree(line: &str) -> Option<String> {
    let line = line.trim_start();
    let rest = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1,
        Some(rest) => rest,
        None => line,
    };
    rest.trim_start().strip_prefix("use ").map(str::to_owned)
}

fn expand(prefix: &Path, tree: &str, out: &mut Vec<Leaf>) {
    let tree = tree.trim();
    if let Some((head, inner)) = tree.split_once('{') {
        let mut path = prefix.clone();
        path.extend(segments(head));
        let inner = inner.trim_end().strip_suffix('}').unwrap_or(inner);
        for part in split_top_level(inner) {
            expand(&path, part, out);
        }
        return;
    }
    let (written, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
    let mut path = prefix.clone();
    // `a::{self}` is `a`; a path that begins with `self` stays.
    let is_nested = !path.is_empty();
    path.extend(segments(written).into_iter().filter(|it| it != "self" || !is_nested));
    let last = path.last().cloned().unwrap_or_default();
    let name = if alias.is_empty() { last } else { alias.trim().to_owned() };
    if !path.is_empty() {
        out.push(Leaf { segments: path, name });
    }
}

fn segments(text: &str) -> Path {
    text.split("::").map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

/// Splits at the commas outside of braces.
fn split_top_level(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let parts = text.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.filter(|part| !part.trim().is_empty()).collect()
}

/// Paths in code that begin with `crate`, `self`, `super` or a name, and have a `::`.
fn code_paths(code: &[String]) -> Vec<(usize, Path)> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(code) {
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        for word in line.split(|c| !is_part(c)).filter(|word| word.contains("::")) {
            let path = segments(word);
            if !word.starts_with("::") && path.len() > 1 {
                found.push((number, path));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> =
            files.iter().map(|(path, text)| Source::new(&format!("{AGENT}{path}"), text)).collect();
        let all = Modules::read(&sources).imports();
        all.iter().map(|it| format!("{} -> {}", it.from.join("::"), it.to.join("::"))).collect()
    }

    #[test]
    fn imports_are_those_of_the_defining_module() {
        let found = imports(&[
            ("lib.rs", "pub mod a;\npub mod b;\n"),
            ("a/mod.rs", "mod x;\nmod y;\npub use x::{One, two as Two};\n"),
            ("a/x.rs", "use super::y::Y;\nuse std::fmt;\n"),
            ("a/y.rs", "pub struct Y;\n#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}\n"),
            ("b.rs", "use crate::a::{\n    One,\n    self,\n};\nfn f() { crate::a::y::g() }\n"),
            ("a/tests.rs", "use crate::b::B;\n"),
        ]);
        assert_eq!(found, ["a -> a::x", "a::x -> a::y", "b -> a::x", "b -> a", "b -> a::y"]);
    }
}
