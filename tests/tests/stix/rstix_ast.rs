//! Comparison with `rstix`: every pattern that it parses is read, and each address found is a
//! string of its tree.

use rstix::pattern::parse_ast;
use sensor_user::intel::read_pattern;

use super::patterns;

#[test]
fn every_pattern_that_rstix_parses_is_read_with_the_same_addresses() {
    let (mut parsed, mut found) = (0, 0);
    for pattern in patterns(4000) {
        for text in [&pattern.strict, &pattern.lenient] {
            let Ok(tree) = parse_ast(text) else { continue };
            parsed += 1;
            // The types of the tree are private.
            let tree = format!("{tree:?}");
            let own = read_pattern(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            for it in own.sufficient {
                found += 1;
                assert!(tree.contains(&format!("String({:?})", it.entity)), "{text}: {it:?}");
            }
        }
    }
    assert!(parsed > 7000 && found > 5000, "{parsed} patterns, {found} addresses");
}
