//! `ProcessMetrics`: resource usage of this process and its workers, from /proc.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::unistd::{SysconfVar, sysconf};

use crate::base::proc_stat::{NS_PER_TICK, ProcStat};
use crate::privsep::{WORKER_COMMAND, WorkerKind};

/// Resource usage of the agent's process. A value that could not be read is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ProcessMetrics {
    pub(super) cpu_seconds: Option<f64>,
    /// CPU time of exited children.
    pub(super) children_cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
    /// Start time, seconds since 1970.
    pub(super) start_seconds: Option<f64>,
    /// Worker processes; empty without `CONFIG_PROC_CHILDREN`, which lists children in /proc.
    pub(super) workers: Vec<WorkerMetrics>,
}

/// Resource usage of a worker process.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WorkerMetrics {
    pub(super) kind: WorkerKind,
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
}

impl ProcessMetrics {
    /// Reads the usage of this process.
    pub(super) fn read() -> Self {
        Self::read_at(Path::new("/proc"))
    }

    fn read_at(proc_root: &Path) -> Self {
        let own = proc_root.join("self");
        let (virtual_bytes, resident_bytes) = memory(&own).unzip();
        let stat = ProcStat::read(&own);
        let usage = |who| {
            let usage = getrusage(who).ok()?;
            let micros =
                usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
            u64::try_from(micros).ok().map(|it| Duration::from_micros(it).as_secs_f64())
        };
        // One of them is the descriptor of this directory listing.
        let open = fs::read_dir(own.join("fd")).ok().map(|list| list.count() as u64);
        Self {
            cpu_seconds: usage(UsageWho::RUSAGE_SELF),
            children_cpu_seconds: usage(UsageWho::RUSAGE_CHILDREN),
            resident_bytes,
            virtual_bytes,
            threads: stat.as_ref().map(|stat| stat.threads),
            open_fds: open.map(|count| count.saturating_sub(1)),
            max_fds: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
            start_seconds: stat.and_then(|stat| start(&stat, proc_root)),
            workers: workers(proc_root),
        }
    }
}

/// Workers among the children and grandchildren of this process.
fn workers(proc_root: &Path) -> Vec<WorkerMetrics> {
    let children = |process: &str| {
        let tasks = fs::read_dir(proc_root.join(process).join("task")).into_iter().flatten();
        let lists = tasks
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        lists.flat_map(|list| words(&list)).collect::<Vec<String>>()
    };
    let own = children("self");
    let grandchildren: Vec<String> = own.iter().flat_map(|child| children(child)).collect();
    let all = own.into_iter().chain(grandchildren);
    all.filter_map(|process| worker(&proc_root.join(process))).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

fn worker(process: &Path) -> Option<WorkerMetrics> {
    let command = fs::read(process.join("cmdline")).ok()?;
    let mut arguments =
        command.split(|byte| *byte == 0).skip_while(|it| *it != WORKER_COMMAND.as_bytes());
    let name = arguments.nth(1)?;
    let kind = WorkerKind::ALL.into_iter().find(|kind| kind.name().as_bytes() == name)?;
    let stat = ProcStat::read(process)?;
    let cpu_ticks = stat.user_ticks.saturating_add(stat.system_ticks);
    let cpu_time = Duration::from_nanos(cpu_ticks.saturating_mul(NS_PER_TICK));
    let (_virtual, resident_bytes) = memory(process)?;
    Some(WorkerMetrics { kind, cpu_seconds: cpu_time.as_secs_f64(), resident_bytes })
}

/// Returns the size of the address space, and the resident part of it, in bytes.
fn memory(process: &Path) -> Option<(u64, u64)> {
    let text = fs::read_to_string(process.join("statm")).ok()?;
    let page = u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok().flatten()?).ok()?;
    let mut sizes = text.split(' ').map(|pages| pages.parse::<u64>().ok());
    let mut size = || Some(sizes.next()??.saturating_mul(page));
    Some((size()?, size()?))
}

fn start(stat: &ProcStat, proc_root: &Path) -> Option<f64> {
    let after = Duration::from_nanos(stat.start_boot_ns());
    let boot = fs::read_to_string(proc_root.join("stat")).ok()?;
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
    let start = Duration::from_secs(boot.trim().parse().ok()?).checked_add(after)?;
    Some(start.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Clock as _, SystemClock};

    #[test]
    fn this_process_is_read() {
        let metrics = ProcessMetrics::read();
        assert!(metrics.resident_bytes.unwrap() > 1 << 20, "{metrics:?}");
        assert!(metrics.virtual_bytes.unwrap() >= metrics.resident_bytes.unwrap(), "{metrics:?}");
        assert!(metrics.threads.unwrap() >= 1 && metrics.open_fds.unwrap() >= 3, "{metrics:?}");
        let now = SystemClock.now().as_duration().as_secs_f64();
        assert!((now - 86_400.0..=now + 2.0).contains(&metrics.start_seconds.unwrap()));
    }
}
