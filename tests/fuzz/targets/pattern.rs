//! Fuzz target: reader of STIX patterns.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_fuzz::pattern(data));
