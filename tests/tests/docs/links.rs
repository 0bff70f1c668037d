//! Links between documents, and to files of the repository.

use std::path::{Component, Path, PathBuf};

use super::markdown::documents;
use super::{files, repository};

/// Normalizes `a/../b` to `b`.
fn normalize(path: &Path) -> PathBuf {
    let mut normalize = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            normalize.pop();
        } else if part != Component::CurDir {
            normalize.push(part);
        }
    }
    normalize
}

#[test]
fn every_link_has_a_target() {
    let all = documents();
    let mut broken = Vec::new();
    for document in &all {
        let folder = document.path.parent().unwrap();
        for (location, link) in document.links() {
            if link.starts_with("https://") || link.starts_with("http://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if path.is_empty() { document.path.clone() } else { normalize(&folder.join(path)) };
            if !repository().join(&target).exists() {
                broken.push(format!("{location}: {link}: there is no such file"));
                continue;
            }
            let other = all.iter().find(|other| other.path == target);
            if !anchor.is_empty() && other.is_none_or(|other| !other.anchors().contains(anchor)) {
                broken.push(format!("{location}: {link}: there is no such heading"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_document_is_in_the_index() {
    let all = documents();
    let index = all.iter().find(|it| it.path == Path::new("docs/README.md")).unwrap();
    let linked: Vec<PathBuf> =
        index.links().iter().map(|(_, link)| normalize(&Path::new("docs").join(link))).collect();
    for document in all.iter().filter(|it| it.path.starts_with("docs") && it.path != index.path) {
        assert!(
            linked.contains(&document.path),
            "{}: is not in the index",
            document.path.display()
        );
    }
}

/// Alert rules and other packaging files link to headings of documents.
#[test]
fn headings_referenced_by_packaging_exist() {
    let folder = repository().join("packaging");
    if !folder.exists() {
        return;
    }
    let all = documents();
    let paths = ["yml", "yaml", "json", "service", "toml"];
    for path in paths.iter().flat_map(|extension| files(&folder, extension)) {
        let text = std::fs::read_to_string(&path).unwrap();
        for document in &all {
            let name = format!("{}#", document.path.display());
            for (index, _) in text.match_indices(&name) {
                let rest = &text[index + name.len()..];
                let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
                let anchor = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
                let exists = document.anchors().contains(anchor);
                assert!(exists, "{}: {name}{anchor}: no such heading", path.display());
            }
        }
    }
}
