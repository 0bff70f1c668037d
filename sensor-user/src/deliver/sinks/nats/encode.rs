//! Messages and their subjects: `PREFIX.alerts.SITE.HOST`, `PREFIX.rows.…` and `PREFIX.health.…`.

use async_nats::jetstream::message::PublishMessage;

use super::NatsConfig;
use crate::deliver::batch::BatchItem;
use crate::deliver::item::Item;

pub(super) fn message(item: &BatchItem) -> PublishMessage {
    PublishMessage::build().payload(item.line.clone().into()).message_id(&item.id)
}

/// Second parts of the subjects.
const ALERTS: &str = "alerts";
const ROWS: &str = "rows";
const HEALTH: &str = "health";

/// Subjects of a stream that stores every message.
pub(super) fn stream_subjects(prefix: &str) -> Vec<String> {
    [ALERTS, ROWS, HEALTH].map(|kind| format!("{prefix}.{kind}.>")).to_vec()
}

pub(super) fn subject(config: &NatsConfig, item: &Item) -> String {
    let kind = match item {
        Item::Alert(_) => ALERTS,
        Item::Row(_) => ROWS,
        Item::AgentEvent(_) => HEALTH,
    };
    format!("{}.{kind}.{}.{}", config.prefix, token(&config.site), token(item.computer()))
}

/// One part of a subject. Characters other than letters, digits and `-`, dots too, become `_`.
fn token(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let token: String = text.chars().take(128).map(plain).collect();
    if token.is_empty() { "unknown".to_owned() } else { token }
}

#[cfg(test)]
mod tests {
    use super::token;

    #[test]
    fn a_token_has_no_special_characters_of_subjects() {
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
