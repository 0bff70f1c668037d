//! `Processes`: executables with TCP connections, and the schedule of their rows.
//!
//! An executable has a row at the end of the minute of its first connection, so that connection rows
//! can be joined with it, then one at each full hour in which it had a connection. It is dropped
//! after an hour without one. At most `max` executables are tracked; the least recently used is
//! evicted first (counted).

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::super::change::{Change, ChangeKind};
use super::super::rows::RowIdentity;
use super::role::role;
use super::{HostView, ListeningSocket, Minute};
use crate::base::collections;
use crate::base::collections::Table;
use crate::base::counters::Stats;
use crate::pipeline::enrich::Process;
use crate::schema::ProcessRow;
use crate::schema::SOURCE_SYSTEM;

/// State of an executable.
#[derive(Debug)]
struct Executable {
    /// Process that started first, among those with connections.
    first: Arc<Process>,
    /// Start time of that process, once it was in a row.
    started: Option<Timestamp>,
    links_live: u64,
    /// True if it had a connection since its last row.
    is_active: bool,
    has_row: bool,
}

impl Executable {
    fn new(first: &Arc<Process>) -> Self {
        let first = Arc::clone(first);
        Self { first, started: None, links_live: 0, is_active: false, has_row: false }
    }

    /// Start time of the first process. Once set it stays, since boot clock and wall clock drift.
    fn started(&mut self, host: &dyn HostView) -> Option<Timestamp> {
        let boot_ns = self.first.start_boot_ns;
        if self.started.is_none() && boot_ns != 0 {
            let millisecond = host.wall(boot_ns).as_millisecond();
            self.started = Timestamp::from_millisecond(millisecond).ok();
        }
        self.started
    }
}

/// Executables by path, or by name if the path is unknown.
#[derive(Debug)]
pub(super) struct Processes {
    executables: Table<String, Executable>,
    stats: Arc<Stats>,
}

impl Processes {
    pub(super) fn new(max: usize, stats: Arc<Stats>) -> Self {
        Self { executables: collections::table(max), stats }
    }

    pub(super) fn observe(&mut self, change: &Change) {
        let process = &change.flow.process;
        let executable = process.executable();
        if executable.is_empty() {
            return;
        }
        if !self.executables.contains(executable) {
            let new = Executable::new(process);
            if self.executables.push(executable.to_owned(), new).is_some() {
                self.stats.process_groups_evicted.increment();
            }
        }
        let Some(state) = self.executables.get_mut(executable) else { return };
        // After each hourly row the first process is chosen anew, since the earlier one may have ended.
        let is_first = !state.is_active || is_earlier(process, &state.first);
        state.is_active = true;
        if is_first {
            state.started = None;
        }
        if is_first || state.first.is(process) {
            state.first = Arc::clone(process);
        }
        match change.kind {
            ChangeKind::Attributed => {
                state.links_live = state.links_live.saturating_add(1);
                let guessed = change.guess.as_ref().map(|guess| guess.process.executable());
                if let Some(before) = guessed.and_then(|name| self.executables.peek_mut(name)) {
                    before.links_live = before.links_live.saturating_sub(1);
                }
            }
            ChangeKind::Established => state.links_live = state.links_live.saturating_add(1),
            ChangeKind::Closed => state.links_live = state.links_live.saturating_sub(1),
            ChangeKind::Opened
            | ChangeKind::Active
            | ChangeKind::Translated
            | ChangeKind::Failed => {}
        }
    }

    /// Returns the rows that are scheduled at the end of a minute, during which the sockets
    /// `listening` listened.
    pub(super) fn close(
        &mut self,
        minute: Minute,
        listening: &[ListeningSocket],
        identity: &RowIdentity,
        host: &dyn HostView,
    ) -> Vec<ProcessRow> {
        let hour_ends = minute.end().as_second().rem_euclid(3600) == 0;
        let is_scheduled =
            |it: &Executable| !it.has_row || (hour_ends && (it.is_active || it.links_live > 0));
        if !self.executables.iter().any(|(_, it)| is_scheduled(it)) && !hour_ends {
            return Vec::new();
        }
        let mut ports: HashMap<&str, Vec<u16>> = HashMap::new();
        for socket in listening {
            ports.entry(socket.process.executable()).or_default().push(socket.port);
        }
        let mut rows = Vec::new();
        for (path, it) in self.executables.iter_mut().filter(|(_, it)| is_scheduled(it)) {
            let row = ProcessRow {
                time_generated: if it.has_row { minute.end() } else { minute.start() },
                role: role(&it.first.name, ports.get(&**path).map_or(&[], Vec::as_slice))
                    .to_owned(),
                start_time: it.started(host),
                ..row(path, &it.first, identity, host)
            };
            rows.push(row);
            it.has_row = true;
        }
        if hour_ends {
            self.drop_idle();
        }
        // The table's order is that of use.
        rows.sort_unstable_by(|one, other| one.executable_path.cmp(&other.executable_path));
        rows
    }

    /// Drops the executables without a connection in the hour that ends.
    fn drop_idle(&mut self) {
        let is_idle = |it: &Executable| !it.is_active && it.links_live == 0;
        let all = self.executables.iter();
        let idle: Vec<String> =
            all.filter(|(_, it)| is_idle(it)).map(|(path, _)| path.clone()).collect();
        for path in idle {
            self.executables.pop(&path);
        }
        for (_, it) in &mut self.executables {
            it.is_active = false;
        }
    }
}

/// True if a process is known to have started before another one.
const fn is_earlier(process: &Process, than: &Process) -> bool {
    process.start_boot_ns != 0
        && (than.start_boot_ns == 0 || process.start_boot_ns < than.start_boot_ns)
}

/// Row of an executable, without the columns that depend on its schedule.
fn row(
    executable: &str,
    process: &Process,
    identity: &RowIdentity,
    host: &dyn HostView,
) -> ProcessRow {
    let resource = identity.resource();
    ProcessRow {
        computer: identity.computer.to_string(),
        agent_id: identity.agent_id.clone(),
        machine: identity.machine(),
        process: identity.process(executable),
        executable_name: process.name.clone(),
        executable_path: process.path.clone(),
        command_line: process.command_line.clone(),
        working_directory: host.working_directory(process),
        display_name: process.name.clone(),
        first_pid: process.pid,
        user_name: process.user_name.clone(),
        source_system: SOURCE_SYSTEM.to_owned(),
        r#type: ProcessRow::TABLE.name.to_owned(),
        resource_id: resource.id,
        subscription_id: resource.subscription,
        container_id: process.container_id.clone(),
        ..ProcessRow::default()
    }
}
