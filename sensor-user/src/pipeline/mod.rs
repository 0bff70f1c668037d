//! The pipeline: all stages in the order of the path, on one thread, with one clock.
//!
//! Between the ring (queue 1) and the outbox (queue 2) every stage is a plain call: nothing waits,
//! nothing is lost but by a counter.

pub mod aggregate;
pub mod canary;
pub mod capture;
pub mod decode;
pub mod dedup;
pub mod enrich;
pub mod history;
pub mod matcher;
pub mod nat;
pub mod socket_scan;

mod ingest;
mod remote_facts;

pub use ingest::Ingest;

pub use remote_facts::RemoteFacts;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::base::counters::Stats;
use crate::schema::{ConnectionRow, TableRow};
use aggregate::{Change, ChangeKind, HostTables, HostView, RowRemote, RowTable};
use dedup::{Alert, Dedup, DedupState};
use enrich::DnsAnswer;
use history::History;
use matcher::Matcher;

/// The history is looked through at least so often.
const LOOK_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// Counts of windows are given away at least so often.
const SAVE_EVERY: SignedDuration = SignedDuration::from_millis(100);

/// Where alerts and rows go: the sinks, or the output of a replay.
pub trait PipelineOutput {
    /// Takes alerts, and with them the state that dedup has after them; must not wait. Both are kept
    /// as one.
    fn alerts(&mut self, alerts: Vec<Alert>, state: Option<DedupState>);
    /// Takes the rows of one or more minutes; must not wait.
    fn rows(&mut self, rows: Vec<TableRow>);
    /// Whether all alerts and states so far are written: they survive the agent.
    fn is_written(&self) -> bool {
        true
    }
    /// Whether dedup's state is wanted as a whole, not what has changed of it.
    fn wants_snapshot(&self) -> bool {
        false
    }
}

/// The stages behind the connection table: the same for the live path and for replay.
#[derive(Debug)]
pub struct Detection {
    /// `None` where no rows are wanted.
    pub rows: Option<RowTable>,
    /// `None` where no rows are wanted, and in a replay: a recording does not say what listened.
    pub host: Option<HostTables>,
    /// Flow to Hit.
    pub matcher: Matcher,
    /// For indicators that come later; `None` in a replay, whose indicators are all there.
    pub history: Option<History>,
    /// Hit to Alert.
    pub dedup: Dedup,
    /// Names and places of remote addresses, for rows and alerts.
    pub facts: RemoteFacts,
    /// Scratch, kept to spare allocations.
    alerts: Vec<Alert>,
    /// When the history was last looked through.
    looked: Timestamp,
    /// When dedup's state was last given away.
    saved: Timestamp,
    pub(crate) stats: Arc<Stats>,
}

impl Detection {
    /// Puts the stages together.
    pub fn new(
        rows: Option<RowTable>,
        matcher: Matcher,
        history: Option<History>,
        dedup: Dedup,
        stats: Arc<Stats>,
    ) -> Self {
        let facts = RemoteFacts::usual(&stats);
        Self {
            rows,
            host: None,
            matcher,
            history,
            dedup,
            facts,
            alerts: Vec::new(),
            looked: Timestamp::MIN,
            saved: Timestamp::MIN,
            stats,
        }
    }

    /// Takes in what a name resolved to: connections from now on have it.
    pub fn resolved(&mut self, answer: &DnsAnswer) {
        self.facts.learn(answer);
    }

    /// Name of each table, its entries, and how many there may be.
    pub(crate) fn tables(&self) -> Vec<(&'static str, (usize, usize))> {
        let mut tables = vec![("dns_names", self.facts.names())];
        tables.extend(self.rows.as_ref().map(|rows| ("row_keys", rows.occupancy())));
        tables.extend(self.history.as_ref().map(|history| ("history", history.occupancy())));
        tables.push(("dedup_windows", (self.dedup.len(), self.dedup.max_keys())));
        tables
    }

    /// Also makes the rows that tell of the host itself.
    #[must_use]
    pub fn with_host(self, host: Option<HostTables>) -> Self {
        Self { host, ..self }
    }

    /// The beginning of a turn: what was raised before it is noted where it is safe by now. Only
    /// what is raised counts as told after a kill; a disk that takes no alerts for long is not
    /// waited for.
    pub fn begin(&mut self, output: &dyn PipelineOutput) {
        let is_written = output.is_written();
        if let Some(history) = self.history.as_mut().filter(|it| is_written || it.must_flush()) {
            history.flush();
        }
    }

