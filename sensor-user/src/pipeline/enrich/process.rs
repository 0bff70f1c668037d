//! `Process`: what is known of the process behind a connection.

/// Facts of one process image (an exec begins a new one). Text is raw; whoever prints escapes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    /// Process id (the kernel's tgid); `None` when unknown.
    pub pid: Option<u32>,
    /// Start of the process, ns since boot (`task_struct.start_boottime`); 0 when unknown.
    pub start_boot_ns: u64,
    /// Id of the parent at fork; `None` when unknown.
    pub parent_pid: Option<u32>,
    /// Name of the parent at the time when this one began; "" when unknown.
    pub parent_name: String,
    /// File name of the executable, without folders (`ProcessName`); the kernel's `comm` where no
    /// path is known.
    pub name: String,
    /// Absolute path of the executable; "" when unknown.
    pub path: String,
    /// Arguments joined by spaces, bounded, cut at the end; "" when unknown.
    pub command_line: String,
    /// Real user id; `None` when unknown.
    pub uid: Option<u32>,
    /// Name of that user, or the number as text where it has none; "" when unknown.
    pub user_name: String,
    /// cgroup v2 id; 0 when unknown.
    pub cgroup_id: u64,
    /// Container id; "" outside containers or when unknown.
    pub container_id: String,
}

impl Process {
    /// Whether both are images of one process.
    pub fn is(&self, other: &Self) -> bool {
        self.pid == other.pid && same_start(self.start_boot_ns, other.start_boot_ns)
    }

    /// What groups processes: the path of the executable, or its name where no path is known.
    pub fn executable(&self) -> &str {
        if self.path.is_empty() { &self.name } else { &self.path }
    }
}

/// Whether a process that is known to have begun at `known` is the one that is told to have begun
/// at `told`. One is the kernel's ns, the other may be /proc's, cut to 10 ms; 0 is unknown and fits
/// any.
pub(super) const fn same_start(known: u64, told: u64) -> bool {
    const TICK_NS: u64 = 10_000_000;
    known == 0 || told == 0 || known == told || known == told - told % TICK_NS
}
