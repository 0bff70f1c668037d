//! `HostTables`: tables that follow from the same changes as `VMConnection`. `VMBoundPort` has a row
//! per minute for each listening port, `VMProcess` a row per hour for each process with TCP
//! connections.
//!
//! A change counts into the same minute as in [`super::rows::RowTable`], which returns it. So the
//! bytes of the bound ports of a process are those of its inbound connection rows.

mod ports;
mod processes;
mod role;

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::change::Change;
use super::rows::{BACK_MINUTES, CATCH_UP_MINUTES, Counted, LATENESS, RowIdentity, minute_of};
use crate::base::counters::Stats;
use crate::base::protocol::Protocol;
use crate::pipeline::enrich::Process;
use crate::schema::TableRow;

use ports::BoundPorts;
use processes::Processes;

/// Listening socket with its owner.
#[derive(Debug, Clone)]
pub struct ListeningSocket {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Local address; unspecified for a wildcard socket.
    pub address: IpAddr,
    /// Local port of the socket.
    pub port: u16,
    /// Process that called `listen`, with its current program.
    pub process: Arc<Process>,
}

/// Facts of the host that the tables need.
pub trait HostView {
    /// Sockets that listened at any time in the minute from `start` to `end`.
    fn listening(&mut self, start: Timestamp, end: Timestamp) -> Vec<ListeningSocket>;
    /// Wall-clock time of an instant in nanoseconds since boot.
    fn wall(&self, boot_ns: u64) -> Timestamp;
    /// Working directory of a process; "" if unknown.
    fn working_directory(&self, process: &Process) -> String;
}

#[derive(Debug, Clone, Copy)]
struct Minute {
    /// Number of minutes since 1970.
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

/// Counts of ports and processes, and the rows made of them.
#[derive(Debug)]
pub struct HostTables {
    identity: RowIdentity,
    /// First minute that is not closed, as in [`super::rows::RowTable`].
    next_minute: Option<i64>,
    ports: BoundPorts,
    processes: Processes,
    stats: Arc<Stats>,
}

impl HostTables {
    /// Creates empty tables for at most `max_keys` ports per minute, and as many processes. `own_netns`
    /// is the inode number of the network namespace of the agent, 0 if unknown.
    pub fn new(identity: RowIdentity, own_netns: u32, max_keys: usize, stats: Arc<Stats>) -> Self {
        Self {
            identity,
            next_minute: None,
            ports: BoundPorts::new(own_netns, max_keys, Arc::clone(&stats)),
            processes: Processes::new(max_keys, Arc::clone(&stats)),
            stats,
        }
    }

    /// Counts a change; `counted` is the minute of its connection row, `None` if it is in no row.
    pub fn observe(&mut self, change: &Change, counted: Option<Counted>) {
        if change.flow.protocol == Protocol::Tcp {
            self.processes.observe(change);
        }
        match (counted, &change.guess) {
            (Some(counted), Some(guess)) => self.ports.reattribute(change, guess, counted),
            (Some(counted), None) => self.ports.observe(change, counted.minute),
            (None, _) => {}
        }
    }

    /// Closes the minutes that ended `LATENESS` before `now`, and returns their rows. After a jump of
    /// the clock only the last minutes without activity are closed; a step back is followed.
    pub fn close_until(&mut self, now: Timestamp, host: &mut dyn HostView) -> Vec<TableRow> {
        let end = now.checked_sub(LATENESS).map_or(i64::MIN, minute_of);
        self.close_before(end, host)
    }

    /// Closes every minute up to that of `now`, when the agent stops.
    pub fn close_all(&mut self, now: Timestamp, host: &mut dyn HostView) -> Vec<TableRow> {
        let last = self.ports.last_minute().unwrap_or(i64::MIN).max(minute_of(now));
        self.close_before(last.saturating_add(1), host)
    }

    fn close_before(&mut self, end: i64, host: &mut dyn HostView) -> Vec<TableRow> {
        let mut rows = Vec::new();
        let mut next = *self.next_minute.get_or_insert(end);
        let is_set_back = end < next.saturating_sub(BACK_MINUTES);
        // After a step back the open minutes are closed as they are.
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
        let processes = self.processes.close(minute, &listening, &self.identity, host);
        rows.extend(processes.into_iter().map(|row| TableRow::Process(Box::new(row))));
        let ports = self.ports.close(minute, listening, &self.identity);
        rows.extend(ports.into_iter().map(|row| TableRow::BoundPort(Box::new(row))));
        self.stats.rows_emitted.add(rows.len() as u64);
        rows
    }
}

#[cfg(test)]
mod tests;
