//! Crashes, kills and disks that refuse, at any place.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{Recovered, SpoolConfig};
use super::sim::Refuses;
use super::sim::SimDisk;
use super::{Driven, SINKS, SMALL, id, read_from};
use crate::pipeline::dedup::DedupState;

#[derive(Debug, Clone)]
enum Step {
    /// So many alerts, with or without a state.
    Put(u8, bool),
    /// A sink settles so many of its next.
    Settle(usize, u8),
    Refuse(Refuses),
    Pass(u8),
    Kill,
    /// The machine stops after so many changes of the disk; what is left then is by chance.
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
        5 => (0..SINKS.len(), 1_u8..20).prop_map(|(sink, count)| Step::Settle(sink, count)),
        3 => refuses.prop_map(Step::Refuse),
        3 => (0_u8..3).prop_map(Step::Pass),
        1 => Just(Step::Kill),
        2 => (0_u8..12, any::<u64>()).prop_map(|(after, seed)| Step::Crash(after, seed)),
    ]
}

/// What must hold.
#[derive(Debug, Default)]
struct Model {
    next_id: u64,
    /// Id of each alert that is known to be on disk, by its number.
    durable: BTreeMap<u64, u64>,
    /// How far each sink settled, in this run or any before.
    settled: [u64; SINKS.len()],
    /// The last state that was put, and the last that is known to be on disk.
    state: u64,
    durable_state: u64,
    /// The state that was put with an alert.
    states: BTreeMap<u64, u64>,
    /// Of what was not synced, a later part may be there without an earlier.
    crashed: bool,
    /// Alerts leave a spool that is too small for them.
    is_evicted: bool,
}

