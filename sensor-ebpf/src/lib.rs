//! Contract between the BPF programs and the agent: ring records, maps and structure offsets.
//!
//! `no_std`, and layout only. Every record is `repr(C)`, 8-byte aligned, in native byte order, with
//! explicit padding, and begins with a [`record::RecordHeader`]. The BPF programs write these
//! structs. The agent reads them with a cursor and never casts, because an unknown value in a cast
//! enum is undefined behaviour.
#![cfg_attr(target_arch = "bpf", no_std)]
#![warn(missing_docs)]

pub mod latency;
pub mod maps;
pub mod offsets;
pub mod record;
