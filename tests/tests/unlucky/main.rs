//! Unlucky suite: a host that is short of memory, or whose disk accepts no writes. Needs root; run with `--test-threads=1`.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

mod disk;
mod harness;
mod memory;
mod memory_cgroup;
