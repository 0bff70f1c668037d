//! Small files of the kernel and of the distribution, read whole and bounded.

use std::io::Read as _;
use std::path::Path;

/// Bytes read of a file at most: `/proc/cpuinfo` of a thousand processors fits.
const MOST: u64 = 4 << 20;
/// Characters of one value at most.
const VALUE_MOST: usize = 256;

/// The file's text, lossy; "" where it cannot be read.
pub(super) fn text(root: &Path, path: &str) -> String {
    bytes(root, path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The file's bytes; `None` where it cannot be read, or is no regular file (opening a pipe would
/// wait).
pub(super) fn bytes(root: &Path, path: &str) -> Option<Vec<u8>> {
    let path = root.join(path);
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The file's only line as a value; "" where there is none.
pub(super) fn value(root: &Path, path: &str) -> String {
    clean(text(root, path).lines().next().unwrap_or_default())
}

/// A number alone in a file.
pub(super) fn number(root: &Path, path: &str) -> Option<u64> {
    value(root, path).parse().ok()
}

/// `text` without what no value has: spaces around it, control characters, more than 256 characters.
pub(super) fn clean(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(VALUE_MOST).collect()
}
