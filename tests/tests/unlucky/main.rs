//! Unlucky suite: a host that is short of memory. Needs root; run with `--test-threads=1`.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

/// Control group with a limit of memory.
mod memory_cgroup;

/// Feeds that are too large for the host.
mod memory;
