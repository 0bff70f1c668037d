//! Rows of minutes that are closed, made a portion at a time: one call must not hold the path up,
//! nor give the sinks more than their queues take.

use jiff::Timestamp;

use super::super::malicious::{FindIndicator, RowRemote};
use super::RowTable;
use super::key::{Counts, Key, Live};
use crate::base::collections::FastIndexMap;
use crate::base::stable_id::stable_id;
use crate::schema::{ConnectionRow, SOURCE_SYSTEM};

/// Rows made in one call, at least.
const PORTION: usize = 1000;
/// A portion is at least this part of what is due: the path takes some fifty turns a second, so
/// that nothing is due for longer than half a minute.
const PORTIONS: usize = 1024;

/// The columns are signed; a recording may say anything.
pub(in super::super) const LONG_MAX: u64 = i64::MAX.cast_unsigned();

/// Fills the malicious columns of a row whose connections were there from `since` on.
fn mark(
    row: &mut ConnectionRow,
    key: &Key,
    (counts, since): (&Counts, Timestamp),
    find: &FindIndicator<'_>,
) {
    let pid = counts.process.pid;
    let remote = RowRemote { peer: key.peer(counts.translated), since, pid };
    if let Some(found) = find(&remote) {
        found.fill(row);
    }
}

/// A closed minute.
#[derive(Debug)]
pub(super) struct Due {
    /// Its start.
    time: Timestamp,
    /// 0, or the round in which it was closed once more.
    round: u64,
    /// Its number among the closed minutes.
    number: u64,
    /// Keys that had changes in it, and are without a row yet.
    keys: FastIndexMap<Key, Counts>,
    /// How many of the live keys were asked whether they have a row, when those are done.
    asked: usize,
}

impl Due {
    pub(super) fn new(
        (minute, round): (i64, u64),
        number: u64,
        keys: FastIndexMap<Key, Counts>,
    ) -> Self {
        let time = Timestamp::from_second(minute.saturating_mul(60)).unwrap_or(Timestamp::MAX);
        Self { time, round, number, keys, asked: 0 }
    }
}

impl RowTable {
    /// The next portion of rows. Their order follows from that of the changes.
    pub(super) fn make_rows(&mut self, find: &FindIndicator<'_>) -> Vec<ConnectionRow> {
        let mut rows = Vec::new();
        let waiting: usize = self.due.iter().map(|due| due.keys.len() + self.live.len()).sum();
        let most = PORTION.max(waiting.div_ceil(PORTIONS));
        while rows.len() < most {
            let Some(due) = self.due.front_mut() else { break };
            let (time, round, number) = (due.time, due.round, due.number);
            if let Some((key, counts)) = due.keys.pop() {
                rows.push(self.changed(key, counts, ((time, round), number), find));
            } else if let Some((key, live)) = self.live.get_index(due.asked) {
                due.asked += 1;
                if live.told_in < number {
                    let counts =
                        Counts { translated: live.translated, ..Counts::none(&live.process) };
                    let links = live.links;
                    let mut row = self.row((time, round), key, &counts, links);
                    mark(&mut row, key, (&counts, time), find);
                    rows.push(row);
                }
            } else {
                self.due.pop_front();
            }
        }
        self.stats.rows_emitted.add(rows.len() as u64);
        rows
    }

    /// The row of a key that had changes in a minute.
    fn changed(
        &mut self,
        key: Key,
        mut counts: Counts,
        (at, number): ((Timestamp, u64), u64),
        find: &FindIndicator<'_>,
    ) -> ConnectionRow {
        let live = self.live.get(&key);
        let before = live.map_or(0, |live| live.links);
        counts.translated = counts.translated.or_else(|| live.and_then(|live| live.translated));
        let open = before.saturating_add(counts.established);
        let unmatched = counts.terminated.saturating_sub(open);
        if unmatched > 0 {
            counts.terminated = open;
            self.end_later(&key, unmatched);
        }
        let links = open.saturating_sub(counts.terminated);
        let mut row = self.row(at, &key, &counts, links);
        // What was open before was there from the minute's start on.
        let since = if before > 0 { at.0 } else { counts.since.unwrap_or(at.0) };
        mark(&mut row, &key, (&counts, since), find);
        if links == 0 {
            self.live.swap_remove(&key);
        } else {
            let Counts { process, translated, .. } = counts;
            self.live.insert(key, Live { links, process, translated, told_in: number });
        }
        row
    }

    /// Ends of connections whose beginning is in a later minute, by clocks that differ a little:
    /// they are counted there. What has no beginning at all is in no row.
    fn end_later(&mut self, key: &Key, mut ends: u64) {
        let due = self.due.iter_mut().skip(1).map(|due| &mut due.keys);
        for keys in due.chain(self.minutes.values_mut()) {
            let Some(counts) = keys.get_mut(key) else { continue };
            let room = counts.established.saturating_sub(counts.terminated).min(ends);
            counts.terminated += room;
            self.stats.row_changes_late.add(room);
            ends -= room;
        }
        self.stats.row_ends_unmatched.add(ends);
    }

    fn row(
        &self,
        at: (Timestamp, u64),
        key: &Key,
        counts: &Counts,
        links_live: u64,
    ) -> ConnectionRow {
        let (time, round) = at;
        let process = &counts.process;
        let (source, destination) = (key.source.to_string(), key.destination.to_string());
        let resource = self.identity.resource();
        let machine = self.identity.machine();
        let process_id = self.identity.process(&key.executable);
        let (port, start, again) =
            (key.destination_port.to_string(), time.to_string(), round.to_string());
        let mut parts = vec![
            machine.as_str(),
            &process_id,
            key.direction.as_str(),
            key.protocol.as_str(),
            &source,
            &destination,
            &port,
            &start,
        ];
        parts.extend((round > 0).then_some(again.as_str()));
        let connection_id = stable_id(&parts);
        let [responses, response_time_min, response_time_max, response_time_sum] =
            counts.responses.columns();
        ConnectionRow {
            time_generated: time,
            computer: self.identity.computer.to_string(),
            agent_id: self.identity.agent_id.clone(),
            machine,
            process: process_id,
            process_name: process.name.clone(),
            connection_id,
            direction: key.direction.as_str().to_owned(),
            protocol: key.protocol.as_str().to_owned(),
            remote_ip: key.peer(None).address.to_string(),
            source_ip: source,
            destination_ip: destination,
            destination_port: key.destination_port,
            links_established: counts.established,
            links_terminated: counts.terminated,
            links_failed: counts.failed,
            links_live,
            bytes_sent: counts.bytes_sent.min(LONG_MAX),
            bytes_received: counts.bytes_received.min(LONG_MAX),
            responses,
            response_time_min,
            response_time_max,
            response_time_sum,
            source_system: SOURCE_SYSTEM.to_owned(),
            resource_id: resource.id,
            subscription_id: resource.subscription,
            r#type: ConnectionRow::TABLE.name.to_owned(),
            process_id: process.pid,
            process_path: process.path.clone(),
            command_line: process.command_line.clone(),
            user_name: process.user_name.clone(),
            parent_process_name: process.parent_name.clone(),
            container_id: process.container_id.clone(),
            rtt_min_us: counts.rtt_us.map(|(min, _)| min),
            rtt_max_us: counts.rtt_us.map(|(_, max)| max),
            ..ConnectionRow::default()
        }
    }
}
