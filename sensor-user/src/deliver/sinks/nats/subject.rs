//! Subjects: `PREFIX.alerts.SITE.HOST`, `PREFIX.rows.…` and `PREFIX.health.…`.

use crate::deliver::item::Item;

/// The subject of `item`.
pub(super) fn of(prefix: &str, site: &str, item: &Item) -> String {
    let kind = match item {
        Item::Alert(_) => "alerts",
        Item::Row(_) => "rows",
        Item::AgentEvent(_) => "health",
    };
    format!("{prefix}.{kind}.{}.{}", token(site), token(item.computer()))
}

/// One part of a subject: what is neither a letter, a digit, `-` nor `_` becomes `_`, dots too.
pub(super) fn token(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let token: String = text.chars().take(128).map(plain).collect();
    if token.is_empty() { "unknown".to_owned() } else { token }
}

#[cfg(test)]
mod tests {
    use super::token;

    #[test]
    fn a_token_has_nothing_that_a_subject_obeys() {
        for (text, expected) in [
            ("web01.example.net", "web01_example_net"),
            ("a b*c>d\n", "a_b_c_d_"),
            ("größe", "gr__e"),
            ("", "unknown"),
        ] {
            assert_eq!(token(text), expected, "{text:?}");
        }
        assert_eq!(token(&"x".repeat(1000)).len(), 128);
    }
}
