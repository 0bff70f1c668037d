//! Fuzz target: indicator sets on disk.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_fuzz::store(data));
