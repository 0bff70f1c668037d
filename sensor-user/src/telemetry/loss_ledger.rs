//! The loss ledger: records attempted by the BPF programs, records received, and all known losses by
//! kind and reason. While the agent runs, losses are reported as log lines and as agent events,
//! summed over at least ten seconds.

use jiff::{SignedDuration, Timestamp};

use crate::base::counters::{KernelCounters, LOSSES, Stats};
use crate::schema::agent_event::{AgentEvent, AgentIdentity, Loss};

/// Minimum interval between two reports.
const REPORT_INTERVAL: SignedDuration = SignedDuration::from_secs(10);
/// Interval between reads of the counters, and so the resolution of a loss's time range.
const READ_INTERVAL: SignedDuration = SignedDuration::from_secs(1);

/// Losses of one kind and reason since the agent started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossCount {
    /// Lost items: `tcp`, `connection`, `alert`, …
    pub kind: &'static str,
    /// Reason: `ring_full`, `table_full`, …
    pub reason: &'static str,
    /// Number of lost items.
    pub count: u64,
}

/// Returns every counted loss, including those with count 0, in a constant order.
pub fn losses(kernel: &KernelCounters, stats: &Stats) -> Vec<LossCount> {
    let counters = kernel.snapshot().chain(stats.snapshot());
    let losses = counters.filter_map(|(counter, count)| {
        let [kind, reason] = *counter.labels_in(&LOSSES)? else { return None };
        Some(LossCount { kind, reason, count })
    });
    losses.collect()
}

/// Reports losses while the agent runs.
#[derive(Debug)]
pub(crate) struct LossReporter {
    identity: AgentIdentity,
    last_read: Timestamp,
    last_report: Timestamp,
    /// One entry for each of [`losses`], in its order.
    tallies: Vec<Tally>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    count: u64,
    reported: u64,
    /// Time range of the losses since the last report: after the first time, until the second.
    range: Option<(Timestamp, Timestamp)>,
}

impl LossReporter {
    /// Begins at `now` with nothing lost.
    pub(crate) const fn new(identity: AgentIdentity, now: Timestamp) -> Self {
        Self { identity, last_read: now, last_report: now, tallies: Vec::new() }
    }

    /// Reads the counters if their interval is over, and returns events if a report is pending and
    /// its interval is over.
    pub(crate) fn poll(
        &mut self,
        kernel: impl FnOnce() -> Option<KernelCounters>,
        stats: &Stats,
        now: Timestamp,
    ) -> Vec<AgentEvent> {
        if now.duration_since(self.last_read).abs() < READ_INTERVAL {
            return Vec::new();
        }
        let Some(kernel) = kernel() else { return Vec::new() };
        let losses = self.read(&kernel, stats, now);
        let is_pending = self.tallies.iter().any(|tally| tally.count > tally.reported);
        if !is_pending || now.duration_since(self.last_report).abs() < REPORT_INTERVAL {
            return Vec::new();
        }
        self.report(losses, now)
    }

    /// Returns events for all losses that are not reported yet.
    pub(crate) fn finish(
        &mut self,
        kernel: &KernelCounters,
        stats: &Stats,
        now: Timestamp,
    ) -> Vec<AgentEvent> {
        let losses = self.read(kernel, stats, now);
        self.report(losses, now)
    }

    fn read(&mut self, kernel: &KernelCounters, stats: &Stats, now: Timestamp) -> Vec<LossCount> {
        let losses = losses(kernel, stats);
        self.tallies.resize(losses.len(), Tally::default());
        for (tally, loss) in self.tallies.iter_mut().zip(&losses) {
            if loss.count > tally.count {
                let begin = tally.range.map_or(self.last_read, |(begin, _)| begin);
                tally.range = Some((begin, now));
                tally.count = loss.count;
            }
        }
        self.last_read = now;
        losses
    }

    fn report(&mut self, losses: Vec<LossCount>, now: Timestamp) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        let mut summary = Vec::new();
        for (tally, LossCount { kind, reason, .. }) in self.tallies.iter_mut().zip(losses) {
            let Some((first_seen, last_seen)) = tally.range.take() else { continue };
            let count = tally.count.saturating_sub(tally.reported);
            tally.reported = tally.count;
            summary.push(format!("{kind} {reason} {count}"));
            events.push(AgentEvent::Loss(Loss {
                time_generated: last_seen,
                computer: self.identity.computer.clone(),
                agent_id: self.identity.agent_id.clone(),
                first_seen,
                last_seen,
                reason: reason.to_owned(),
                kind: kind.to_owned(),
                count,
            }));
        }
        if !summary.is_empty() {
            self.last_report = now;
            tracing::error!(losses = %summary.join(", "), "data lost since the last such line");
        }
        events
    }
}

