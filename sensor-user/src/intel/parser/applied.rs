//! `AppliedVersion`: the version of an id that applies so far in a merge.

use std::hash::{Hash as _, Hasher as _};

use twox_hash::{XxHash3_64, XxHash3_128, XxHash64};

use crate::base::collections::FastIndexMap;
use crate::intel::formats::entry::EntryContent;
use crate::intel::set::store::StoredIdentity;

/// Maximum number of removed ids that are kept, so that an old version does not restore them. Those
/// with the oldest versions are dropped first.
const REMOVED_MAX: usize = 1 << 20;

/// Applied versions by the hash of their id.
pub(super) type Ids = FastIndexMap<u128, AppliedVersion>;

/// Version of an id that applies so far: a [`StoredIdentity`], and what a duplicate is recognised by.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AppliedVersion {
    pub(super) version: i64,
    pub(super) group: u64,
    /// Position of the entry; the maximum stands for all higher ones.
    pub(super) position: u32,
    /// Hash of the prefixes and ports of the entry; 0 if it has none.
    pub(super) matched: u32,
    pub(super) first: u32,
    pub(super) count: u32,
}

impl AppliedVersion {
    pub(super) const fn identity(self, id: u128) -> StoredIdentity {
        let Self { version, group, first, count, .. } = self;
        StoredIdentity { id, version, group, first, count }
    }
}

/// Returns the hash of what an entry matches, its prefixes and ports; 0 for nothing.
pub(super) fn matched(content: &EntryContent) -> u32 {
    let EntryContent::Indicators(indicators) = content else { return 0 };
    let mut hash = XxHash64::with_seed(0);
    for indicator in indicators {
        (&indicator.prefix, &indicator.ports).hash(&mut hash);
    }
    let [a, b, c, d, ..] = hash.finish().to_le_bytes();
    u32::from_le_bytes([a, b, c, d]).max(1)
}

/// Drops removed ids beyond [`REMOVED_MAX`], those with the oldest versions first.
pub(super) fn drop_oldest_removed(ids: &mut Ids) {
    let gone = ids.values().filter(|slot| slot.count == 0);
    let mut versions: Vec<i64> = gone.map(|slot| slot.version).collect();
    if versions.len() <= REMOVED_MAX {
        return;
    }
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let oldest = versions.get(REMOVED_MAX).copied().unwrap_or(i64::MIN);
    ids.retain(|_, slot| slot.count > 0 || slot.version > oldest);
}

/// A collision harms only the feed that sends both ids, so the hash need not be cryptographic.
pub(crate) fn hash(id: &str) -> u128 {
    XxHash3_128::oneshot(id.as_bytes())
}

/// Returns the hash of a group; 0 for none.
pub(super) fn group(name: &str) -> u64 {
    if name.is_empty() { 0 } else { XxHash3_64::oneshot(name.as_bytes()).max(1) }
}
