//! Bounded reads of small files of the kernel and of the distribution.

use std::io::Read as _;
use std::path::Path;

/// Maximum number of bytes read from a file: `/proc/cpuinfo` of a thousand processors fits.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Maximum number of characters of a value.
const VALUE_CHARS_MAX: usize = 256;

/// The file's text, lossy; "" if it cannot be read.
pub(super) fn text(root: &Path, path: &str) -> String {
    bytes(root, path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The file's bytes; `None` if it cannot be read, or is not a regular file (opening a pipe would
/// block).
pub(super) fn bytes(root: &Path, path: &str) -> Option<Vec<u8>> {
    let path = root.join(path);
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The file's first line as a value; "" if there is none.
pub(super) fn value(root: &Path, path: &str) -> String {
    clean(text(root, path).lines().next().unwrap_or_default())
}

/// The number that is the first line of a file.
pub(super) fn number(root: &Path, path: &str) -> Option<u64> {
    value(root, path).parse().ok()
}

/// `text` trimmed, without control characters, and cut to 256 characters.
pub(super) fn clean(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(VALUE_CHARS_MAX).collect()
}