    /// aggregate (rows) → matcher → dedup → deliver, for one change.
    pub fn observe(&mut self, change: &Change, output: &mut dyn PipelineOutput) {
        let minute = self.rows.as_mut().and_then(|rows| rows.observe(change));
        if let Some(host) = &mut self.host {
            host.observe(change, minute);
        }
        if change.kind == ChangeKind::Established {
            return;
        }
        if change.kind == ChangeKind::Opened {
            self.stats.flows_observed.increment();
        }
        let flow = &change.flow;
        let mut hits = self.matcher.hits(flow);
        if let Some(history) = self.history.as_mut().filter(|_| !self.matcher.is_own(flow)) {
            if flow.phase.is_first_sight() {
                hits = history.record_connection(flow, hits);
            } else {
                history.record_traffic(flow);
            }
        }
        for hit in hits {
            self.dedup.admit(&hit, flow, &mut self.alerts);
        }
        self.send_alerts(output);
    }

    /// What time alone brings about: minutes and windows that end. Of many rows some come each
    /// time; see [`Self::is_behind`].
    pub fn tick(&mut self, now: Timestamp, output: &mut dyn PipelineOutput) {
        self.look_back(now);
        let find = |remote: &RowRemote| self.matcher.row_indicator(remote);
        let rows = self.rows.as_mut().map(|rows| rows.close_until(now, &find)).unwrap_or_default();
        self.dedup.expire(now, &mut self.alerts);
        self.send_alerts(output);
        if now.duration_since(self.saved).abs() >= SAVE_EVERY || output.wants_snapshot() {
            self.saved = now;
            self.save(Vec::new(), output);
        }
        self.begin(output);
        self.send_rows(rows, output);
    }

    /// Matches the connections of the look-back where there are new indicators; and each minute,
    /// for those that begin to be valid.
    fn look_back(&mut self, now: Timestamp) {
        let is_new = self.matcher.refresh();
        let Some(history) = &mut self.history else { return };
        let is_due = now.duration_since(self.looked) >= LOOK_EVERY || now < self.looked;
        if is_new || history.is_unmatched() || is_due {
            self.looked = now;
            let found = history.retro_matches(&self.matcher, now);
            self.dedup.raise_retro(found, &mut self.alerts);
        }
    }

    /// What time alone brings about for the tables of the host; after each [`Self::tick`].
    pub fn tick_host(
        &mut self,
        now: Timestamp,
        view: &mut dyn HostView,
        output: &mut dyn PipelineOutput,
    ) {
        let rows = self.host.as_mut().map(|host| host.close_until(now, view)).unwrap_or_default();
        if !rows.is_empty() {
            output.rows(rows);
        }
    }

    /// The end of the agent at `now`, whose minute is told as far as it has come; before
    /// [`Self::finish`].
    pub fn finish_host(
        &mut self,
        now: Timestamp,
        view: &mut dyn HostView,
        output: &mut dyn PipelineOutput,
    ) {
        if let Some(rows) = &mut self.rows {
            rows.close_through(now);
        }
        let rows = self.host.as_mut().map(|host| host.close_all(now, view)).unwrap_or_default();
        if !rows.is_empty() {
            output.rows(rows);
        }
    }

    /// Whether rows are due that are not made yet: the next tick makes some.
    pub fn is_behind(&self) -> bool {
        self.rows.as_ref().is_some_and(RowTable::is_behind)
    }

    /// The end of the input: every minute is closed, and every window that does not live on. Gives
    /// whether there are more rows: to be called until there are none.
    pub fn finish(&mut self, output: &mut dyn PipelineOutput) -> bool {
        let find = |remote: &RowRemote| self.matcher.row_indicator(remote);
        let rows = self.rows.as_mut().map(|rows| rows.close_all(&find)).unwrap_or_default();
        if self.dedup.is_persistent() {
            self.save(Vec::new(), output);
        } else {
            self.dedup.close_all(&mut self.alerts);
            self.send_alerts(output);
        }
        self.send_rows(rows, output);
        self.is_behind()
    }

    fn send_alerts(&mut self, output: &mut dyn PipelineOutput) {
        if self.alerts.is_empty() {
            return;
        }
        let mut alerts = std::mem::take(&mut self.alerts);
        for alert in &mut alerts {
            self.facts.complete_alert(alert);
        }
        self.save(alerts, output);
    }

    /// Gives alerts away with what has changed in dedup.
    fn save(&mut self, alerts: Vec<Alert>, output: &mut dyn PipelineOutput) {
        let dedup = &mut self.dedup;
        let state = if dedup.is_persistent() && output.wants_snapshot() {
            Some(dedup.take_snapshot())
        } else {
            dedup.take_change()
        };
        if !alerts.is_empty() || state.is_some() {
            output.alerts(alerts, state);
        }
    }

    fn send_rows(&mut self, rows: Vec<ConnectionRow>, output: &mut dyn PipelineOutput) {
        if rows.is_empty() {
            return;
        }
        let complete = |mut row| {
            self.facts.complete_row(&mut row);
            TableRow::Connection(Box::new(row))
        };
        output.rows(rows.into_iter().map(complete).collect());
    }
}
