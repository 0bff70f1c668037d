//! `RowTable`: Change to Row, a minute at a time, by Microsoft's group key.
//!
//! Invariants. A minute is closed `LATENESS` after its end; what comes later is counted into the
//! next (and in `row_changes_late`). In one minute at most `max_keys` keys begin; connections of
//! further keys are in no row, from their beginning to their end (each change is counted). For a
//! key over time `LinksLive(t) = LinksLive(t-1) + LinksEstablished - LinksTerminated`. A key with
//! an open connection has a row in each minute.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::change::{Change, What};
use super::flow::{Direction, Protocol};
use super::row::Row;
use crate::enrich::Process;
use crate::stable_id::stable_id;
use crate::stats::Stats;

/// How long after its end a minute still takes changes in.
const LATENESS: SignedDuration = SignedDuration::from_secs(2);
/// Minutes without a close that are made up for, one by one; a longer gap is skipped.
const CATCH_UP_MINUTES: i64 = 10;

/// Who reports: the same for every row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Full name of the host.
    pub computer: Arc<str>,
    /// The agent's UUID.
    pub agent_id: String,
}

impl Identity {
    /// `Machine` of Microsoft's tables.
    pub fn machine(&self) -> String {
        format!("m-{}", self.agent_id)
    }

    /// `Process` of Microsoft's tables: stable for an executable on a machine.
    pub fn process(&self, executable: &str) -> String {
        format!("p-{}", stable_id(&[&self.agent_id, executable]))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    direction: Direction,
    /// Path of the executable, or its name where no path is known.
    executable: String,
    source: IpAddr,
    destination: IpAddr,
    destination_port: u16,
    protocol: Protocol,
}

#[derive(Debug)]
struct Counts {
    established: u64,
    terminated: u64,
    failed: u64,
    bytes_sent: u64,
    bytes_received: u64,
    process: Arc<Process>,
}

#[derive(Debug)]
struct Live {
    links: u64,
    process: Arc<Process>,
}

/// Rows in the making.
#[derive(Debug)]
pub struct RowTable {
    identity: Identity,
    max_keys: usize,
    /// Open minutes by their number since 1970.
    minutes: BTreeMap<i64, HashMap<Key, Counts>>,
    /// Open connections at the end of the last closed minute.
    live: HashMap<Key, Live>,
    /// Open connections that are in no row, by number; each leaves when it ends.
    left_out: HashSet<u64>,
    /// The first minute that is not closed.
    next_minute: Option<i64>,
    stats: Arc<Stats>,
}

impl RowTable {
    /// An empty table of at most `max_keys` keys a minute.
    pub fn new(identity: Identity, max_keys: usize, stats: Arc<Stats>) -> Self {
        Self {
            identity,
            max_keys,
            minutes: BTreeMap::new(),
            live: HashMap::new(),
            left_out: HashSet::new(),
            next_minute: None,
            stats,
        }
    }

    /// Counts a change into its minute.
    pub fn observe(&mut self, change: &Change) {
        if matches!(change.what, What::Opened | What::Translated) {
            return;
        }
        let mut minute = minute_of(change.flow.time);
        let next = *self.next_minute.get_or_insert(minute);
        if minute < next {
            self.stats.row_changes_late.increment();
            minute = next;
        }
        let keys = self.minutes.entry(minute).or_default();
        let key = key_of(change);
        // What was left out when it was established is left out when it ends, and what is counted
        // as live always finds room: the gauge stays true.
        let full = keys.len() >= self.max_keys && !keys.contains_key(&key);
        let left_out = match change.what {
            What::Opened | What::Translated => true,
            What::Closed => self.left_out.remove(&change.number),
            What::Established => full && self.left_out.insert(change.number),
            What::Active => self.left_out.contains(&change.number),
            What::Failed => full,
        };
        if left_out {
            self.stats.row_keys_dropped_full.increment();
            return;
        }
        let process = &change.flow.process;
        let counts = keys.entry(key).or_insert_with(|| Counts::none(process));
        match change.what {
            What::Opened | What::Active | What::Translated => {}
            What::Established => counts.established += 1,
            What::Failed => counts.failed += 1,
            What::Closed => counts.terminated += 1,
        }
        counts.bytes_sent = counts.bytes_sent.saturating_add(change.flow.bytes_sent);
        counts.bytes_received = counts.bytes_received.saturating_add(change.flow.bytes_received);
        counts.process = Arc::clone(process);
    }

    /// Closes the minutes that ended before `now` less the lateness; rows are sorted by key.
    pub fn close_until(&mut self, now: Timestamp) -> Vec<Row> {
        let end = now.checked_sub(LATENESS).map_or(i64::MIN, minute_of);
        self.close_minutes_before(end)
    }

