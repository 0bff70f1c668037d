//! Quarantine of implausible sets: a feed may have been truncated, emptied or replaced.

/// Size below which any change of a set is plausible.
const CHECKED_MIN: u32 = 10;
/// Factor from which growth in one pull is implausible.
const IMPLAUSIBLE_GROWTH: u32 = 100;

/// Reason why a set of `after` indicators is implausible after one with `before` valid indicators.
pub(super) fn reason(before: u32, after: u32) -> Option<String> {
    if before < CHECKED_MIN {
        return None;
    }
    if after < before.div_ceil(2) {
        return Some(format!(
            "more than half is gone at once, {after} of {before} indicators left"
        ));
    }
    if after / before >= IMPLAUSIBLE_GROWTH {
        return Some(format!("a hundred times as many at once, {after} after {before} indicators"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn a_set_that_shrinks_or_grows_too_much_is_quarantined() {
        for (before, after, is_implausible) in [
            (0, 1_000_000, false),
            (9, 0, false),
            (10, 5, false),
            (10, 4, true),
            (11, 5, true),
            (10, 0, true),
            (1000, 400, true),
            (1000, 500, false),
            (10, 999, false),
            (10, 1000, true),
            (u32::MAX, u32::MAX, false),
        ] {
            assert_eq!(reason(before, after).is_some(), is_implausible, "{before} {after}");
        }
    }
}
