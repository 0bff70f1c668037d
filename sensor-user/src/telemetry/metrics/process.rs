//! `ProcessVitals`: what this process takes of the host, as /proc tells it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::unistd::{SysconfVar, sysconf};

use crate::privsep::{WORKER_COMMAND, WorkerKind};

/// What a process takes of the host. `None` is what could not be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProcessVitals {
    /// Time on a CPU, seconds.
    pub cpu_seconds: Option<f64>,
    /// The same of children that have ended.
    pub children_cpu_seconds: Option<f64>,
    /// Bytes in memory.
    pub resident_bytes: Option<u64>,
    /// Bytes of address space.
    pub virtual_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// How many there may be.
    pub max_fds: Option<u64>,
    /// When it began, seconds since 1970.
    pub start_seconds: Option<f64>,
    /// Its workers, as far as the kernel lists children (`CONFIG_PROC_CHILDREN`).
    pub workers: Vec<WorkerVitals>,
}

/// Resource usage of a worker process.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerVitals {
    /// Kind of the worker.
    pub kind: WorkerKind,
    /// Time on a CPU, seconds.
    pub cpu_seconds: f64,
    /// Bytes in memory.
    pub resident_bytes: u64,
}

impl ProcessVitals {
    /// Of this process.
    pub fn read() -> Self {
        Self::read_at(Path::new("/proc"))
    }

    fn read_at(proc_root: &Path) -> Self {
        let own = proc_root.join("self");
        let (virtual_bytes, resident_bytes) = memory(&own).unzip();
        let stat = fs::read_to_string(own.join("stat")).unwrap_or_default();
        let usage = |who| {
            let usage = getrusage(who).ok()?;
            let micros =
                usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
            u64::try_from(micros).ok().map(|it| Duration::from_micros(it).as_secs_f64())
        };
        // One of them is this very listing.
        let open = fs::read_dir(own.join("fd")).ok().map(|list| list.count() as u64);
        Self {
            cpu_seconds: usage(UsageWho::RUSAGE_SELF),
            children_cpu_seconds: usage(UsageWho::RUSAGE_CHILDREN),
            resident_bytes,
            virtual_bytes,
            threads: field(&stat, THREADS),
            open_fds: open.map(|count| count.saturating_sub(1)),
            max_fds: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
            start_seconds: start(&stat, proc_root),
            workers: workers(proc_root),
        }
    }
}

/// Children of this process and theirs, of those that are workers.
fn workers(proc_root: &Path) -> Vec<WorkerVitals> {
    let children = |process: &str| {
        let tasks = fs::read_dir(proc_root.join(process).join("task")).into_iter().flatten();
        let lists = tasks
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        lists.flat_map(|list| words(&list)).collect::<Vec<String>>()
    };
    let first = children("self");
    let second: Vec<String> = first.iter().flat_map(|child| children(child)).collect();
    let all = first.into_iter().chain(second);
    all.filter_map(|process| worker(&proc_root.join(process))).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

fn worker(process: &Path) -> Option<WorkerVitals> {
    let command = fs::read(process.join("cmdline")).ok()?;
    let mut arguments =
        command.split(|byte| *byte == 0).skip_while(|it| *it != WORKER_COMMAND.as_bytes());
    let name = arguments.nth(1)?;
    let kind = WorkerKind::ALL.into_iter().find(|kind| kind.name().as_bytes() == name)?;
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let on_cpu = of_ticks(field(&stat, USER_TICKS)? + field(&stat, SYSTEM_TICKS)?)?;
    let (_virtual, resident_bytes) = memory(process)?;
    Some(WorkerVitals { kind, cpu_seconds: on_cpu.as_secs_f64(), resident_bytes })
}

/// Fields of `/proc/PID/stat` behind the name, counted from 0 (proc(5) counts from 3).
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const THREADS: usize = 17;
const START_TICKS: usize = 19;

/// A field behind the name, which may hold anything.
fn field(stat: &str, index: usize) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_ascii_whitespace().nth(index)?.parse().ok()
}

/// Bytes of address space, and of them in memory.
fn memory(process: &Path) -> Option<(u64, u64)> {
    let text = fs::read_to_string(process.join("statm")).ok()?;
    let page = positive(SysconfVar::PAGE_SIZE)?;
    let mut sizes = text.split(' ').map(|pages| pages.parse::<u64>().ok());
    let mut size = || Some(sizes.next()??.saturating_mul(page));
    Some((size()?, size()?))
}

fn of_ticks(ticks: u64) -> Option<Duration> {
    Some(Duration::from_millis(ticks.saturating_mul(1000) / positive(SysconfVar::CLK_TCK)?))
}

fn start(stat: &str, proc_root: &Path) -> Option<f64> {
    let after = of_ticks(field(stat, START_TICKS)?)?;
    let boot = fs::read_to_string(proc_root.join("stat")).ok()?;
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
    let start = Duration::from_secs(boot.trim().parse().ok()?).checked_add(after)?;
    Some(start.as_secs_f64())
}

fn positive(what: SysconfVar) -> Option<u64> {
    let value = sysconf(what).ok().flatten()?;
    u64::try_from(value).ok().filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Clock as _, SystemClock};

    #[test]
    fn this_process_is_read_and_a_hostile_name_shifts_nothing() {
        let vitals = ProcessVitals::read();
        assert!(vitals.resident_bytes.unwrap() > 1 << 20, "{vitals:?}");
        assert!(vitals.virtual_bytes.unwrap() >= vitals.resident_bytes.unwrap(), "{vitals:?}");
        assert!(vitals.threads.unwrap() >= 1 && vitals.open_fds.unwrap() >= 3, "{vitals:?}");
        let now = SystemClock.now().as_duration().as_secs_f64();
        assert!((now - 86_400.0..=now + 2.0).contains(&vitals.start_seconds.unwrap()));
        let stat = "7 (a) b (c) 1 2) S 1 1 1 0 -1 0 0 0 0 0 5 6 0 0 20 0 9 0 1234 0 0";
        assert_eq!((field(stat, THREADS), field(stat, START_TICKS)), (Some(9), Some(1234)));
        assert_eq!((field(stat, USER_TICKS), field(stat, SYSTEM_TICKS)), (Some(5), Some(6)));
        assert_eq!(field("", 0), None);
    }
}
