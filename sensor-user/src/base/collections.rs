//! Tables: those that hold at most so many entries, of which the least recently used leaves first,
//! and those that are quick.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::num::NonZeroUsize;

use foldhash::fast::RandomState;
use indexmap::IndexMap;
use lru::LruCache;

/// Maps and sets on the path of each connection. Their hash is seeded anew in each process, as std's
/// is, and takes a fraction of its time.
pub(crate) type FastMap<K, V> = HashMap<K, V, RandomState>;
/// See [`FastMap`].
pub(crate) type FastSet<K> = HashSet<K, RandomState>;
/// See [`FastMap`]; in the order of insertion.
pub(crate) type FastIndexMap<K, V> = IndexMap<K, V, RandomState>;

/// See [`FastMap`]; the least recently used leaves a full one.
pub(crate) type Table<K, V> = LruCache<K, V, RandomState>;

/// A table of at most `max` entries (at least 1) that takes memory as it fills. `LruCache::new`
/// takes it at once, and the hash spreads the first few entries over all of it.
pub(crate) fn table<K: Hash + Eq, V>(max: usize) -> Table<K, V> {
    let mut table = unbounded_table();
    table.resize(NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN));
    table
}

/// A table of which its owner lets entries go.
pub(crate) fn unbounded_table<K: Hash + Eq, V>() -> Table<K, V> {
    LruCache::unbounded_with_hasher(RandomState::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_leaves_a_full_table() {
        let mut table = table(2);
        assert_eq!((table.push(1, 'a'), table.push(2, 'b')), (None, None));
        table.get(&1);
        assert_eq!(table.push(3, 'c'), Some((2, 'b')));
        assert_eq!(table.cap().get(), 2);
        assert_eq!(super::table::<u8, u8>(0).cap().get(), 1);
    }
}
