//! Fuzz target: STIX objects. See `sensor_fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_fuzz::stix(data));
