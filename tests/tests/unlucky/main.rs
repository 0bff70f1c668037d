//! Unlucky suite: a host that is short of memory, or whose disk accepts no writes, and what other users and
//! programs can do to the agent. Needs root; run with `--test-threads=1`.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

/// Silent clients of the control socket.
mod clients;
mod disk;
mod harness;
mod memory;
mod memory_cgroup;
/// Links and pipes in the position of files.
mod planted;
