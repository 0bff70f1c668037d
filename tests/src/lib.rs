//! Harness of the suites: what they share, and nothing of what they test.

pub mod records;
pub mod rule_model;
