//! Fuzz target: reader of STIX bundles and object lists.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_fuzz::stix(data));
