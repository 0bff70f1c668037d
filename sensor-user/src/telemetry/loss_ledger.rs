//! The loss ledger: what the kernel half attempted, what arrived, and what is known to be lost, by
//! reason. Losses are told while the agent runs, folded: in the log, and in band.

use jiff::{SignedDuration, Timestamp};

use crate::base::counters::Stats;
use crate::pipeline::capture::KernelLedger;
use crate::schema::notice::{Loss, Notice, Speaker};

/// Losses are told at most this often.
const TELL_EVERY: SignedDuration = SignedDuration::from_secs(10);
/// The counters are read this often: the time range of a loss is as exact.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(1);

/// Every loss that is counted: its reason, what was lost, and how much so far.
pub fn losses(ledger: &KernelLedger, stats: &Stats) -> Vec<(&'static str, &'static str, u64)> {
    vec![
        ("ring_full", "tcp", ledger.tcp_ring_full),
        ("ring_full", "process", ledger.process_ring_full),
        ("ring_full", "udp", ledger.udp_ring_full),
        ("probe_missed", "tcp", ledger.missed.tcp),
        ("probe_missed", "process", ledger.missed.process),
        ("probe_missed", "udp", ledger.missed.udp),
        ("map_full", "udp_datagram", ledger.udp_uncounted),
        ("ring_full", "dns", ledger.dns_ring_full),
        ("over_rate", "dns", ledger.dns_over_rate),
        ("table_full", "dns_name", stats.dns_names_evicted.value()),
        ("table_full", "udp_flow", stats.udp_flows_evicted.value()),
        ("map_full", "latency", stats.latency_evicted.value()),
        ("table_full", "open_socket", stats.sockets_dropped_full.value()),
        ("map_full", "accept_pending", ledger.accept_pending_evicted),
        ("simulated", "record", stats.records_dropped_simulated.value()),
        ("decode_error", "record", stats.records_discarded_decode.value()),
        ("table_full", "process", stats.processes_evicted.value()),
        ("table_full", "cgroup", stats.cgroups_evicted.value()),
        ("table_full", "connection", stats.connections_evicted.value()),
        ("table_full", "listener", stats.listeners_evicted.value()),
        ("table_full", "nat_lookup", stats.nat_lookups_evicted.value()),
        ("queue_full", "nat_lookup", stats.nat_lookups_dropped_queue_full.value()),
        ("table_full", "row_key", stats.row_keys_dropped_full.value()),
        ("queue_full", "alert", stats.alerts_dropped_queue_full.value()),
        ("queue_full", "row", stats.rows_dropped_queue_full.value()),
        ("rejected", "alert", stats.alerts_discarded_rejected.value()),
        ("rejected", "row", stats.rows_discarded_rejected.value()),
    ]
}

/// Tells losses while the agent runs, folded.
#[derive(Debug)]
pub(crate) struct LossLog {
    speaker: Speaker,
    looked: Timestamp,
    told: Timestamp,
    /// One for each of [`losses`], in its order.
    seen: Vec<Seen>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    count: u64,
    told: u64,
    /// When it grew since it was told: not before the first, not after the second.
    grew: Option<(Timestamp, Timestamp)>,
}

impl LossLog {
    /// Nothing is lost yet at `now`.
    pub(crate) const fn new(speaker: Speaker, now: Timestamp) -> Self {
        Self { speaker, looked: now, told: now, seen: Vec::new() }
    }

    /// Reads the counters when it is time; gives what is to be said when it is time for that.
    pub(crate) fn look(
        &mut self,
        ledger: impl FnOnce() -> Option<KernelLedger>,
        stats: &Stats,
        now: Timestamp,
    ) -> Vec<Notice> {
        if now.duration_since(self.looked).abs() < LOOK_EVERY {
            return Vec::new();
        }
        let Some(ledger) = ledger() else { return Vec::new() };
        self.read(&ledger, stats, now);
        let new = self.seen.iter().any(|seen| seen.count > seen.told);
        if !new || now.duration_since(self.told).abs() < TELL_EVERY {
            return Vec::new();
        }
        self.tell(&ledger, stats, now)
    }

    /// What is still to be said at the end.
    pub(crate) fn finish(
        &mut self,
        ledger: &KernelLedger,
        stats: &Stats,
        now: Timestamp,
    ) -> Vec<Notice> {
        self.read(ledger, stats, now);
        self.tell(ledger, stats, now)
    }

    fn read(&mut self, ledger: &KernelLedger, stats: &Stats, now: Timestamp) {
        let losses = losses(ledger, stats);
        self.seen.resize(losses.len(), Seen::default());
        for (seen, (_, _, count)) in self.seen.iter_mut().zip(losses) {
            if count > seen.count {
                seen.grew = Some((seen.grew.map_or(self.looked, |(first, _)| first), now));
                seen.count = count;
            }
        }
        self.looked = now;
    }

