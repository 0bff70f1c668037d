//! What led to an error: `causes` one by one, and `chain` in a line, for the log or a status.

use std::error::Error;

/// An error and its causes in one line. Hostile text may be in it.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for cause in causes(error) {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    text
}

/// What led to an error, the innermost last; without itself.
pub fn causes(error: &dyn Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}
