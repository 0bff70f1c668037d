//! `Processes`: executables that have TCP connections, and when a row of each is due.
//!
//! One that connects (or is connected to) for the first time has a row at the end of that minute,
//! so that rows of connections find theirs; after that one at each full hour in which it had a
//! connection. One that had none in an hour is forgotten. At most `max` are kept; the least recently
//! used leaves first (counted).

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::super::change::{Change, ChangeKind};
use super::super::rows::RowIdentity;
use super::role::role;
use super::{HostView, Listening, Minute};
use crate::base::collections;
use crate::base::collections::Table;
use crate::base::counters::Stats;
use crate::pipeline::enrich::Process;
use crate::schema::ProcessRow;
use crate::schema::SOURCE_SYSTEM;

/// What is known of an executable.
#[derive(Debug)]
struct Group {
    /// Of the processes that had connections, the one that began first.
    first: Arc<Process>,
    /// When that was, once it was told.
    started: Option<Timestamp>,
    links_live: u64,
    /// Whether it had a connection since the last row.
    active: bool,
    /// Whether it has had a row.
    told: bool,
}

impl Group {
    fn of(first: &Arc<Process>) -> Self {
        let first = Arc::clone(first);
        Self { first, started: None, links_live: 0, active: false, told: false }
    }

    /// The clocks of boot and wall drift: what was told once stays.
    fn started(&mut self, host: &dyn HostView) -> Option<Timestamp> {
        let boot_ns = self.first.start_boot_ns;
        if self.started.is_none() && boot_ns != 0 {
            let millisecond = host.wall(boot_ns).as_millisecond();
            self.started = Timestamp::from_millisecond(millisecond).ok();
        }
        self.started
    }
}

/// Executables by what names them: path, or name where no path is known.
#[derive(Debug)]
pub(super) struct Processes {
    groups: Table<String, Group>,
    stats: Arc<Stats>,
}

impl Processes {
    pub(super) fn new(max: usize, stats: Arc<Stats>) -> Self {
        Self { groups: collections::table(max), stats }
    }

    pub(super) fn observe(&mut self, change: &Change) {
        let process = &change.flow.process;
        let executable = process.executable();
        if executable.is_empty() {
            return;
        }
        if !self.groups.contains(executable) {
            let group = Group::of(process);
            if self.groups.push(executable.to_owned(), group).is_some() {
                self.stats.process_groups_evicted.increment();
            }
        }
        let Some(group) = self.groups.get_mut(executable) else { return };
        // After an hour's row whoever is still there begins anew: what ended is not told for ever.
        let is_first = !group.active || is_earlier(process, &group.first);
        group.active = true;
        if is_first {
            group.started = None;
        }
        if is_first || group.first.is(process) {
            group.first = Arc::clone(process);
        }
        match change.kind {
            ChangeKind::Established => group.links_live = group.links_live.saturating_add(1),
            ChangeKind::Closed => group.links_live = group.links_live.saturating_sub(1),
            ChangeKind::Opened
            | ChangeKind::Active
            | ChangeKind::Translated
            | ChangeKind::Failed => {}
        }
    }

    /// The rows that are due at the end of a minute in which `listening` listened.
    pub(super) fn close(
        &mut self,
        minute: Minute,
        listening: &[Listening],
        (identity, host): (&RowIdentity, &mut dyn HostView),
    ) -> Vec<ProcessRow> {
        let hour_ends = minute.end().as_second().rem_euclid(3600) == 0;
        let due = |group: &Group| {
            if group.told { hour_ends && (group.active || group.links_live > 0) } else { true }
        };
        if !self.groups.iter().any(|(_, group)| due(group)) && !hour_ends {
            return Vec::new();
        }
        let mut ports: HashMap<&str, Vec<u16>> = HashMap::new();
        for socket in listening {
            ports.entry(socket.process.executable()).or_default().push(socket.port);
        }
        let mut rows = Vec::new();
        for (executable, group) in self.groups.iter_mut().filter(|(_, group)| due(group)) {
            let time = if group.told { minute.end() } else { minute.start() };
            let role = role(&group.first.name, ports.get(&**executable).map_or(&[], Vec::as_slice));
            let times = (time, group.started(&*host));
            rows.push(row((executable, &group.first), (times, role), (identity, &*host)));
            group.told = true;
        }
        if hour_ends {
            self.forget();
        }
        // The table's order is that of use.
        rows.sort_unstable_by(|one, other| one.executable_path.cmp(&other.executable_path));
        rows
    }

    /// Forgets what had no connection in the hour that ends.
    fn forget(&mut self) {
        let idle: Vec<String> = self
            .groups
            .iter()
            .filter(|(_, group)| !group.active && group.links_live == 0)
            .map(|(executable, _)| executable.clone())
            .collect();
        for executable in idle {
            self.groups.pop(&executable);
        }
        for (_, group) in &mut self.groups {
            group.active = false;
        }
    }
}

/// Whether a process is known to have begun before another one.
const fn is_earlier(process: &Process, than: &Process) -> bool {
    process.start_boot_ns != 0
        && (than.start_boot_ns == 0 || process.start_boot_ns < than.start_boot_ns)
}

fn row(
    (executable, process): (&str, &Process),
    ((time, start_time), role): ((Timestamp, Option<Timestamp>), &str),
    (identity, host): (&RowIdentity, &dyn HostView),
) -> ProcessRow {
    let resource = identity.resource();
    ProcessRow {
        time_generated: time,
        computer: identity.computer.to_string(),
        agent_id: identity.agent_id.clone(),
        machine: identity.machine(),
        process: identity.process(executable),
        executable_name: process.name.clone(),
        executable_path: process.path.clone(),
        command_line: process.command_line.clone(),
        working_directory: host.working_directory(process),
        display_name: process.name.clone(),
        role: role.to_owned(),
        start_time,
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