fn bytes(state: u64) -> Vec<u8> {
    state.to_le_bytes().to_vec()
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

impl Model {
    fn put(&mut self, driven: &mut Driven, alerts: u8, with_state: bool) {
        let ids: Vec<u64> = (self.next_id..).take(alerts.into()).collect();
        self.next_id += u64::from(alerts);
        let state = with_state.then(|| {
            self.state += 1;
            let is_snapshot = driven.spool.wants_snapshot();
            let state = bytes(self.state);
            if is_snapshot { DedupState::Snapshot(state) } else { DedupState::Change(state) }
        });
        // A change that follows on nothing is not kept.
        let follows = !driven.log.state_gap || matches!(state, Some(DedupState::Snapshot(_)));
        if with_state && follows {
            self.states.extend(ids.iter().map(|id| (*id, self.state)));
        }
        driven.put(ids, state);
        self.note(driven);
    }

    /// What is known to be on disk now.
    fn note(&mut self, driven: &Driven) {
        let index = driven.log.shared.index();
        let durable = index.durable;
        let is_whole = driven.log.is_done() && !driven.log.state_gap;
        drop(index);
        let from = *self.settled.iter().min().unwrap();
        for stored in read_from(&driven.log.shared, from) {
            if stored.sequence < durable {
                let before = self.durable.insert(stored.sequence, id(&stored));
                assert!(before.is_none_or(|before| before == id(&stored)), "number given twice");
            }
        }
        if is_whole {
            self.durable_state = self.state;
        }
    }

    fn settle(&mut self, driven: &mut Driven, sink: usize, count: u8) {
        let unsettled = driven.unsettled(SINKS[sink]);
        let Some(last) = unsettled.get(usize::from(count).min(unsettled.len()).wrapping_sub(1))
        else {
            return;
        };
        self.settled[sink] = last.sequence + 1;
        driven.settle(SINKS[sink], last.sequence + 1);
    }

    /// After a restart.
    fn check(&mut self, driven: &Driven, recovered: &Recovered, is_crash: bool) {
        self.crashed |= is_crash;
        if self.is_evicted {
            let oldest = driven.log.shared.index().segments.front().map_or(0, |it| it.first);
            self.durable = self.durable.split_off(&oldest);
        }
        for (sink, name) in SINKS.iter().enumerate() {
            let unsettled = driven.unsettled(name);
            let sequences: Vec<u64> = unsettled.iter().map(|it| it.sequence).collect();
            assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
            let read: BTreeMap<u64, u64> =
                unsettled.iter().map(|it| (it.sequence, id(it))).collect();
            for (sequence, id) in self.durable.range(self.settled[sink]..) {
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
        // Where no snapshot came in time, the state goes with its segment.
        let is_kept = last >= self.durable_state || self.is_evicted;
        assert!(is_kept, "{last} of {}", self.durable_state);
        assert!(last <= self.state);
        let must_agree = !self.crashed && !self.is_evicted;
        for stored in driven.unsettled("a").iter().filter(|_| must_agree) {
            let state = self.states.get(&id(stored)).copied().unwrap_or(0);
            assert!(state <= last, "{} is there without its state {state}", id(stored));
        }
        self.state = last;
        self.durable_state = last;
        // Cursors are not synced: a sink may be sent again what it settled.
        for (sink, status) in self.settled.iter_mut().zip(driven.status().sinks) {
            *sink = (*sink).min(status.cursor);
        }
        // What is there now outlives a kill, but not yet every crash.
        self.note(driven);
    }
}

fn run(steps: Vec<Step>, config: &SpoolConfig, is_evicted: bool) {
    let disk = SimDisk::new();
    let (mut driven, _) = Driven::open(&disk, config);
    let mut model = Model { is_evicted, ..Model::default() };
    // A segment, a commit, and the cursors' file twice.
    let most = config.max_bytes + config.segment_bytes + (10 << 10);
    for step in steps {
        assert!(disk.used() as u64 <= most, "{} of {most} bytes", disk.used());
        match step {
            Step::Put(alerts, state) => model.put(&mut driven, alerts, state),
            Step::Settle(sink, count) => model.settle(&mut driven, sink, count),
            Step::Refuse(what) => disk.refuse(what),
            Step::Pass(secs) => {
                driven.pass(secs.into());
                model.note(&driven);
            }
            Step::Kill => {
                disk.kill();
                let (again, recovered) = driven.again();
                driven = again;
                model.check(&driven, &recovered, false);
            }
            Step::Crash(after, seed) => {
                disk.stop_after(after.into());
                for alerts in [1, 0, 3, 0] {
                    model.put(&mut driven, alerts, true);
                    driven.pass(1);
                }
                disk.crash(seed);
                let (again, recovered) = driven.again();
                driven = again;
                model.check(&driven, &recovered, true);
            }
        }
    }
    // All of it works again, without a restart.
    disk.refuse(Refuses::Nothing);
    driven.pass(2);
    model.put(&mut driven, 1, true);
    assert_eq!(driven.status().fault, None);
    assert!(driven.log.is_done());
    let (driven, recovered) = driven.again();
    model.check(&driven, &recovered, false);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_alert_is_lost_that_was_synced(steps in prop::collection::vec(step(), 1..60)) {
        run(steps, &SMALL, false);
    }

    #[test]
    fn the_disk_is_bounded_whatever_happens(steps in prop::collection::vec(step(), 1..120)) {
        run(steps, &SpoolConfig { max_bytes: 24 << 10, ..SMALL }, true);
    }
}

/// What two properties once found, in few steps.
#[test]
fn a_disk_that_refuses_before_a_crash_gives_no_number_twice() {
    for seed in 10_142_272_797_316_446_000..10_142_272_797_316_446_800 {
        let steps = vec![
            Step::Put(2, false),
            Step::Put(2, false),
            Step::Refuse(Refuses::Syncs),
            Step::Settle(1, 4),
            Step::Settle(0, 4),
            Step::Put(1, false),
            Step::Refuse(Refuses::Writes),
            Step::Pass(0),
            Step::Pass(0),
            Step::Crash(0, seed),
        ];
        run(steps, &SMALL, false);
    }
}
