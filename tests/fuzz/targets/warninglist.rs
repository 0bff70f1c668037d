//! Fuzz target: reader of allowlist files.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_fuzz::warninglist(data));
