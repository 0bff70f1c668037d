//! The counters' part of the metrics page, as declared in `base/counters/`.

use super::text::{FamilyKind, MetricsText};
use crate::base::counters::{KernelCounters, Stats};
use crate::telemetry::control::StatusReport;

/// Writes all counters, each shared family at its first counter.
pub(super) fn counters(text: &mut MetricsText, report: &StatusReport) {
    let value = |name: &str| report.counters.get(name).copied().unwrap_or(0);
    let declared = || KernelCounters::DECLARATIONS.iter().chain(Stats::DECLARATIONS);
    let mut written = Vec::new();
    for counter in declared() {
        if counter.family.is_empty() {
            let name = format!("netsensor_{}", counter.name);
            text.single(&name, FamilyKind::Counter, counter.help, value(counter.name));
        }
        for sample in counter.samples() {
            let shared = sample.family;
            if written.contains(&shared) {
                continue;
            }
            written.push(shared);
            let name = format!("netsensor_{}", shared.name);
            let mut family = text.family(&name, FamilyKind::Counter, shared.help);
            for member in declared() {
                if let Some(values) = member.labels_in(shared) {
                    let labels: Vec<_> =
                        shared.labels.iter().copied().zip(values.iter().copied()).collect();
                    family.sample(&labels, value(member.name));
                }
            }
        }
    }
}