    fn tell(&mut self, ledger: &KernelLedger, stats: &Stats, now: Timestamp) -> Vec<Notice> {
        let names = losses(ledger, stats);
        let mut notices = Vec::new();
        let mut words = Vec::new();
        for (seen, (reason, kind, _)) in self.seen.iter_mut().zip(names) {
            let Some((first_seen, last_seen)) = seen.grew.take() else { continue };
            let count = seen.count.saturating_sub(seen.told);
            seen.told = seen.count;
            words.push(format!("{kind} {reason} {count}"));
            notices.push(Notice::Loss(Loss {
                time_generated: last_seen,
                computer: self.speaker.computer.clone(),
                agent_id: self.speaker.agent_id.clone(),
                first_seen,
                last_seen,
                reason: reason.to_owned(),
                kind: kind.to_owned(),
                count,
            }));
        }
        if !words.is_empty() {
            self.told = now;
            tracing::error!(losses = %words.join(", "), "lost since the last such line");
        }
        notices
    }
}

/// Logs the ledger at the end, when nothing is under way. It closes: what was attempted, over all
/// kinds, is `received` and what was `ring_full`; what was received is that of each kind and what
/// was `discarded` or dropped as `simulated`. What is `missed` was not attempted: the kernel did not
/// run the program, which would have told of at most that much.
pub(crate) fn log_closed(ledger: &KernelLedger, stats: &Stats) {
    tracing::info!(
        tcp_attempted = ledger.tcp_attempted,
        tcp_received = stats.tcp_records_received.value(),
        tcp_ring_full = ledger.tcp_ring_full,
        tcp_missed = ledger.missed.tcp,
        process_attempted = ledger.process_attempted,
        process_received = stats.process_records_received.value(),
        process_ring_full = ledger.process_ring_full,
        process_missed = ledger.missed.process,
        udp_attempted = ledger.udp_attempted,
        udp_received = stats.udp_records_received.value(),
        udp_ring_full = ledger.udp_ring_full,
        udp_missed = ledger.missed.udp,
        udp_uncounted = ledger.udp_uncounted,
        udp_flows_evicted = stats.udp_flows_evicted.value(),
        dns_attempted = ledger.dns_attempted,
        dns_received = stats.dns_records_received.value(),
        dns_ring_full = ledger.dns_ring_full,
        dns_over_rate = ledger.dns_over_rate,
        received = stats.records_received.value(),
        discarded = stats.records_discarded_decode.value(),
        simulated = stats.records_dropped_simulated.value(),
        accept_pending_evicted = ledger.accept_pending_evicted,
        read_failed = ledger.read_failed,
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

    /// First and last second, reason and count.
    fn told(notices: &[Notice]) -> Vec<(i64, i64, &str, u64)> {
        let each = notices.iter().filter_map(|notice| {
            let Notice::Loss(loss) = notice else { return None };
            let (first, last) = (loss.first_seen.as_second(), loss.last_seen.as_second());
            Some((first, last, loss.reason.as_str(), loss.count))
        });
        each.collect()
    }

    #[test]
    fn a_loss_is_told_with_its_time_at_most_every_ten_seconds_and_at_the_end() {
        let stats = Stats::default();
        let mut log = LossLog::new(Speaker::default(), at(100));
        let mut ledger = KernelLedger::default();
        let mut look = |lost: u64, now: i64| {
            ledger.tcp_ring_full += lost;
            let notices = log.look(|| Some(ledger), &stats, at(now));
            told(&notices).iter().map(|it| (it.0, it.1, it.3)).collect::<Vec<_>>()
        };
        assert_eq!(look(0, 101), []);
        assert_eq!(look(3, 105), []);
        assert_eq!(look(2, 106), []);
        assert_eq!(look(0, 110), [(101, 106, 5)]);
        assert_eq!(look(1, 111), []);
        assert_eq!(look(0, 119), []);
        assert_eq!(look(0, 120), [(110, 111, 1)]);
        assert_eq!(look(0, 200), []);
        stats.records_dropped_simulated.add(7);
        let notices = log.finish(&ledger, &stats, at(201));
        assert_eq!(told(&notices), [(200, 201, "simulated", 7)]);
        let id = notices[0].id();
        assert_eq!(id, notices[0].clone().id());
        let json = serde_json::to_string(&notices[0]).unwrap();
        assert!(json.starts_with("{\"Type\":\"NetsensorLoss\","), "{json}");
        assert_eq!(serde_json::from_str::<Notice>(&json).unwrap(), notices[0]);
    }
}
