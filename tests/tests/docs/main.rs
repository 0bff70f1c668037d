//! Checks of the documents: their configurations are valid, commands print the shown output, links
//! have a target, quoted messages and tests exist, and the reference has every key.
//!
//! HTML comments above a block control its check; `markdown.rs` lists them.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test ends with a panic"
)]

mod alerts;
mod blocks;
mod first_alert;
mod keys;
mod links;
mod markdown;
mod quotes;
mod schema;
mod usage;

use std::path::{Path, PathBuf};

/// The root of the repository.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every file below `folder` with this extension.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}
