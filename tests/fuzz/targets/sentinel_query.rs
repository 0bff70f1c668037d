//! Fuzz target: reader of `queryIndicators` responses.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_fuzz::sentinel_query(data));
