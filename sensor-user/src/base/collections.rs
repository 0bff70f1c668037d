//! Maps with a fast hash, and tables with a capacity that evict the least recently used entry.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::num::NonZeroUsize;

use foldhash::fast::RandomState;
use indexmap::IndexMap;
use lru::LruCache;

/// Map for the path of each connection. Like std's, its hash has a new seed in each process, but takes
/// a fraction of the time.
pub(crate) type FastMap<K, V> = HashMap<K, V, RandomState>;
/// Set with the hash of [`FastMap`].
pub(crate) type FastSet<K> = HashSet<K, RandomState>;
/// Map in the order of insertion, with the hash of [`FastMap`].
pub(crate) type FastIndexMap<K, V> = IndexMap<K, V, RandomState>;

/// LRU table with the hash of [`FastMap`]; a full one evicts the least recently used entry.
pub(crate) type Table<K, V> = LruCache<K, V, RandomState>;

/// Returns a table of at most `max` entries (at least 1) that allocates memory as it fills.
/// `LruCache::new` allocates at once, and the hash spreads the first few entries over all pages.
pub(crate) fn table<K: Hash + Eq, V>(max: usize) -> Table<K, V> {
    let mut table = unbounded_table();
    table.resize(NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN));
    table
}

/// Returns a table without a capacity, whose owner evicts entries.
pub(crate) fn unbounded_table<K: Hash + Eq, V>() -> Table<K, V> {
    LruCache::unbounded_with_hasher(RandomState::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_evicts_the_least_recently_used_entry() {
        let mut table = table(2);
        assert_eq!((table.push(1, 'a'), table.push(2, 'b')), (None, None));
        table.get(&1);
        assert_eq!(table.push(3, 'c'), Some((2, 'b')));
        assert_eq!(table.cap().get(), 2);
        assert_eq!(super::table::<u8, u8>(0).cap().get(), 1);
    }
}
