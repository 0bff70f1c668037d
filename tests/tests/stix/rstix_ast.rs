//! Beside `rstix`: whatever it parses we read, and what we find is among the texts of its tree.

use rstix::pattern::parse_ast;
use sensor_user::intel::read_pattern;

use super::patterns;

#[test]
fn whatever_rstix_parses_is_read_and_its_texts_hold_every_address_found() {
    let (mut parsed, mut found) = (0, 0);
    for pattern in patterns(4000) {
        for text in [&pattern.strict, &pattern.lenient] {
            let Ok(tree) = parse_ast(text) else { continue };
            parsed += 1;
            // The parts of the tree have no public names.
            let tree = format!("{tree:?}");
            let ours = read_pattern(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
            for it in ours {
                found += 1;
                assert!(tree.contains(&format!("String({:?})", it.entity)), "{text}: {it:?}");
            }
        }
    }
    assert!(parsed > 7000 && found > 5000, "{parsed} patterns, {found} addresses");
}
