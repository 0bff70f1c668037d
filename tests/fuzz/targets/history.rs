//! Fuzz target: history files of an earlier run.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_fuzz::history(data));
