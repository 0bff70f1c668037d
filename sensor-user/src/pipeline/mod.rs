//! The pipeline: all stages in the order of the data path, on one thread, with one clock.
//!
//! Between the ring buffer (queue 1) and the outbox (queue 2) every stage is a synchronous call: no
//! stage blocks, and every loss is counted.
//!
//! Stages, in this order: [`capture`], [`decode`], [`enrich`], [`aggregate`], [`matcher`], [`history`],
//! [`dedup`]. [`Ingest`] calls those up to the connection tables, [`Detection`] calls the others and
//! passes alerts and rows to a [`PipelineOutput`]; [`RemoteFacts`] adds names and locations.
//!
//! Beside the data path: `socket_scan` and `nat`, each with a worker process, and [`canary`], which
//! tests the hooks.

pub mod aggregate;
pub mod canary;
pub mod capture;
pub mod decode;
pub mod dedup;
pub mod enrich;
pub mod history;
pub mod matcher;

pub(crate) mod nat;
pub(crate) mod socket_scan;

mod ingest;
mod remote_facts;

pub use ingest::Ingest;
pub use remote_facts::RemoteFacts;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::base::counters::Stats;
use crate::schema::{ConnectionRow, TableRow};
use aggregate::{Change, ChangeKind, Flow, Guess, HostTables, HostView, RowRemote, RowTable};
use dedup::{Alert, Dedup, DedupState};
use enrich::DnsAnswer;
use history::History;
use matcher::Matcher;

/// Maximum interval between matches of the history.
const HISTORY_INTERVAL: SignedDuration = SignedDuration::from_mins(1);

/// Maximum interval between saves of the state of dedup.
const SAVE_INTERVAL: SignedDuration = SignedDuration::from_millis(100);

/// Output of the pipeline: the outbox of the sinks (`agent/pipeline_thread.rs`), or that of a replay.
pub trait PipelineOutput {
    /// Accepts alerts with the state of dedup after them; must not block. Both are stored atomically.
    fn alerts(&mut self, alerts: Vec<Alert>, state: Option<DedupState>);
    /// Accepts the rows of one or more minutes; must not block.
    fn rows(&mut self, rows: Vec<TableRow>);
    /// True if all accepted alerts and states are written, and so survive a kill of the agent.
    fn is_written(&self) -> bool {
        true
    }
    /// True if the output needs a snapshot of the state of dedup instead of a change.
    fn wants_snapshot(&self) -> bool {
        false
    }
}

/// The stages after the connection table, the same for live capture and replay.
#[derive(Debug)]
pub struct Detection {
    /// Table of connection rows; `None` if rows are disabled.
    pub rows: Option<RowTable>,
    /// Tables of the host; `None` if rows are disabled, and in a replay: a recording has no listeners.
    pub host: Option<HostTables>,
    /// Stage `Flow` to `Hit`.
    pub matcher: Matcher,
    /// Earlier connections, for later indicators; `None` in a replay, which has all indicators at start.
    pub history: Option<History>,
    /// Stage `Hit` to `Alert`.
    pub dedup: Dedup,
    /// Names and locations of remote addresses, for rows and alerts.
    pub facts: RemoteFacts,
    /// Buffer, reused to avoid allocations.
    alerts: Vec<Alert>,
    history_matched: Timestamp,
    state_saved: Timestamp,
    pub(crate) stats: Arc<Stats>,
}

impl Detection {
    /// Assembles the stages after the tables.
    pub fn new(
        rows: Option<RowTable>,
        matcher: Matcher,
        history: Option<History>,
        dedup: Dedup,
        stats: Arc<Stats>,
    ) -> Self {
        let facts = RemoteFacts::with_default_cache(&stats);
        Self {
            rows,
            host: None,
            matcher,
            history,
            dedup,
            facts,
            alerts: Vec::new(),
            history_matched: Timestamp::MIN,
            state_saved: Timestamp::MIN,
            stats,
        }
    }

    /// Adds a DNS answer: later connections have its names.
    pub fn add_answer(&mut self, answer: &DnsAnswer) {
        self.facts.add_answer(answer);
    }

