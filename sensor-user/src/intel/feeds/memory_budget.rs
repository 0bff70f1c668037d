//! Memory of all sets together: the agent keeps the lookup tables of every feed.

/// Bytes of an indicator in the tables, about: a host takes 12 (IPv4) or 36 (IPv6), a network some more.
const INDICATOR_BYTES: u64 = 24;
/// Part of the memory limit that the tables may take. The rest is for the agent's other tables, for the old
/// set beside a new one, and for a parser.
const SHARE: u64 = 4;

/// The indicators of all feeds would take too much memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "too large for this host: {new} indicators, with {others} of other feeds, would take {} MiB of memory, \
     and at most {} MiB are for indicators; raise MemoryMax= of the unit, or leave out feeds",
    .needed >> 20, .max >> 20
)]
pub(super) struct OverBudget {
    new: u64,
    others: u64,
    needed: u64,
    max: u64,
}

/// Checks that a set of `new` indicators has room beside the `others` of other feeds. `limit` is the memory of
/// the agent, bytes.
pub(super) fn check_room(new: u64, others: u64, limit: u64) -> Result<(), OverBudget> {
    let needed = new.saturating_add(others).saturating_mul(INDICATOR_BYTES);
    let max = limit / SHARE;
    if needed > max { Err(OverBudget { new, others, needed, max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_room_beside_the_others_or_a_reason() {
        let check = |new: u64, limit: u64| check_room(new, 20, limit);
        assert_eq!(check(1_000_000, 1 << 30), Ok(()));
        assert_eq!(check(0, 20 * 24 * 4), Ok(()));
        check(1, 20 * 24 * 4).unwrap_err();
        assert_eq!(
            check(12_000_000, 1 << 30).unwrap_err().to_string(),
            "too large for this host: 12000000 indicators, with 20 of other feeds, would take 274 MiB of \
             memory, and at most 256 MiB are for indicators; raise MemoryMax= of the unit, or leave out feeds"
        );
        assert_eq!(check(u64::MAX, u64::MAX).unwrap_err().needed, u64::MAX);
    }
}
