//! `ProcStat`: a process's line in `/proc/PID/stat`.

use std::path::Path;

/// Nanoseconds per clock tick in /proc (`USER_HZ`, 100 on all supported architectures).
pub const NS_PER_TICK: u64 = 1_000_000_000 / 100;

/// Fields of `/proc/PID/stat`
/// ([proc_pid_stat(5)](https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcStat {
    /// Name of the process; may contain any bytes, which are hostile.
    pub comm: String,
    /// Process id of the parent.
    pub parent_pid: u32,
    /// CPU time in user mode, clock ticks.
    pub user_ticks: u64,
    /// CPU time in kernel mode, clock ticks.
    pub system_ticks: u64,
    /// Number of threads.
    pub threads: u64,
    /// Start time, clock ticks since boot.
    pub start_ticks: u64,
}

impl ProcStat {
    /// Reads the `stat` file in the directory of a process; `None` if the process has ended, or is
    /// invisible.
    pub fn read(process: &Path) -> Option<Self> {
        let stat = std::fs::read(process.join("stat")).ok()?;
        Self::parse(&String::from_utf8_lossy(&stat))
    }

    /// Start time, ns since boot, rounded down to a tick.
    pub const fn start_boot_ns(&self) -> u64 {
        self.start_ticks.saturating_mul(NS_PER_TICK)
    }

    /// Parses `pid (comm) state ppid …`; comm may contain `)` and spaces.
    fn parse(stat: &str) -> Option<Self> {
        let (head, tail) = stat.rsplit_once(')')?;
        let (_pid, comm) = head.split_once('(')?;
        let mut fields = tail.split_ascii_whitespace();
        let mut after = |skipped: usize| fields.nth(skipped)?.parse::<u64>().ok();
        // The man page counts fields from 1, and the state is field 3: 4, 14, 15, 20 and 22.
        let (parent, user_ticks, system_ticks) = (after(1)?, after(9)?, after(0)?);
        let (threads, start_ticks) = (after(4)?, after(1)?);
        Some(Self {
            comm: comm.to_owned(),
            parent_pid: u32::try_from(parent).ok()?,
            user_ticks,
            system_ticks,
            threads,
            start_ticks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) 1 2) S 5 1 1 0 -1 0 0 0 0 0 8 6 0 0 20 0 9 0 4711 0 0";
        let expected = ProcStat {
            comm: "a) b (c) 1 2".to_owned(),
            parent_pid: 5,
            user_ticks: 8,
            system_ticks: 6,
            threads: 9,
            start_ticks: 4711,
        };
        assert_eq!(ProcStat::parse(stat), Some(expected));
        assert_eq!(ProcStat::parse(""), None);
        assert_eq!(ProcStat::parse("7 (a) S 5"), None);
    }
}
