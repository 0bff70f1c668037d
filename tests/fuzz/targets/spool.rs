//! Fuzz target: recovery of the spool.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sensor_fuzz::spool(data));