    /// Name of each table, its number of entries, and the maximum.
    pub(crate) fn tables(&self) -> Vec<(&'static str, (usize, usize))> {
        let mut tables = vec![("dns_names", self.facts.names())];
        tables.extend(self.rows.as_ref().map(|rows| ("row_keys", rows.occupancy())));
        tables.extend(self.history.as_ref().map(|history| ("history", history.occupancy())));
        tables.push(("dedup_windows", (self.dedup.len(), self.dedup.max_keys())));
        tables
    }

    /// Adds the tables of the host.
    #[must_use]
    pub fn with_host(self, host: Option<HostTables>) -> Self {
        Self { host, ..self }
    }

    /// Called at the start of each iteration. Flushes the history once the previous iteration's alerts are
    /// written, so that after a kill only alerts that still exist count as reported. If the disk accepts
    /// no alerts for long, the history is flushed anyway.
    pub fn begin(&mut self, output: &dyn PipelineOutput) {
        let is_written = output.is_written();
        if let Some(history) = self.history.as_mut().filter(|it| is_written || it.must_flush()) {
            history.flush();
        }
    }

    /// Passes one change through aggregate (rows), matcher, history and dedup to the output.
    pub fn observe(&mut self, change: &Change, output: &mut dyn PipelineOutput) {
        let minute = self.rows.as_mut().and_then(|rows| rows.observe(change));
        if let Some(host) = &mut self.host {
            host.observe(change, minute);
        }
        if change.kind == ChangeKind::Established {
            return;
        }
        if let Some(guess) = &change.guess {
            self.correct(&change.flow, guess, output);
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

    /// Corrects the process of a connection in the history and in dedup.
    fn correct(&mut self, flow: &Flow, guess: &Guess, output: &mut dyn PipelineOutput) {
        let hits = self.matcher.hits(flow);
        if let Some(history) = &mut self.history {
            history.correct(flow, guess);
        }
        for hit in hits {
            self.dedup.correct(&hit, flow, guess, &mut self.alerts);
        }
        self.send_alerts(output);
    }

    /// Processes the passing of time: ends minutes and windows. Many rows are emitted in batches; see
    /// [`Self::is_behind`].
    pub fn tick(&mut self, now: Timestamp, output: &mut dyn PipelineOutput) {
        self.match_history(now);
        let find = |remote: &RowRemote| self.matcher.row_indicator(remote);
        let rows = self.rows.as_mut().map(|rows| rows.close_until(now, &find)).unwrap_or_default();
        self.dedup.expire(now, &mut self.alerts);
        self.send_alerts(output);
        if now.duration_since(self.state_saved).abs() >= SAVE_INTERVAL || output.wants_snapshot() {
            self.state_saved = now;
            self.send_commit(Vec::new(), output);
        }
        self.begin(output);
        self.send_rows(rows, output);
    }

    /// Matches the connections in the history if there are new indicators, and every minute, for
    /// indicators that become valid.
    fn match_history(&mut self, now: Timestamp) {
        let is_new = self.matcher.refresh();
        let Some(history) = &mut self.history else { return };
        let last = self.history_matched;
        let is_scheduled = now.duration_since(last) >= HISTORY_INTERVAL || now < last;
        if is_new || history.is_unmatched() || is_scheduled {
            self.history_matched = now;
            let found = history.retro_matches(&self.matcher, now);
            self.dedup.raise_retro(found, &mut self.alerts);
        }
    }

    /// Ends the minutes of the tables of the host; called after each [`Self::tick`].
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

    /// Closes the tables of the host when the agent stops at `now`, with the current minute. Must be
    /// called before [`Self::finish`].
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

    /// True if rows are pending: the next tick builds a batch.
    pub fn is_behind(&self) -> bool {
        self.rows.as_ref().is_some_and(RowTable::is_behind)
    }

    /// Closes every minute, and every window that is not saved, at the end of the input. True if rows are
    /// pending: call it again until false.
    pub fn finish(&mut self, output: &mut dyn PipelineOutput) -> bool {
        let find = |remote: &RowRemote| self.matcher.row_indicator(remote);
        let rows = self.rows.as_mut().map(|rows| rows.close_all(&find)).unwrap_or_default();
        if self.dedup.is_persistent() {
            self.send_commit(Vec::new(), output);
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
        self.send_commit(alerts, output);
    }

    /// Sends alerts to the output, with the state of dedup or its changes.
    fn send_commit(&mut self, alerts: Vec<Alert>, output: &mut dyn PipelineOutput) {
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
