//! `Process`: facts about the process of a connection.

use super::proc_fs::round_down_to_tick;

/// Facts about one process image; each exec starts a new one. Text is raw: code that prints it must
/// escape it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    /// Process id (the kernel's tgid); `None` if unknown.
    pub pid: Option<u32>,
    /// Start of the process, ns since boot (`task_struct.start_boottime`); 0 if unknown.
    pub start_boot_ns: u64,
    /// Process id of the parent at fork; `None` if unknown.
    pub parent_pid: Option<u32>,
    /// Name of the parent when this process started; "" if unknown.
    pub parent_name: String,
    /// File name of the executable (`ProcessName`); the kernel's `comm` if the path is unknown.
    pub name: String,
    /// Absolute path of the executable; "" if unknown.
    pub path: String,
    /// Arguments joined by spaces, truncated at a limit; "" if unknown.
    pub command_line: String,
    /// Real user id; `None` if unknown.
    pub uid: Option<u32>,
    /// User name, or the user id as text if it has no name; "" if unknown.
    pub user_name: String,
    /// cgroup v2 id; 0 if unknown.
    pub cgroup_id: u64,
    /// Container id; "" outside of containers, or if unknown.
    pub container_id: String,
}

impl Process {
    /// True if both are images of the same process.
    pub fn is(&self, other: &Self) -> bool {
        self.pid == other.pid && is_same_start(self.start_boot_ns, other.start_boot_ns)
    }

    /// Key by which processes are grouped: the path of the executable, or its name if the path is
    /// unknown.
    pub fn executable(&self) -> &str {
        if self.path.is_empty() { &self.name } else { &self.path }
    }
}

/// True if two start times can be those of one process. `reported` may be from /proc, which rounds
/// down to a clock tick; 0 is unknown, and equals any time.
pub(super) const fn is_same_start(known: u64, reported: u64) -> bool {
    known == 0 || reported == 0 || known == reported || known == round_down_to_tick(reported)
}
