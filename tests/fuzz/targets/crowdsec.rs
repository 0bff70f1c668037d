//! Fuzz target: reader of `CrowdSec` decision stream responses.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_fuzz::crowdsec(data));
