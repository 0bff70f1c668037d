//! Rows of closed minutes, built in batches: one call must neither block the pipeline nor overflow
//! the queues of the sinks.

use jiff::Timestamp;

use super::super::malicious::{FindIndicator, RowIndicator, RowRemote};
use super::RowTable;
use super::key::{LiveKey, MinuteCounts, RowKey};
use crate::base::collections::FastIndexMap;
use crate::base::stable_id::stable_id;
use crate::schema::{ConnectionRow, SOURCE_SYSTEM};

/// Minimum number of rows in a batch, if there are that many.
const BATCH_MIN: usize = 1000;
/// Maximum number of batches for the pending rows. The pipeline iterates about fifty times a
/// second, so that no row is pending for more than half a minute.
const BATCHES_MAX: usize = 1024;

/// Maximum of a column: columns are signed, and a recording can have any value.
pub(in super::super) const LONG_MAX: u64 = i64::MAX.cast_unsigned();

/// Start of a minute, and the number of clock steps back if it was closed before, else 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowTime {
    start: Timestamp,
    round: u64,
}

impl RowTime {
    pub(super) fn new(minute: i64, round: u64) -> Self {
        let start = Timestamp::from_second(minute.saturating_mul(60)).unwrap_or(Timestamp::MAX);
        Self { start, round }
    }
}

/// A closed minute with unbuilt rows.
#[derive(Debug)]
pub(super) struct ClosedMinute {
    time: RowTime,
    /// Number of the minute among the closed ones.
    number: u64,
    /// Keys with changes in the minute that have no row yet.
    keys: FastIndexMap<RowKey, MinuteCounts>,
    /// Number of live keys that were checked for a row, once `keys` is empty.
    checked: usize,
}

impl ClosedMinute {
    pub(super) const fn new(
        time: RowTime,
        number: u64,
        keys: FastIndexMap<RowKey, MinuteCounts>,
    ) -> Self {
        Self { time, number, keys, checked: 0 }
    }
}

/// Fills the malicious columns of a row whose connections were open from `since` on.
fn fill_indicator(
    row: &mut ConnectionRow,
    key: &RowKey,
    counts: &MinuteCounts,
    since: Timestamp,
    find: &FindIndicator<'_>,
) {
    // The address of the sockets, and the ends behind it.
    let mapped = counts.translated.iter().copied().map(Some);
    let found = mapped
        .chain(counts.translated.is_empty().then_some(None))
        .filter_map(|end| find(&RowRemote { peer: key.peer(end), since, pid: counts.process.pid }));
    if let Some(best) = found.max_by(RowIndicator::rank) {
        best.fill(row);
    }
}

impl RowTable {
    /// Builds the next batch of rows, in the order of the changes.
    pub(super) fn build_batch(&mut self, find: &FindIndicator<'_>) -> Vec<ConnectionRow> {
        let mut rows = Vec::new();
        let pending: usize =
            self.pending.iter().map(|minute| minute.keys.len() + self.live.len()).sum();
        let max = BATCH_MIN.max(pending.div_ceil(BATCHES_MAX));
        while rows.len() < max {
            let Some(minute) = self.pending.front_mut() else { break };
            let (time, number) = (minute.time, minute.number);
            if let Some((key, counts)) = minute.keys.pop() {
                rows.push(self.changed_row(key, counts, time, number, find));
            } else if let Some((key, live)) = self.live.get_index(minute.checked) {
                minute.checked += 1;
                if live.last_row_in < number {
                    let idle = MinuteCounts::new(&live.process);
                    let translated = live.translated.into_iter().collect();
                    let counts = MinuteCounts { translated, ..idle };
                    let mut row = self.row(time, key, &counts, live.links);
                    fill_indicator(&mut row, key, &counts, time.start, find);
                    rows.push(row);
                }
            } else {
                self.pending.pop_front();
            }
        }
        self.stats.rows_emitted.add(rows.len() as u64);
        rows
    }

    /// Row of a key with changes in a closed minute.
    fn changed_row(
        &mut self,
        key: RowKey,
        mut counts: MinuteCounts,
        time: RowTime,
        number: u64,
        find: &FindIndicator<'_>,
    ) -> ConnectionRow {
        let live = self.live.get(&key);
        let before = live.map_or(0, |live| live.links);
        if counts.translated.is_empty() {
            counts.translated.extend(live.and_then(|live| live.translated));
        }
        let open = before.saturating_add(counts.established);
        let unmatched = counts.terminated.saturating_sub(open);
        if unmatched > 0 {
            counts.terminated = open;
            self.move_closes(&key, unmatched);
        }
        let links = open.saturating_sub(counts.terminated);
        let mut row = self.row(time, &key, &counts, links);
        // Connections that were open before were open from the start of the minute on.
        let since = if before > 0 { time.start } else { counts.since.unwrap_or(time.start) };
        fill_indicator(&mut row, &key, &counts, since, find);
        if links == 0 {
            self.live.swap_remove(&key);
        } else {
            let translated = counts.translated.last().copied();
            let process = counts.process;
            self.live.insert(key, LiveKey { links, process, translated, last_row_in: number });
        }
        row
    }

    /// Moves closes to the later minute in which their connections opened: clocks differ a little. A
    /// close without an open is in no row.
    fn move_closes(&mut self, key: &RowKey, mut closes: u64) {
        let pending = self.pending.iter_mut().skip(1).map(|minute| &mut minute.keys);
        for keys in pending.chain(self.minutes.values_mut()) {
            let Some(counts) = keys.get_mut(key) else { continue };
            let room = counts.established.saturating_sub(counts.terminated).min(closes);
            counts.terminated += room;
            self.stats.row_changes_late.add(room);
            closes -= room;
        }
        self.stats.row_ends_unmatched.add(closes);
    }

    fn row(
        &self,
        time: RowTime,
        key: &RowKey,
        counts: &MinuteCounts,
        links_live: u64,
    ) -> ConnectionRow {
        let process = &counts.process;
        let (source, destination) = (key.source.to_string(), key.destination.to_string());
        let resource = self.identity.resource();
        let machine = self.identity.machine();
        let process_id = self.identity.process(&key.executable);
        let (port, start, round) =
            (key.destination_port.to_string(), time.start.to_string(), time.round.to_string());
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
        parts.extend((time.round > 0).then_some(round.as_str()));
        let connection_id = stable_id(&parts);
        let [responses, response_time_min, response_time_max, response_time_sum] =
            counts.responses.columns();
        ConnectionRow {
            time_generated: time.start,
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