    /// Closes every minute that has something, at the end of the input.
    pub fn close_all(&mut self) -> Vec<Row> {
        let end = self.minutes.last_key_value().map(|(minute, _)| minute.saturating_add(1));
        end.map_or_else(Vec::new, |end| self.close_minutes_before(end))
    }

    fn close_minutes_before(&mut self, end: i64) -> Vec<Row> {
        let mut rows = Vec::new();
        let Some(mut minute) = self.next_minute else { return rows };
        while minute < end {
            let recent = end.saturating_sub(CATCH_UP_MINUTES);
            if minute < recent && !self.minutes.contains_key(&minute) {
                // Nothing was closed for long (the clock was set, or the machine slept): minutes
                // that have something keep their rows, empty ones between get none.
                let first = self.minutes.first_key_value().map_or(recent, |(minute, _)| *minute);
                minute = recent.min(first);
                continue;
            }
            let counts = self.minutes.remove(&minute).unwrap_or_default();
            self.close_minute(minute, counts, &mut rows);
            minute = minute.saturating_add(1);
        }
        self.next_minute = Some(minute);
        self.stats.rows_made.add(rows.len() as u64);
        rows
    }

    fn close_minute(&mut self, minute: i64, counts: HashMap<Key, Counts>, rows: &mut Vec<Row>) {
        let time = Timestamp::from_second(minute.saturating_mul(60)).unwrap_or(Timestamp::MAX);
        let mut keys: BTreeMap<Key, Counts> = counts.into_iter().collect();
        for (key, live) in &self.live {
            if !keys.contains_key(key) {
                keys.insert(key.clone(), Counts::none(&live.process));
            }
        }
        for (key, counts) in keys {
            let before = self.live.get(&key).map_or(0, |live| live.links);
            let links = (before + counts.established).saturating_sub(counts.terminated);
            rows.push(self.row(time, &key, &counts, links));
            if links == 0 {
                self.live.remove(&key);
            } else {
                self.live.insert(key, Live { links, process: counts.process });
            }
        }
    }

    fn row(&self, time: Timestamp, key: &Key, counts: &Counts, links_live: u64) -> Row {
        let process = &counts.process;
        let (source, destination) = (key.source.to_string(), key.destination.to_string());
        let machine = self.identity.machine();
        let process_id = self.identity.process(&key.executable);
        let connection_id = stable_id(&[
            &machine,
            &process_id,
            key.direction.as_str(),
            key.protocol.as_str(),
            &source,
            &destination,
            &key.destination_port.to_string(),
            &time.to_string(),
        ]);
        Row {
            time_generated: time,
            computer: self.identity.computer.to_string(),
            agent_id: self.identity.agent_id.clone(),
            machine,
            process: process_id,
            process_name: process.name.clone(),
            connection_id,
            direction: key.direction.as_str().to_owned(),
            protocol: key.protocol.as_str().to_owned(),
            remote_ip: match key.direction {
                Direction::Inbound => source.clone(),
                Direction::Outbound => destination.clone(),
            },
            source_ip: source,
            destination_ip: destination,
            destination_port: key.destination_port,
            links_established: counts.established,
            links_terminated: counts.terminated,
            links_failed: counts.failed,
            links_live,
            bytes_sent: counts.bytes_sent,
            bytes_received: counts.bytes_received,
            process_id: process.pid,
            process_path: process.path.clone(),
            command_line: process.command_line.clone(),
            user_name: process.user_name.clone(),
            parent_process_name: process.parent_name.clone(),
            container_id: process.container_id.clone(),
            source_system: Row::SOURCE_SYSTEM.to_owned(),
            r#type: Row::TYPE.to_owned(),
            ..Row::default()
        }
    }
}

impl Counts {
    fn none(process: &Arc<Process>) -> Self {
        Self {
            established: 0,
            terminated: 0,
            failed: 0,
            bytes_sent: 0,
            bytes_received: 0,
            process: Arc::clone(process),
        }
    }
}

fn key_of(change: &Change) -> Key {
    let flow = &change.flow;
    Key {
        direction: flow.direction,
        executable: flow.process.executable().to_owned(),
        source: flow.source(),
        destination: flow.destination(),
        destination_port: flow.destination_port().unwrap_or(0),
        protocol: flow.protocol,
    }
}

/// Minutes since 1970, rounded down.
fn minute_of(time: Timestamp) -> i64 {
    time.as_second().div_euclid(60)
}

#[cfg(test)]
mod tests {
    use super::super::flow::{Attribution, Flow, Phase};
    use super::*;

    fn table(max_keys: usize) -> RowTable {
        let identity = Identity { computer: "host.example".into(), agent_id: "id".into() };
        RowTable::new(identity, max_keys, Arc::new(Stats::default()))
    }

