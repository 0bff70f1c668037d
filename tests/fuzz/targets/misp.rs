//! Fuzz target: reader of MISP responses and events.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_fuzz::misp(data));
