//! `LastError`: the last error that a server or its client reported outside of a response.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::escape::escaped;

/// Maximum length of an error, characters.
const TEXT_MAX: usize = 300;

/// The last error, escaped, with advice for the operator.
#[derive(Debug, Default)]
pub(super) struct LastError(Mutex<Option<String>>);

impl LastError {
    /// Replaces the last error by `error` with the suffix `hint`.
    pub(super) fn set(&self, error: &str, hint: &str) {
        *self.lock() = Some(format!("{}{hint}", escaped(error, TEXT_MAX)));
    }

    pub(super) fn get(&self) -> Option<String> {
        self.lock().clone()
    }

    pub(super) fn clear(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
