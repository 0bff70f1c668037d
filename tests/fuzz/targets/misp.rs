//! Fuzzes the reader of MISP documents.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_fuzz::misp(data));
