//! The contract between the kernel half and the agent: records on the ring, maps, offsets.
//!
//! `no_std` and no logic but layout. Every record is `repr(C)`, 8-byte aligned, in native byte
//! order, with explicit padding; it opens with a [`record::RecordHeader`]. The BPF programs write
//! these structs, the agent reads them with a cursor and never casts.
#![cfg_attr(target_arch = "bpf", no_std)]
#![warn(missing_docs)]

pub mod latency;
pub mod maps;
pub mod offsets;
pub mod record;
