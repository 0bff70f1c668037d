//! Dedup stage: `Hit` to `Alert`. Repeats inside a window are counted, not raised.

mod alert;
mod correct;
mod retro;
mod sighting;
mod state;
mod window;

pub use alert::{Alert, AlertKind, Entity, RULE_ID, RULE_NAME, split_computer};
pub use sighting::Sighting;
pub use state::{DedupState, StateError};
pub use window::Dedup;
