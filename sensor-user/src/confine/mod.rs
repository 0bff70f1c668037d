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

mod agent;
mod calls;
mod capabilities;
mod files;
mod helper;
mod lists;
mod reader;

pub use agent::{ConfineError, Confined, confine_agent, written};
pub use helper::{Role, confine_helper};
pub use reader::{MEMORY_MAX, confine_reader};
