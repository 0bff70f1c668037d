//! Stable identifiers: the same parts always give the same id, on any machine.

use sha2::{Digest as _, Sha256};

/// 128 bits of SHA-256 over the parts, as 32 hex digits.
///
/// Each part is preceded by its length, so `["ab", "c"]` and `["a", "bc"]` differ.
pub fn stable_id(parts: &[&str]) -> String {
    use std::fmt::Write as _;
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    digest.iter().take(16).fold(String::with_capacity(32), |mut id, byte| {
        let _infallible = write!(id, "{byte:02x}");
        id
    })
}

#[cfg(test)]
mod tests {
    use super::stable_id;

    #[test]
    fn parts_are_told_apart() {
        assert_eq!(stable_id(&["a", "b"]), stable_id(&["a", "b"]));
        assert_ne!(stable_id(&["ab", "c"]), stable_id(&["a", "bc"]));
        assert_eq!(stable_id(&["x"]).len(), 32);
    }
}
