//! Bounded tables: at most so many entries, the least recently used leaves first.

use std::hash::Hash;
use std::num::NonZeroUsize;

use lru::LruCache;

/// A table of at most `max` entries (at least 1) that takes memory as it fills. `LruCache::new`
/// takes it at once, and the hash spreads the first few entries over all of it.
pub(crate) fn table<K: Hash + Eq, V>(max: usize) -> LruCache<K, V> {
    let mut table = LruCache::unbounded();
    table.resize(NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN));
    table
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
