//! Fuzz target: STIX patterns. See `sensor_fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_fuzz::pattern(data));
