//! What of a new set is too strange to be believed: a feed that was cut, emptied or replaced.

/// Sets smaller than this may change as they like.
const SMALL: u32 = 10;
/// Growth by this factor at once is not believed.
const GROWTH: u32 = 100;

/// Why a set of `after` indicators must not follow one of `before` that would still be live.
pub(super) fn doubt(before: u32, after: u32) -> Option<String> {
    if before < SMALL {
        return None;
    }
    if after < before.div_ceil(2) {
        return Some(format!(
            "more than half is gone at once, {after} of {before} indicators left"
        ));
    }
    if after / before >= GROWTH {
        return Some(format!("a hundred times as many at once, {after} after {before} indicators"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::doubt;

    #[test]
    fn a_set_that_collapses_or_explodes_is_not_believed() {
        for (before, after, is_doubtful) in [
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
            assert_eq!(doubt(before, after).is_some(), is_doubtful, "{before} {after}");
        }
    }
}
