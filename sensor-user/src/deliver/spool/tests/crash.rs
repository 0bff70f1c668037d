//! Crashes, kills and disk errors at any step.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{RecoveredState, SpoolConfig};
use super::sim::Refuses;
use super::sim::SimDisk;
use super::{DrivenSpool, SINKS, SMALL, id, read_from};
use crate::pipeline::dedup::DedupState;

#[derive(Debug, Clone)]
enum Step {
    /// Number of alerts, and whether a state is with them.
    Put(u8, bool),
    /// Sink, and number of alerts that it acknowledges.
    Acknowledge(usize, u8),
    Refuse(Refuses),
    Advance(u8),
    Kill,
    /// The machine stops after this number of changes; the seed chooses what is left of them.
    Crash(u8, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let refuses = prop_oneof![
        2 => Just(Refuses::Nothing),
        1 => (1_usize..40_000).prop_map(Refuses::Room),
        1 => Just(Refuses::Writes),
        1 => Just(Refuses::Syncs),
    ];
    prop_oneof![
        12 => (0_u8..6, any::<bool>()).prop_map(|(alerts, state)| Step::Put(alerts, state)),
        5 => (0..SINKS.len(), 1_u8..20).prop_map(|(sink, count)| Step::Acknowledge(sink, count)),
        3 => refuses.prop_map(Step::Refuse),
        3 => (0_u8..3).prop_map(Step::Advance),
        1 => Just(Step::Kill),
        2 => (0_u8..12, any::<u64>()).prop_map(|(after, seed)| Step::Crash(after, seed)),
    ]
}

/// Expected state.
#[derive(Debug, Default)]
struct Model {
    next_id: u64,
    /// Id of each alert that is known to be on disk, by its number.
    durable: BTreeMap<u64, u64>,
    /// Number up to which each sink acknowledged, in any run.
    acknowledged: [u64; SINKS.len()],
    /// Last state, and the last that is known to be on disk.
    state: u64,
    durable_state: u64,
    /// State that was put with an alert.
    states: BTreeMap<u64, u64>,
    /// True after a crash: later changes may be there without earlier ones.
    crashed: bool,
    /// True if the spool is so small that it evicts alerts.
    is_evicted: bool,
}

fn bytes(state: u64) -> Vec<u8> {
    state.to_le_bytes().to_vec()
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

impl Model {
    fn put(&mut self, driven: &mut DrivenSpool, alerts: u8, with_state: bool) {
        let ids: Vec<u64> = (self.next_id..).take(alerts.into()).collect();
        self.next_id += u64::from(alerts);
        let state = with_state.then(|| {
            self.state += 1;
            let is_snapshot = driven.spool.wants_snapshot();
            let state = bytes(self.state);
            if is_snapshot { DedupState::Snapshot(state) } else { DedupState::Change(state) }
        });
        // A change after a gap is dropped.
        let follows = !driven.writer.state_gap || matches!(state, Some(DedupState::Snapshot(_)));
        if with_state && follows {
            self.states.extend(ids.iter().map(|id| (*id, self.state)));
        }
        driven.put(ids, state);
        self.record_durable(driven);
    }

    /// Records the alerts that are known to be on disk.
    fn record_durable(&mut self, driven: &DrivenSpool) {
        let index = driven.writer.shared.index();
        let durable = index.durable;
        let is_whole = driven.writer.is_synced() && !driven.writer.state_gap;
        drop(index);
        let from = *self.acknowledged.iter().min().unwrap();
        for stored in read_from(&driven.writer.shared, from) {
            if stored.sequence < durable {
                let before = self.durable.insert(stored.sequence, id(&stored));
                assert!(before.is_none_or(|before| before == id(&stored)), "number used twice");
            }
        }
        if is_whole {
            self.durable_state = self.state;
        }
    }

    fn acknowledge(&mut self, driven: &mut DrivenSpool, sink: usize, count: u8) {
        let unsettled = driven.pending_alerts(SINKS[sink]);
        let Some(last) = unsettled.get(usize::from(count).min(unsettled.len()).wrapping_sub(1))
        else {
            return;
        };
        self.acknowledged[sink] = last.sequence + 1;
        driven.acknowledge(SINKS[sink], last.sequence + 1);
    }

    /// Compares the spool after a restart.
    fn check(&mut self, driven: &DrivenSpool, recovered: &RecoveredState, is_crash: bool) {
        self.crashed |= is_crash;
        if self.is_evicted {
            let oldest = driven.writer.shared.index().segments.front().map_or(0, |it| it.first);
            self.durable = self.durable.split_off(&oldest);
        }
        for (sink, name) in SINKS.iter().enumerate() {
            let unsettled = driven.pending_alerts(name);
            let sequences: Vec<u64> = unsettled.iter().map(|it| it.sequence).collect();
            assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
            let read: BTreeMap<u64, u64> =
                unsettled.iter().map(|it| (it.sequence, id(it))).collect();
            for (sequence, id) in self.durable.range(self.acknowledged[sink]..) {
                assert_eq!(read.get(sequence), Some(id), "{name}: {sequence} is lost");
            }
            for (sequence, id) in &read {
                let before = self.durable.get(sequence);
                assert!(before.is_none_or(|before| before == id), "{name}: {sequence} is another");
            }
        }
        let mut last = recovered.snapshot.as_deref().map_or(0, number);
        for change in &recovered.changes {
            assert_eq!(number(change), last + 1, "{recovered:?}");
            last += 1;
        }
        // Without a snapshot in time, the state is evicted with its segment.
        let is_kept = last >= self.durable_state || self.is_evicted;
        assert!(is_kept, "{last} of {}", self.durable_state);
        assert!(last <= self.state);
        let must_agree = !self.crashed && !self.is_evicted;
        for stored in driven.pending_alerts("a").iter().filter(|_| must_agree) {
            let state = self.states.get(&id(stored)).copied().unwrap_or(0);
            assert!(state <= last, "{} has no state {state}", id(stored));
        }
        self.state = last;
        self.durable_state = last;
        // Cursors are not synced: a sink may get acknowledged alerts again.
        for (sink, status) in self.acknowledged.iter_mut().zip(driven.status().sinks) {
            *sink = (*sink).min(status.cursor);
        }
        // These alerts survive a kill, but not yet every crash.
        self.record_durable(driven);
    }
}

fn run(steps: Vec<Step>, config: &SpoolConfig, is_evicted: bool) {
    let disk = SimDisk::new();
    let (mut driven, _) = DrivenSpool::open(&disk, config);
    let mut model = Model { is_evicted, ..Model::default() };
    // A segment, a commit, and two files of cursors.
    let max = config.max_bytes + config.segment_bytes + (10 << 10);
    for step in steps {
        assert!(disk.used() as u64 <= max, "{} of {max} bytes", disk.used());
        match step {
            Step::Put(alerts, state) => model.put(&mut driven, alerts, state),
            Step::Acknowledge(sink, count) => model.acknowledge(&mut driven, sink, count),
            Step::Refuse(refuses) => disk.refuse(refuses),
            Step::Advance(secs) => {
                driven.advance(secs.into());
                model.record_durable(&driven);
            }
            Step::Kill => {
                disk.kill();
                let (again, recovered) = driven.reopen();
                driven = again;
                model.check(&driven, &recovered, false);
            }
            Step::Crash(after, seed) => {
                disk.stop_after(after.into());
                for alerts in [1, 0, 3, 0] {
                    model.put(&mut driven, alerts, true);
                    driven.advance(1);
                }
                disk.crash(seed);
                let (again, recovered) = driven.reopen();
                driven = again;
                model.check(&driven, &recovered, true);
            }
        }
    }
    // The spool works again without a restart.
    disk.refuse(Refuses::Nothing);
    driven.advance(2);
    model.put(&mut driven, 1, true);
    assert_eq!(driven.status().error, None);
    assert!(driven.writer.is_synced());
    let (driven, recovered) = driven.reopen();
    model.check(&driven, &recovered, false);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_synced_alert_is_lost(steps in prop::collection::vec(step(), 1..60)) {
        run(steps, &SMALL, false);
    }

    #[test]
    fn the_size_on_disk_is_bounded(steps in prop::collection::vec(step(), 1..120)) {
        run(steps, &SpoolConfig { max_bytes: 24 << 10, ..SMALL }, true);
    }
}

/// Short form of a failure that both properties found.
#[test]
fn errors_before_a_crash_repeat_no_number() {
    for seed in 10_142_272_797_316_446_000..10_142_272_797_316_446_800 {
        let steps = vec![
            Step::Put(2, false),
            Step::Put(2, false),
            Step::Refuse(Refuses::Syncs),
            Step::Acknowledge(1, 4),
            Step::Acknowledge(0, 4),
            Step::Put(1, false),
            Step::Refuse(Refuses::Writes),
            Step::Advance(0),
            Step::Advance(0),
            Step::Crash(0, seed),
        ];
        run(steps, &SMALL, false);
    }
}
