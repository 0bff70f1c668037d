//! Sandbox: a process drops the privileges that it no longer needs.
//!
//! Capabilities (`capabilities`), files that may be written and executed (`landlock`), and permitted
//! system calls (`seccomp`, with the lists in `syscalls`). `worker` confines the workers, `feed_parser`
//! the process that parses a feed, and `agent/confinement.rs` the agent itself, after its probes are
//! attached. ARCHITECTURE.md tabulates the privileges of each process.
//!
//! Invariants. Confinement is final: neither the process nor its children can undo it. It must be
//! applied while the process has one thread, since threads inherit it when they start. On a kernel
//! that lacks a mechanism the process runs without that one, which is always logged.

pub mod capabilities;
pub mod feed_parser;
pub mod landlock;
pub mod seccomp;
pub mod syscalls;
pub mod worker;

pub use feed_parser::{confine_feed_parser, feed_parser_memory};
pub use worker::confine_worker;
