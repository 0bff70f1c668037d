//! `Heard`: the last that the other side, or the client that speaks to it, said beside its answers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::escape::escaped;

/// Characters of it that are kept.
const MOST_KEPT: usize = 300;

/// What was said last, escaped, and what to do about it.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<Option<String>>);

impl Heard {
    /// Keeps what was `said`, with a `hint` of ours behind it.
    pub(crate) fn note(&self, said: &str, hint: &str) {
        *self.lock() = Some(format!("{}{hint}", escaped(said, MOST_KEPT)));
    }

    /// What was said last.
    pub(crate) fn last(&self) -> Option<String> {
        self.lock().clone()
    }

    /// Forgets what was said before.
    pub(crate) fn clear(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