/// Logs the ledger at shutdown, when no record is in flight. It balances: the records attempted, over
/// all kinds, are those `received` plus those lost as `ring_full`; those received are the sum of all
/// kinds plus those `discarded` or dropped as `simulated`. Runs that are `missed` were not attempted:
/// the kernel did not run the program, which would have written one record at most.
pub(crate) fn log_final(kernel: &KernelCounters, stats: &Stats) {
    tracing::info!(
        tcp_attempted = kernel.tcp_attempted,
        tcp_received = stats.tcp_records_received.value(),
        tcp_ring_full = kernel.tcp_ring_full,
        tcp_missed = kernel.tcp_missed,
        process_attempted = kernel.process_attempted,
        process_received = stats.process_records_received.value(),
        process_ring_full = kernel.process_ring_full,
        process_missed = kernel.process_missed,
        udp_attempted = kernel.udp_attempted,
        udp_received = stats.udp_records_received.value(),
        udp_ring_full = kernel.udp_ring_full,
        udp_missed = kernel.udp_missed,
        udp_uncounted = kernel.udp_uncounted,
        udp_flows_evicted = stats.udp_flows_evicted.value(),
        dns_attempted = kernel.dns_attempted,
        dns_received = stats.dns_records_received.value(),
        dns_ring_full = kernel.dns_ring_full,
        dns_over_rate = kernel.dns_over_rate,
        received = stats.records_received.value(),
        discarded = stats.records_discarded_decode.value(),
        simulated = stats.records_dropped_simulated.value(),
        accept_pending_evicted = kernel.accept_pending_evicted,
        read_failed = kernel.read_failed,
        processes_read_from_proc = stats.processes_read_from_proc.value(),
        processes_unknown = stats.processes_unknown.value(),
        processes_evicted = stats.processes_evicted.value(),
        connections_without_open = stats.connections_without_open.value(),
        connections_without_close = stats.connections_without_close.value(),
        connections_evicted = stats.connections_evicted.value(),
        connections_abandoned = stats.connections_abandoned.value(),
        "ledger"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// First and last second, reason and count of each loss.
    fn reported(events: &[AgentEvent]) -> Vec<(i64, i64, &str, u64)> {
        let each = events.iter().filter_map(|event| {
            let AgentEvent::Loss(loss) = event else { return None };
            let (first, last) = (loss.first_seen.as_second(), loss.last_seen.as_second());
            Some((first, last, loss.reason.as_str(), loss.count))
        });
        each.collect()
    }

    #[test]
    fn a_loss_is_reported_with_its_time_every_ten_seconds_and_at_the_end() {
        let stats = Stats::default();
        let mut reporter = LossReporter::new(AgentIdentity::default(), at(100));
        let mut kernel = KernelCounters::default();
        let mut poll = |lost: u64, now: i64| {
            kernel.tcp_ring_full += lost;
            let events = reporter.poll(|| Some(kernel), &stats, at(now));
            reported(&events).iter().map(|it| (it.0, it.1, it.3)).collect::<Vec<_>>()
        };
        assert_eq!(poll(0, 101), []);
        assert_eq!(poll(3, 105), []);
        assert_eq!(poll(2, 106), []);
        assert_eq!(poll(0, 110), [(101, 106, 5)]);
        assert_eq!(poll(1, 111), []);
        assert_eq!(poll(0, 119), []);
        assert_eq!(poll(0, 120), [(110, 111, 1)]);
        assert_eq!(poll(0, 200), []);
        stats.records_dropped_simulated.add(7);
        let events = reporter.finish(&kernel, &stats, at(201));
        assert_eq!(reported(&events), [(200, 201, "simulated", 7)]);
        let id = events[0].id();
        assert_eq!(id, events[0].clone().id());
        let json = serde_json::to_string(&events[0]).unwrap();
        assert!(json.starts_with("{\"Type\":\"NetsensorLoss\","), "{json}");
        assert_eq!(serde_json::from_str::<AgentEvent>(&json).unwrap(), events[0]);
    }
}
