//! Fuzzes what reads the history again.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_fuzz::history(data));
