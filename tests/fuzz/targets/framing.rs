//! Fuzz target: frames of the spool and the history.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_fuzz::framing(data));
