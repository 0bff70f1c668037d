//! The loss ledger: what the kernel half attempted, what arrived, and what is known to be lost.

use jiff::{SignedDuration, Timestamp};

use crate::capture::{Capture, KernelLedger};
use crate::stats::Stats;

/// Losses are told at most this often.
const TELL_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// Tells losses while the agent runs, folded.
#[derive(Debug, Default)]
pub(super) struct LossLog {
    looked: Option<Timestamp>,
    told: KernelLedger,
}

impl LossLog {
    /// Reads the counters when it is time; warns when losses have grown.
    pub(super) fn look(&mut self, capture: &Capture, stats: &Stats, now: Timestamp) {
        if self.looked.is_some_and(|looked| now.duration_since(looked).abs() < TELL_EVERY) {
            return;
        }
        self.looked = Some(now);
        let Ok(ledger) = capture.ledger() else { return };
        let (told, since) = (self.told, |now: u64, before: u64| now.saturating_sub(before));
        let tcp = since(ledger.tcp_ring_full, told.tcp_ring_full);
        let process = since(ledger.process_ring_full, told.process_ring_full);
        let pending = since(ledger.accept_pending_full, told.accept_pending_full);
        let udp = since(ledger.udp_ring_full, told.udp_ring_full);
        let uncounted = since(ledger.udp_uncounted, told.udp_uncounted);
        if tcp + process + pending + udp + uncounted > 0 {
            tracing::warn!(
                tcp_records = tcp,
                process_records = process,
                udp_records = udp,
                udp_uncounted = uncounted,
                accept_pending = pending,
                discarded = stats.records_discarded_decode.value(),
                "records lost since the last such line: the ring is too small or the CPU too \
                 busy; see capture.ring_bytes"
            );
        }
        self.told = ledger;
    }
}

/// Logs the ledger at the end, when nothing is under way: attempted = received + ring full.
pub(super) fn log_closed(ledger: &KernelLedger, stats: &Stats) {
    tracing::info!(
        tcp_attempted = ledger.tcp_attempted,
        tcp_received = stats.tcp_records_received.value(),
        tcp_ring_full = ledger.tcp_ring_full,
        process_attempted = ledger.process_attempted,
        process_received = stats.process_records_received.value(),
        process_ring_full = ledger.process_ring_full,
        udp_attempted = ledger.udp_attempted,
        udp_received = stats.udp_records_received.value(),
        udp_ring_full = ledger.udp_ring_full,
        udp_uncounted = ledger.udp_uncounted,
        udp_flows_evicted = stats.udp_flows_evicted.value(),
        discarded = stats.records_discarded_decode.value(),
        accept_pending_full = ledger.accept_pending_full,
        read_failed = ledger.read_failed,
        "ledger"
    );
}
