//! Fuzz target: readers of lists.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_fuzz::list(data));
