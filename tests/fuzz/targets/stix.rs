//! Fuzz target: STIX objects. See `sensor_tests::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_tests::fuzz::stix(data));