    fn change(what: What, second: i64, remote: &str, bytes_sent: u64) -> Change {
        let flow = Flow {
            time: Timestamp::from_second(second).unwrap(),
            phase: Phase::Opened,
            computer: "host.example".into(),
            direction: Direction::Outbound,
            protocol: Protocol::Tcp,
            local: "192.0.2.1".parse().unwrap(),
            local_port: Some(40_000),
            remote: remote.parse().unwrap(),
            remote_port: Some(443),
            process: Arc::new(Process { name: "curl".into(), ..Process::default() }),
            attribution: Attribution::Connect,
            connections: 1,
            preexisting: false,
            translated: None,
            bytes_sent,
            bytes_received: 0,
        };
        Change::new(what, flow, 1, 0)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn links(rows: &[Row]) -> Vec<(i64, u64, u64, u64, u64)> {
        rows.iter()
            .map(|row| {
                let minute = minute_of(row.time_generated);
                let (up, down) = (row.links_established, row.links_terminated);
                (minute, up, down, row.links_failed, row.links_live)
            })
            .collect()
    }

    #[test]
    fn an_open_connection_has_a_row_in_every_minute_of_its_life() {
        let mut table = table(10);
        table.observe(&change(What::Established, 30, "198.51.100.7", 0));
        assert_eq!(table.close_until(at(61)), []);
        assert_eq!(links(&table.close_until(at(62))), [(0, 1, 0, 0, 1)]);
        assert_eq!(links(&table.close_until(at(122))), [(1, 0, 0, 0, 1)]);
        table.observe(&change(What::Closed, 130, "198.51.100.7", 500));
        let rows = table.close_until(at(182));
        assert_eq!(links(&rows), [(2, 0, 1, 0, 0)]);
        assert_eq!(rows[0].bytes_sent, 500);
        assert_eq!(table.close_until(at(600)), []);
    }

    #[test]
    fn the_same_input_gives_the_same_ids() {
        let rows = |_: u8| {
            let mut table = table(10);
            table.observe(&change(What::Failed, 30, "2001:db8::7", 0));
            table.close_all()
        };
        assert_eq!(rows(1), rows(2));
        assert_eq!(links(&rows(1)), [(0, 0, 0, 1, 0)]);
    }

    #[test]
    fn what_comes_late_is_counted_in_the_next_minute() {
        let mut table = table(10);
        table.observe(&change(What::Established, 30, "198.51.100.7", 0));
        table.close_until(at(62));
        table.observe(&change(What::Closed, 59, "198.51.100.7", 0));
        assert_eq!(links(&table.close_until(at(122))), [(1, 0, 1, 0, 0)]);
        assert_eq!(table.stats.row_changes_late.value(), 1);
    }

    #[test]
    fn a_key_too_many_is_counted() {
        let mut table = table(1);
        table.observe(&change(What::Failed, 1, "198.51.100.7", 0));
        table.observe(&change(What::Failed, 2, "198.51.100.8", 0));
        table.observe(&change(What::Failed, 3, "198.51.100.7", 0));
        assert_eq!(links(&table.close_all()), [(0, 0, 0, 2, 0)]);
        assert_eq!(table.stats.row_keys_dropped_full.value(), 1);
    }

    #[test]
    fn a_connection_that_found_no_room_is_in_no_row_to_its_end() {
        let mut table = table(1);
        let numbered = |number, it: Change| Change { number, ..it };
        table.observe(&numbered(1, change(What::Established, 1, "198.51.100.7", 0)));
        table.observe(&numbered(2, change(What::Established, 2, "198.51.100.8", 0)));
        assert_eq!(links(&table.close_until(at(62))), [(0, 1, 0, 0, 1)]);
        // The minute is full again when both end: the one that was counted finds room.
        table.observe(&change(What::Failed, 63, "198.51.100.9", 0));
        table.observe(&numbered(2, change(What::Closed, 64, "198.51.100.8", 0)));
        table.observe(&numbered(1, change(What::Closed, 65, "198.51.100.7", 0)));
        assert_eq!(links(&table.close_until(at(122))), [(1, 0, 1, 0, 0), (1, 0, 0, 1, 0)]);
        assert_eq!(table.stats.row_keys_dropped_full.value(), 2);
        assert_eq!(table.close_until(at(600)), []);
    }

    #[test]
    fn a_clock_that_jumps_makes_no_endless_rows() {
        let mut table = table(10);
        table.observe(&change(What::Established, 30, "198.51.100.7", 0));
        let rows = table.close_until(at(60 * 60 * 24 * 365));
        assert!(rows.len() <= 12, "{}", rows.len());
        table.observe(&change(What::Closed, 45, "198.51.100.7", 0));
        assert_eq!(links(&table.close_all()).last().map(|row| row.4), Some(0));
    }
}
