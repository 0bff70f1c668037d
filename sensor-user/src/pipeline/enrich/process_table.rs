//! `ProcessTable`: facts about each process (path, command line, parent), by process id and start time.
//!
//! At most `max` processes are kept; the least recently used is evicted first (counted). An exited
//! process is kept for [`LINGER_NS`], since its sockets are closed after its exit record.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cgroups::{Cgroups, container_of};
use super::proc_fs;
use super::proc_fs::{ProcFacts, ProcFolder, ProcSource, round_down_to_tick};
use super::process::{Process, is_same_start};
use super::socket_owners::SocketOwner;
use super::users::Users;
use crate::base::collections;
use crate::base::collections::Table;
use crate::base::counters::Stats;
use crate::pipeline::decode::{CgroupMkdir, Exec, Exit, Fork, Task};

/// Time for which an exited process is kept, ns.
const LINGER_NS: u64 = 10_000_000_000;

/// Processes of this host, from records and from /proc.
#[derive(Debug)]
pub struct ProcessTable {
    proc_root: PathBuf,
    /// Source of processes that are in no record.
    source: Box<dyn ProcSource>,
    processes: Table<u32, Arc<Process>>,
    exited: VecDeque<ExitedProcess>,
    users: Users,
    cgroups: Cgroups,
    stats: Arc<Stats>,
}

#[derive(Debug)]
struct ExitedProcess {
    exit_boot_ns: u64,
    tgid: u32,
    start_boot_ns: u64,
}

impl ProcessTable {
    /// An empty table of at most `max` processes (at least 1).
    pub fn new(proc_root: &Path, passwd: &Path, max: usize, stats: Arc<Stats>) -> Self {
        Self {
            proc_root: proc_root.to_owned(),
            source: Box::new(ProcFolder::new(proc_root)),
            processes: collections::table(max),
            exited: VecDeque::new(),
            users: Users::new(passwd),
            cgroups: Cgroups::new(Arc::clone(&stats)),
            stats,
        }
    }

    /// Sets the source of processes that are in no record; before, it is /proc.
    pub fn set_proc_source(&mut self, source: Box<dyn ProcSource>) {
        self.source = source;
    }

    /// Number of processes, and its maximum.
    pub fn occupancy(&self) -> (usize, usize) {
        (self.processes.len(), self.processes.cap().get())
    }

    /// Reads every running process. Returns their number.
    pub fn scan(&mut self) -> usize {
        self.cgroups.scan(&self.proc_root.join("mounts"));
        let mut count = 0;
        for pid in proc_fs::running(&self.proc_root) {
            if let Some(facts) = ProcFacts::read(&self.proc_root, pid) {
                self.insert_proc_facts(pid, facts, 0);
                count += 1;
            }
        }
        // A parent may have been read after its child.
        let named: Vec<(u32, String)> = self
            .processes
            .iter()
            .filter(|(_, process)| process.parent_name.is_empty())
            .filter_map(|(pid, process)| Some((*pid, self.name(process.parent_pid?)?)))
            .collect();
        for (pid, name) in named {
            if let Some(process) = self.processes.peek_mut(&pid) {
                Arc::make_mut(process).parent_name = name;
            }
        }
        count
    }

    /// Replaces the image of a process: new path, name and arguments; the parent stays.
    pub fn exec(&mut self, exec: Exec) -> Arc<Process> {
        let task = &exec.task;
        let parent_name = self.name(task.parent_tgid).filter(|name| !name.is_empty());
        let known = self.known(task).map(|process| process.parent_name.clone());
        let process = Process {
            pid: Some(task.tgid),
            start_boot_ns: task.start_boot_ns,
            parent_pid: (task.parent_tgid != 0).then_some(task.parent_tgid),
            parent_name: parent_name.or(known).unwrap_or_default(),
            name: file_name(&exec.path, &task.comm),
            path: exec.path,
            command_line: exec.command_line,
            uid: Some(task.uid),
            user_name: self.users.name(task.uid),
            cgroup_id: task.cgroup_id,
            container_id: self.cgroups.container(task.cgroup_id).to_owned(),
        };
        self.insert(exec.task.tgid, process)
    }

    /// Adds a new cgroup, whose path may name a container.
    pub fn add_cgroup(&mut self, cgroup: &CgroupMkdir) {
        self.cgroups.add(cgroup);
    }

