//! The sources of an error: `causes` iterates over them, `chain` joins them in one line.

use std::error::Error;

/// Returns an error and its causes in one line. The text may be hostile.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for cause in causes(error) {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    text
}

/// Returns the causes of an error without itself, the root cause last.
pub fn causes(error: &dyn Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}
