//! Confine: a process gives up all that it does not need, once it has what it needs.
//!
//! Capabilities (`capabilities`), what it may write and execute (`files`, by Landlock), and which
//! system calls it may make (`calls`, by seccomp; `lists` has them). `agent` is for the agent
//! itself, after its probes are attached; `helper` for the processes of `helpers`; `reader` for
//! what reads a feed. ARCHITECTURE.md tabulates who may what.
//!
//! Invariants. There is no way back: nothing here can be undone by the process or by what it
//! starts. All of it must be done on the only thread, since threads inherit it when they start.
//! A kernel that lacks a part gives less of it, which is always said.

pub mod capabilities;
pub mod feed_parser;
pub mod landlock;
pub mod seccomp;
pub mod syscalls;
pub mod worker;

pub use feed_parser::{MEMORY_MAX, confine_reader};
pub use worker::{Role, confine_helper};
