//! The pipeline: all stages in the order of the path, on one thread, with one clock.
//!
//! Between the ring (queue 1) and the outbox (queue 2) every stage is a plain call: nothing waits,
//! nothing is lost but by a counter.

mod agent;
mod banner;
mod ledger;
mod look;
mod namespaces;
mod record;
mod self_test;
mod translations;
mod watch;

pub use agent::run;
pub use record::record;
pub use self_test::{SelfTest, self_test};

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::aggregate::{Change, ConnectionTable, Look, Row, RowTable, What};
use crate::capture::{OpenSocket, OpenSockets};
use crate::clock::BootClock;
use crate::config::Config;
use crate::decode::{self, Record};
use crate::dedup::{Alert, Dedup};
use crate::enrich::{Enricher, Holders};
use crate::matcher::Matcher;
use crate::stats::Stats;

/// Where alerts and rows go: the sinks, or the output of a replay.
pub trait Outlet {
    /// Takes an alert; must not wait.
    fn alert(&mut self, alert: Alert);
    /// Takes the rows of one or more minutes; must not wait.
    fn rows(&mut self, rows: Vec<Row>);
}

/// The stages behind the connection table: the same for the live path and for replay.
#[derive(Debug)]
pub struct Detection {
    /// `None` where no rows are wanted.
    pub rows: Option<RowTable>,
    /// Flow to Hit.
    pub matcher: Matcher,
    /// Hit to Alert.
    pub dedup: Dedup,
    /// Scratch, kept to spare allocations.
    alerts: Vec<Alert>,
    stats: Arc<Stats>,
}

impl Detection {
    /// Puts the stages together.
    pub fn new(rows: Option<RowTable>, matcher: Matcher, dedup: Dedup, stats: Arc<Stats>) -> Self {
        Self { rows, matcher, dedup, alerts: Vec::new(), stats }
    }

    /// aggregate (rows) → matcher → dedup → deliver, for one change.
    pub fn observe(&mut self, change: &Change, outlet: &mut dyn Outlet) {
        if let Some(rows) = &mut self.rows {
            rows.observe(change);
        }
        if change.what == What::Established {
            return;
        }
        if change.what == What::Opened {
            self.stats.flows_observed.increment();
        }
        for hit in self.matcher.hits(&change.flow) {
            self.dedup.admit(&hit, &change.flow, &mut self.alerts);
        }
        for alert in self.alerts.drain(..) {
            outlet.alert(alert);
        }
    }

    /// What time alone brings about: minutes and windows that end.
    pub fn tick(&mut self, now: Timestamp, outlet: &mut dyn Outlet) {
        self.dedup.expire(now, &mut self.alerts);
        for alert in self.alerts.drain(..) {
            outlet.alert(alert);
        }
        let rows = self.rows.as_mut().map(|rows| rows.close_until(now)).unwrap_or_default();
        if !rows.is_empty() {
            outlet.rows(rows);
        }
    }

    /// The end of the input: every window and minute is closed.
    pub fn finish(&mut self, outlet: &mut dyn Outlet) {
        self.dedup.close_all(&mut self.alerts);
        for alert in self.alerts.drain(..) {
            outlet.alert(alert);
        }
        let rows = self.rows.as_mut().map(RowTable::close_all).unwrap_or_default();
        if !rows.is_empty() {
            outlet.rows(rows);
        }
    }
}

/// From the kernel's bytes to changes of connections.
#[derive(Debug)]
pub struct Intake {
    enricher: Enricher,
    connections: ConnectionTable,
    drops_per_million: u32,
    stats: Arc<Stats>,
}

impl Intake {
    /// Puts the stages together.
    pub fn new(enricher: Enricher, connections: ConnectionTable, stats: Arc<Stats>) -> Self {
        Self { enricher, connections, drops_per_million: 0, stats }
    }

    /// Leaves out a share of the records, unread: `per_million` of a million on average.
    #[must_use]
    pub fn with_drops(self, per_million: u32) -> Self {
        Self { drops_per_million: per_million, ..self }
    }

    /// decode → enrich → aggregate, for one record; what it changes is appended to `changes`.
    pub fn record(&mut self, bytes: &[u8], clock: &BootClock, changes: &mut Vec<Change>) {
        self.stats.records_received.increment();
        if self.drops_per_million > 0 && fastrand::u32(..1_000_000) < self.drops_per_million {
            self.stats.records_dropped_simulated.increment();
            return;
        }
        match decode::record(bytes) {
            Ok(Record::Exec(exec)) => {
                let image = self.enricher.exec(exec);
                self.connections.image_replaced(&image);
            }
            Ok(record) => {
                if let Some(event) = self.enricher.event(record, clock) {
                    self.connections.observe(event, changes);
                }
            }
            Err(error) => {
                self.stats.records_discarded_decode.increment();
                tracing::debug!(%error, "record discarded");
            }
        }
    }

    /// A look at what is open is about to begin; gives the namespaces that it should go to
    /// (`None`: all).
    pub fn look_begins(&mut self) -> Option<HashSet<u32>> {
        self.connections.look_begins();
        self.connections.namespaces()
    }

    /// enrich → aggregate, for what a look at `time` found. The ring must have been drained since.
    /// Gives the sockets that are to be looked at once more, with their holders.
    pub fn look(
        &mut self,
        (kind, time): (Look, Timestamp),
        open: &OpenSockets,
        holders: &Holders,
        changes: &mut Vec<Change>,
    ) -> Vec<OpenSocket> {
        let enricher = &mut self.enricher;
        let mut owner = |inode| holders.get(inode).and_then(|holder| enricher.holder(holder));
        self.connections.look(open, (kind, time), &mut owner, changes)
    }

    /// Connections that have waited long enough at `now_boot_ns`.
    pub fn expire(&mut self, now_boot_ns: u64, changes: &mut Vec<Change>) {
        self.connections.expire(now_boot_ns, changes);
    }

    /// The end: nothing waits any longer.
    fn finish(&mut self, changes: &mut Vec<Change>) {
        self.expire(u64::MAX, changes);
        self.stats.connections_left.add(self.connections.len() as u64);
    }
}

/// The `Computer` column: the configured name, or the host's own.
fn computer(config: &Config) -> Arc<str> {
    let own = || hostname::get().map(|name| name.to_string_lossy().into_owned());
    match &config.agent.computer {
        Some(name) => name.as_str().into(),
        None => own().unwrap_or_default().into(),
    }
}
