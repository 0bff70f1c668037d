//! Fuzzes the reader of `CrowdSec` replies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_fuzz::crowdsec(data));