    /// Adds a new process, which has the image of its parent.
    pub fn fork(&mut self, fork: &Fork) {
        let parent = self.of_task(&fork.parent);
        let child = Process {
            pid: Some(fork.child_tgid),
            start_boot_ns: fork.child_start_boot_ns,
            parent_pid: Some(fork.parent.tgid),
            parent_name: parent.name.clone(),
            ..Process::clone(&parent)
        };
        self.insert(fork.child_tgid, child);
    }

    /// Marks a process as exited, and removes those that exited long before.
    pub fn exit(&mut self, exit: &Exit) {
        self.exited.push_back(ExitedProcess {
            exit_boot_ns: exit.boot_ns,
            tgid: exit.tgid,
            start_boot_ns: exit.start_boot_ns,
        });
        let before = exit.boot_ns.saturating_sub(LINGER_NS);
        let is_full = self.exited.len() > self.processes.cap().get();
        while self.exited.front().is_some_and(|first| is_full || first.exit_boot_ns < before) {
            let Some(first) = self.exited.pop_front() else { break };
            let same = |process: &Arc<Process>| process.start_boot_ns == first.start_boot_ns;
            if self.processes.peek(&first.tgid).is_some_and(same) {
                self.processes.pop(&first.tgid);
            }
            if is_full {
                break;
            }
        }
    }

    /// Process of `task`. A user or a cgroup that changed since the exec is taken from the task:
    /// the first process of a container is moved into its cgroup after it started.
    pub fn of_task(&mut self, task: &Task) -> Arc<Process> {
        let process = self.of_past_task(task);
        if process.uid == Some(task.uid) && process.cgroup_id == task.cgroup_id {
            return process;
        }
        let mut changed = Process::clone(&process);
        changed.uid = Some(task.uid);
        changed.user_name = self.users.name(task.uid);
        changed.cgroup_id = task.cgroup_id;
        self.cgroups.container(task.cgroup_id).clone_into(&mut changed.container_id);
        self.insert(task.tgid, changed)
    }

    /// Process that owned a socket; `None` if it has exited and is unknown.
    pub fn of_socket_owner(&mut self, owner: SocketOwner) -> Option<Arc<Process>> {
        if let Some(known) = self.processes.get(&owner.pid)
            && round_down_to_tick(known.start_boot_ns) == round_down_to_tick(owner.start_boot_ns)
        {
            return Some(Arc::clone(known));
        }
        self.read_from_proc(owner.pid, owner.start_boot_ns)
    }

    /// Working directory of a process; "" if it is unknown, or the process has exited.
    pub fn working_directory(&self, process: &Process) -> String {
        let directory = process.pid.and_then(|pid| {
            let (start_boot_ns, directory) = self.source.working_directory(pid)?;
            is_same_start(process.start_boot_ns, start_boot_ns).then_some(directory)
        });
        directory.unwrap_or_default()
    }

    /// Process of a task that the kernel stored a while ago.
    pub fn of_past_task(&mut self, task: &Task) -> Arc<Process> {
        match self.known(task) {
            Some(process) => process,
            None => self.discover(task),
        }
    }

    /// Adds a process that is in no record: from /proc, else from its task alone.
    fn discover(&mut self, task: &Task) -> Arc<Process> {
        if let Some(process) = self.read_from_proc(task.tgid, task.start_boot_ns) {
            tracing::debug!(pid = task.tgid, "process read from /proc");
            return process;
        }
        self.stats.processes_unknown.increment();
        tracing::debug!(pid = task.tgid, "process unknown");
        let unknown = Process {
            pid: Some(task.tgid),
            start_boot_ns: task.start_boot_ns,
            parent_pid: (task.parent_tgid != 0).then_some(task.parent_tgid),
            name: task.comm.clone(),
            ..Process::default()
        };
        self.insert(task.tgid, unknown)
    }

    /// Adds the process `pid` from /proc, if it started at `start_boot_ns` (0: any).
    fn read_from_proc(&mut self, pid: u32, start_boot_ns: u64) -> Option<Arc<Process>> {
        let facts = self.source.facts(pid).filter(|facts| facts.began_at(start_boot_ns))?;
        self.stats.processes_read_from_proc.increment();
        Some(self.insert_proc_facts(pid, facts, start_boot_ns))
    }

    /// Process of a task; `None` if it is unknown, or its process id has been reused since.
    fn known(&mut self, task: &Task) -> Option<Arc<Process>> {
        let process = self.processes.get(&task.tgid)?;
        is_same_start(process.start_boot_ns, task.start_boot_ns).then(|| Arc::clone(process))
    }

