//! Text: module docs come first, and no file names the machine that it was written on.

use super::{Finding, Source};

/// Top-level directories that are only somebody's.
const MACHINE: [&str; 3] = ["work", "root", "farm"];

/// Machine paths in a file of any kind.
pub(super) fn findings(path: &str, bytes: &[u8]) -> Vec<Finding> {
    let text = String::from_utf8_lossy(bytes);
    let needles = MACHINE.map(|directory| format!("/{directory}/"));
    let mut found = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let named = needles.iter().filter(|needle| names_path(content, needle));
        found.extend(named.map(|needle| {
            Finding::new(path, line, format!("names {needle:?}; write it without a machine's path"))
        }));
    }
    found
}

/// True when an absolute path begins with `needle`; `a/work/b` is another.
fn names_path(content: &str, needle: &str) -> bool {
    content.match_indices(needle).any(|(at, _)| {
        let before = content.get(..at).and_then(|head| head.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || ['_', '-', '.', '}', '*'].contains(&c))
    })
}

/// A Rust file that does not open with `//!`.
pub(super) fn module_doc(source: &Source) -> Option<Finding> {
    let first = source.lines.iter().find(|line| !line.trim().is_empty());
    let has_doc = first.is_some_and(|line| line.starts_with("//!"));
    let what = "no module doc; open with //! and what the file is for";
    (!has_doc).then(|| Finding::new(&source.path, 1, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_path_is_found_in_any_file() {
        for directory in MACHINE {
            let found = findings("docs/x.md", format!("a\nsee /{directory}/x\n").as_bytes());
            assert_eq!(found.len(), 1, "{directory}");
            assert!(found[0].to_string().starts_with("docs/x.md:2: names"), "{found:?}");
        }
        let relative = format!("target/{0}/x https://host.example/{0}/x", MACHINE[0]);
        assert_eq!(findings("docs/x.md", relative.as_bytes()), []);
    }

    #[test]
    fn a_file_without_module_doc_is_found() {
        for (text, want) in [
            ("//! What.\n", false),
            ("\n//! What.\n", false),
            ("use x;\n//! What.\n", true),
            ("// What.\n", true),
            ("", true),
        ] {
            assert_eq!(module_doc(&Source::new("a.rs", text)).is_some(), want, "{text:?}");
        }
    }
}
