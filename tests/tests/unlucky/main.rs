//! Unlucky suite: a host that is short of memory. Needs root; run with `--test-threads=1`.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

mod memory;
mod memory_cgroup;
