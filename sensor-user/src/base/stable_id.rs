//! Stable identifiers: the same parts always give the same id, on any machine.

use sha2::{Digest as _, Sha256};

/// Returns 128 bits of the SHA-256 of the parts, as 32 hex digits.
///
/// Each part is prefixed with its length, so that `["ab", "c"]` and `["a", "bc"]` differ.
///
/// ```
/// use sensor_user::base::stable_id::stable_id;
///
/// assert_eq!(stable_id(&["ab", "c"]), stable_id(&["ab", "c"]));
/// assert_ne!(stable_id(&["ab", "c"]), stable_id(&["a", "bc"]));
/// ```
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
    fn parts_are_separated() {
        assert_eq!(stable_id(&["a", "b"]), stable_id(&["a", "b"]));
        assert_ne!(stable_id(&["ab", "c"]), stable_id(&["a", "bc"]));
        assert_eq!(stable_id(&["x"]).len(), 32);
    }
}