    fn name(&self, pid: u32) -> Option<String> {
        self.processes.peek(&pid).map(|process| process.name.clone())
    }

    fn insert(&mut self, tgid: u32, process: Process) -> Arc<Process> {
        let process = Arc::new(process);
        if let Some((evicted, _)) = self.processes.push(tgid, Arc::clone(&process))
            && evicted != tgid
        {
            self.stats.processes_evicted.increment();
        }
        process
    }

    /// Adds a process; the start in /proc is less exact than `start_boot_ns`, unless that is 0.
    fn insert_proc_facts(
        &mut self,
        pid: u32,
        facts: ProcFacts,
        start_boot_ns: u64,
    ) -> Arc<Process> {
        let process = Process {
            pid: Some(pid),
            start_boot_ns: if start_boot_ns == 0 { facts.start_boot_ns } else { start_boot_ns },
            parent_pid: Some(facts.parent_pid),
            parent_name: self.name(facts.parent_pid).unwrap_or_default(),
            name: file_name(&facts.path, &facts.comm),
            path: facts.path,
            command_line: facts.command_line,
            uid: Some(facts.uid),
            user_name: self.users.name(facts.uid),
            cgroup_id: 0,
            container_id: container_of(&facts.cgroup).unwrap_or_default(),
        };
        self.insert(pid, process)
    }
}

/// Last component of the path, or the task's name if the path is unknown.
fn file_name(path: &str, comm: &str) -> String {
    match path.rsplit('/').next() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => comm.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(max: usize) -> ProcessTable {
        ProcessTable::new(
            Path::new("/nonexistent"),
            Path::new("/nonexistent"),
            max,
            Arc::new(Stats::default()),
        )
    }

    fn task(tgid: u32, start_boot_ns: u64) -> Task {
        Task { tgid, start_boot_ns, uid: 7, parent_tgid: 1, comm: "comm".into(), cgroup_id: 3 }
    }

    fn exec(tgid: u32, start_boot_ns: u64, path: &str) -> Exec {
        let command_line = format!("{path} -x");
        Exec { boot_ns: 1, task: task(tgid, start_boot_ns), path: path.into(), command_line }
    }

    #[test]
    fn a_forked_child_has_its_parents_image_until_it_execs() {
        let mut table = table(10);
        table.exec(exec(10, 100, "/bin/sh"));
        let parent = task(10, 100);
        table.fork(&Fork { boot_ns: 2, parent, child_tgid: 11, child_start_boot_ns: 200 });
        let child = table.of_task(&task(11, 200));
        assert_eq!((child.path.as_str(), child.pid), ("/bin/sh", Some(11)));
        assert_eq!((child.parent_pid, child.parent_name.as_str()), (Some(10), "sh"));
        table.exec(exec(11, 200, "/usr/bin/curl"));
        assert_eq!(table.of_task(&task(11, 200)).command_line, "/usr/bin/curl -x");
        assert_eq!(table.of_task(&task(10, 100)).path, "/bin/sh");
    }

    #[test]
    fn a_reused_id_never_inherits() {
        let mut table = table(10);
        table.exec(exec(10, 100, "/bin/first"));
        let other = table.of_task(&task(10, 900_000_000));
        assert_eq!((other.path.as_str(), other.name.as_str()), ("", "comm"));
    }

    #[test]
    fn an_exited_process_is_known_while_it_lingers() {
        let mut table = table(10);
        table.exec(exec(10, 100, "/bin/a"));
        table.exit(&Exit { boot_ns: 1_000, tgid: 10, start_boot_ns: 100 });
        assert_eq!(table.of_task(&task(10, 100)).path, "/bin/a");
        table.exit(&Exit { boot_ns: LINGER_NS + 2_000, tgid: 11, start_boot_ns: 1 });
        assert_eq!(table.of_task(&task(10, 100)).path, "");
    }

    #[test]
    fn a_full_table_evicts_the_least_recently_used() {
        let mut table = table(2);
        for tgid in 1..=3 {
            table.exec(exec(tgid, 100, "/bin/a"));
        }
        assert_eq!(table.stats.processes_evicted.value(), 1);
        assert_eq!(table.of_task(&task(3, 100)).path, "/bin/a");
        assert_eq!(table.of_task(&task(1, 100)).path, "");
    }
}
