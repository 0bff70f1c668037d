//! Fuzz target: reader of Microsoft Sentinel table rows.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_fuzz::rows(data));
