//! Quotes of the sources in documents: messages, names of tests, paths.

use super::markdown::{Document, document, documents};
use super::{files, repository};

/// The agent's sources, one text per file, with string continuation lines joined.
fn sources() -> Vec<String> {
    let folders = ["sensor-user/src", "sensor-ebpf/src", "tests/src", "tests/tests"];
    let paths = folders.iter().flat_map(|folder| files(&repository().join(folder), "rs"));
    let read = |path| {
        let text = std::fs::read_to_string(path).unwrap();
        let mut lines = text.split("\\\n");
        let mut joined = lines.next().unwrap_or_default().to_owned();
        lines.for_each(|line| joined.push_str(line.trim_start()));
        joined.replace("\\\"", "\"")
    };
    paths.map(read).collect()
}

/// Code spans in column `column` of the tables with `header` in that column.
fn quoted(document: &Document, column: usize, header: &str) -> Vec<String> {
    let rows = document.rows_under(column, header);
    rows.into_iter().flat_map(|mut row| row.remove(column).code).collect()
}

#[test]
fn every_quoted_message_exists() {
    let sources = sources();
    let messages = quoted(&document("docs/troubleshooting.md"), 0, "message");
    assert!(messages.len() > 50, "{messages:?}");
    let mut unknown = Vec::new();
    for message in messages {
        let parts = message.split('…').map(str::trim).filter(|part| part.len() > 2);
        let parts: Vec<&str> = parts.collect();
        let is_of = |source: &String| parts.iter().all(|part| source.contains(part));
        if !sources.iter().any(is_of) {
            unknown.push(message);
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn every_named_test_exists() {
    let sources = sources();
    let suites = repository().join("tests/tests");
    let files = files(&suites, "rs");
    for document in documents() {
        for name in quoted(&document, 3, "tested by") {
            // A suite, a file of a suite, or a test.
            let exists = suites.join(&name).exists()
                || suites.join(format!("{name}.rs")).exists()
                || files.iter().any(|path| path.ends_with(&name))
                || sources.iter().any(|source| source.contains(&format!("fn {name}(")));
            assert!(exists, "{}: {name}", document.path.display());
        }
    }
}

#[test]
fn every_named_path_exists() {
    let document = document("docs/threat-model.md");
    for path in quoted(&document, 2, "where") {
        let roots = ["", "sensor-user/src"].map(|root| repository().join(root).join(&path));
        assert!(roots.iter().any(|candidate| candidate.exists()), "{path}");
    }
}
