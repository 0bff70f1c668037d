//! Fuzzes the reader of `queryIndicators` replies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_fuzz::sentinel_query(data));
