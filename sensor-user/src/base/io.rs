//! `read_some`: a read that is repeated after a signal.

use std::io::{ErrorKind, Read, Result};

/// Reads into `buffer`, again if a signal interrupts the call. Returns the number of bytes; 0 at the end
/// of the input.
pub(crate) fn read_some(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
