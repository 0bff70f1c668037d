//! `chain`: an error with all that led to it, for a log line or a status.

use std::error::Error;

/// An error and its causes in one line. Hostile text may be in it.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
