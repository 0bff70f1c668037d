//! `HostTables`: the siblings of `VMConnection` that follow from the same changes: a row a minute
//! for each port on which this host listens (`VMBoundPort`), a row an hour for each process that
//! had TCP connections (`VMProcess`).
//!
//! They are told in the minutes of [`super::rows::RowTable`], which says in which of them a change was
//! counted: so what a process's bound ports moved is what its inbound rows moved.

mod ports;
mod processes;
mod role;

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::change::Change;
use super::rows::{BACK_MINUTES, CATCH_UP_MINUTES, LATENESS, RowIdentity, minute_of};
use crate::base::counters::Stats;
use crate::base::protocol::Protocol;
use crate::pipeline::enrich::Process;
use crate::schema::TableRow;

use ports::BoundPorts;
use processes::Processes;

/// A socket that listened, with the process that owned it.
#[derive(Debug, Clone)]
pub struct Listening {
    /// Inode number of its network namespace.
    pub netns: u32,
    /// Local address; unspecified where it takes every one.
    pub address: IpAddr,
    /// Local port.
    pub port: u16,
    /// Who made it, or its image by now.
    pub process: Arc<Process>,
}

/// What the tables ask of the host.
pub trait HostView {
    /// What listened at some time in the minute from `start` to `end`.
    fn listening(&mut self, start: Timestamp, end: Timestamp) -> Vec<Listening>;
    /// Wall time of an instant in nanoseconds since boot.
    fn wall(&self, boot_ns: u64) -> Timestamp;
    /// Folder that a process works in; "" where it is not known.
    fn working_directory(&self, process: &Process) -> String;
}

/// A minute that is closed.
#[derive(Debug, Clone, Copy)]
struct Minute {
    /// Since 1970.
    number: i64,
}

impl Minute {
    fn start(self) -> Timestamp {
        Timestamp::from_second(self.number.saturating_mul(60)).unwrap_or(Timestamp::MAX)
    }

    fn end(self) -> Timestamp {
        Self { number: self.number.saturating_add(1) }.start()
    }
}

/// The tables in the making.
#[derive(Debug)]
pub struct HostTables {
    identity: RowIdentity,
    /// The first minute that is not closed: the one of [`super::rows::RowTable`].
    next_minute: Option<i64>,
    ports: BoundPorts,
    processes: Processes,
    stats: Arc<Stats>,
}

impl HostTables {
    /// Empty tables of at most `max_keys` ports a minute, and as many processes. `home` is the
    /// inode number of the agent's own network namespace, 0 when unknown.
    pub fn new(identity: RowIdentity, home: u32, max_keys: usize, stats: Arc<Stats>) -> Self {
        Self {
            identity,
            next_minute: None,
            ports: BoundPorts::new(home, max_keys, Arc::clone(&stats)),
            processes: Processes::new(max_keys, Arc::clone(&stats)),
            stats,
        }
    }

    /// Takes in a change; `minute` is the one that its row is in, `None` where it is in no row.
    pub fn observe(&mut self, change: &Change, minute: Option<i64>) {
        if change.flow.protocol == Protocol::Tcp {
            self.processes.observe(change);
        }
        if let Some(minute) = minute {
            self.ports.observe(change, minute);
        }
    }

    /// Closes the minutes that ended before `now` less the lateness; gives their rows. After a leap
    /// of the clock minutes without activity are left out but for the last; one that is set back is
    /// followed.
    pub fn close_until(&mut self, now: Timestamp, host: &mut dyn HostView) -> Vec<TableRow> {
        let end = now.checked_sub(LATENESS).map_or(i64::MIN, minute_of);
        self.close_before(end, host)
    }

    /// Closes every minute up to that of `now`, at the end of the agent.
    pub fn close_all(&mut self, now: Timestamp, host: &mut dyn HostView) -> Vec<TableRow> {
        let last = self.ports.last_minute().unwrap_or(i64::MIN).max(minute_of(now));
        self.close_before(last.saturating_add(1), host)
    }

    fn close_before(&mut self, end: i64, host: &mut dyn HostView) -> Vec<TableRow> {
        let mut rows = Vec::new();
        let mut next = *self.next_minute.get_or_insert(end);
        let is_set_back = end < next.saturating_sub(BACK_MINUTES);
        // What is open is told as it is.
        let open = self.ports.last_minute().map_or(next, |last| last.saturating_add(1));
        let until = if is_set_back { open } else { end };
        while next < until {
            let recent = until.saturating_sub(CATCH_UP_MINUTES);
            if next < recent && !self.ports.has(next) {
                next = self.ports.first_minute().map_or(recent, |first| first.min(recent));
                continue;
            }
            rows.append(&mut self.close(Minute { number: next }, host));
            next = next.saturating_add(1);
        }
        self.next_minute = Some(if is_set_back { end } else { next });
        rows
    }

    fn close(&mut self, minute: Minute, host: &mut dyn HostView) -> Vec<TableRow> {
        let listening = host.listening(minute.start(), minute.end());
        let mut rows = Vec::new();
        let processes = self.processes.close(minute, &listening, (&self.identity, host));
        rows.extend(processes.into_iter().map(|row| TableRow::Process(Box::new(row))));
        let ports = self.ports.close(minute, listening, &self.identity);
        rows.extend(ports.into_iter().map(|row| TableRow::BoundPort(Box::new(row))));
        self.stats.rows_emitted.add(rows.len() as u64);
        rows
    }
}

#[cfg(test)]
mod tests;
