//! Configuration of feeds.

pub mod query;
