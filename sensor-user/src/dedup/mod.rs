//! Dedup: Hit to Alert.
mod alert;
pub use alert::{Alert, AlertKind, Entity, RULE_ID, RULE_NAME, split_computer};
