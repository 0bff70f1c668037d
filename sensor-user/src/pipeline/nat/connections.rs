//! `NatConnections`: the state of each connection's lookup, and the changes that wait for a response.

use std::collections::VecDeque;
use std::sync::Arc;

use super::messages::{ConnectionKey, NatLookup, Translation};
use super::schedule::Tracking;
use super::udp_flow::{SocketEnd, UdpFlow, late_mapping};
use crate::base::collections;
use crate::base::collections::{FastMap, Table};
use crate::base::counters::Stats;
use crate::base::protocol::Protocol;
use crate::pipeline::aggregate::{Change, ChangeKind, Flow, NatMapping, Phase};

/// Maximum number of remembered connections.
const CONNECTIONS_MAX: usize = 65_536;
/// Maximum number of changes that wait for a response.
pub(super) const HELD_MAX: usize = 65_536;
/// Maximum time that a change waits for a response, ns. A minute accepts changes for two seconds.
pub(super) const HOLD_NS: u64 = 1_000_000_000;

/// State of a remembered connection.
#[derive(Debug)]
enum LookupState {
    /// No response yet.
    Pending(Box<PendingLookup>),
    /// The mapping; `None` if the connection has none.
    Resolved(Option<NatMapping>),
    /// A UDP flow.
    Udp(Box<UdpFlow>),
    /// A flow of the kernel's table that belongs to the UDP flow `primary`.
    UdpPart(UdpPart),
}

/// A part of a UDP flow, besides the first.
#[derive(Debug, Clone, Copy)]
struct UdpPart {
    primary: u64,
    opened: jiff::Timestamp,
}

/// A connection without a response.
#[derive(Debug)]
struct PendingLookup {
    /// The connection as it was first reported.
    flow: Flow,
    netns: u32,
    cookie: u64,
    /// Changes that wait for the response.
    held: Vec<Change>,
    /// True if its changes do not wait: its namespace tracked nothing a moment ago, or they have waited
    /// too long.
    passes: bool,
    /// True if a change was reported that could have had the mapping.
    has_passed: bool,
    is_closed: bool,
}

/// Table of lookups.
#[derive(Debug)]
pub(super) struct NatConnections {
    states: Table<ConnectionKey, LookupState>,
    /// Numbers of the UDP flows and pending lookups in `states`.
    by_end: FastMap<SocketEnd, u64>,
    /// Times at which held changes become overdue, in order.
    deadlines: VecDeque<(u64, ConnectionKey)>,
    /// Number of changes that wait.
    held: usize,
    /// Number of connections without a response.
    pending: usize,
    /// Changes whose wait is over, until [`Self::release_resolved`].
    resolved: Vec<(ConnectionKey, Vec<Change>)>,
    stats: Arc<Stats>,
}

impl NatConnections {
    pub(super) fn new(stats: Arc<Stats>) -> Self {
        Self {
            states: collections::table(CONNECTIONS_MAX),
            by_end: FastMap::default(),
            deadlines: VecDeque::new(),
            held: 0,
            pending: 0,
            resolved: Vec::new(),
            stats,
        }
    }

    /// Number of remembered connections, and the maximum.
    pub(super) fn occupancy(&self) -> (usize, usize) {
        (self.states.len(), self.states.cap().get())
    }

    /// Number of changes that wait.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// Number of connections without a response.
    pub(super) const fn pending(&self) -> usize {
        self.pending
    }

    /// Passes a change on, or holds it. Returns the lookup of a new connection. `tracking` is that of its
    /// namespace.
    pub(super) fn route(
        &mut self,
        change: Change,
        tracking: Tracking,
        changes: &mut Vec<Change>,
        now_boot_ns: u64,
    ) -> Option<NatLookup> {
        let key = (change.flow.protocol, change.number);
        match self.states.get_mut(&key) {
            Some(LookupState::Pending(pending)) => {
                pending.is_closed |= is_closing(change.kind);
                if pending.passes {
                    pending.has_passed = true;
                    changes.push(change);
                } else {
                    pending.held.push(change);
                    self.held += 1;
                }
                return None;
            }
            Some(_) => {
                self.emit(key, change, changes);
                return None;
            }
            None => {}
        }
        let Some(lookup) = NatLookup::of(&change) else {
            changes.push(change);
            return None;
        };
        if let Some(primary) = self.translated_flow(&change) {
            self.remember(key, part(primary, change.flow.time), changes);
            self.emit(key, change, changes);
            return None;
        }
        self.begin(key, change, tracking, changes);
        if tracking != Tracking::Idle {
            self.deadlines.push_back((now_boot_ns.saturating_add(HOLD_NS), key));
        }
        Some(lookup)
    }

    /// Remembers a new connection. A TCP connection is reported as opened at once.
    fn begin(
        &mut self,
        key: ConnectionKey,
        change: Change,
        tracking: Tracking,
        changes: &mut Vec<Change>,
    ) {
        let is_reported = key.0 == Protocol::Tcp && change.kind == ChangeKind::Opened;
        let passes = tracking == Tracking::Idle;
        let mut pending = PendingLookup {
            flow: Flow { bytes_sent: 0, bytes_received: 0, ..change.flow.clone() },
            netns: change.netns,
            cookie: change.cookie,
            held: Vec::new(),
            passes,
            has_passed: passes && !is_reported,
            is_closed: is_closing(change.kind),
        };
        if let Some(end) = pending.end() {
            self.by_end.entry(end).or_insert(key.1);
        }
        if is_reported || passes {
            changes.push(change);
        } else {
            pending.held.push(change);
            self.held += 1;
        }
        self.pending += 1;
        self.remember(key, LookupState::Pending(Box::new(pending)), changes);
    }

    /// Number of the translated UDP flow that a new flow of the kernel's table is a part of. The
    /// translation of that flow is sufficient for it; no lookup is needed.
    fn translated_flow(&mut self, change: &Change) -> Option<u64> {
        let end = SocketEnd::of(&change.flow, change.cookie)?;
        let primary = *self.by_end.get(&end)?;
        match self.states.get_mut(&(Protocol::Udp, primary)) {
            Some(LookupState::Udp(flow)) if flow.is_translated() => {
                flow.parts = flow.parts.saturating_add(1);
                Some(primary)
            }
            _ => None,
        }
    }

    /// Inserts a connection, and evicts another if the table is full.
    fn remember(&mut self, key: ConnectionKey, state: LookupState, changes: &mut Vec<Change>) {
        let Some((evicted, state)) = self.states.push(key, state) else { return };
        if evicted == key {
            return;
        }
        self.stats.nat_lookups_evicted.increment();
        match state {
            LookupState::Pending(pending) => {
                self.forget_end(pending.end(), evicted.1);
                self.pending = self.pending.saturating_sub(1);
                self.held = self.held.saturating_sub(pending.held.len());
                changes.extend(pending.held);
            }
            LookupState::Udp(flow) => self.forget_end(flow.end, evicted.1),
            LookupState::UdpPart(UdpPart { primary, .. }) => {
                if let Some(LookupState::Udp(flow)) = self.states.peek_mut(&(evicted.0, primary)) {
                    flow.parts = flow.parts.saturating_sub(1);
                }
            }
            LookupState::Resolved(_) => {}
        }
    }

    fn forget_end(&mut self, end: Option<SocketEnd>, number: u64) {
        if let Some(end) = end
            && self.by_end.get(&end) == Some(&number)
        {
            self.by_end.remove(&end);
        }
    }

    /// Passes a change of a connection with a response on.
    fn emit(&mut self, key: ConnectionKey, mut change: Change, changes: &mut Vec<Change>) {
        let is_closing = is_closing(change.kind);
        let (primary, part_opened) = match self.states.get(&key) {
            Some(LookupState::Udp(flow)) => (key, flow.opened()),
            Some(LookupState::UdpPart(part)) => ((key.0, part.primary), part.opened),
            Some(LookupState::Resolved(mapping)) => {
                change.flow.translated = change.flow.translated.or(*mapping);
                if is_closing {
                    self.states.pop(&key);
                }
                return changes.push(change);
            }
            Some(LookupState::Pending(_)) | None => return changes.push(change),
        };
        let is_part = primary != key;
        if is_part && is_closing {
            self.states.pop(&key);
        }
        let Some(LookupState::Udp(flow)) = self.states.get_mut(&primary) else {
            return changes.push(change);
        };
        // The flow was opened by another part.
        if is_part && matches!(change.kind, ChangeKind::Opened | ChangeKind::Established) {
            return;
        }
        let is_reported = flow.apply(&mut change, primary.1, part_opened);
        if flow.parts == 0
            && let Some(LookupState::Udp(flow)) = self.states.pop(&primary)
        {
            self.forget_end(flow.end, primary.1);
        }
        if is_reported {
            changes.push(change);
        }
    }

    /// Reports the changes that have waited too long, or that are too many.
    pub(super) fn release_overdue(&mut self, changes: &mut Vec<Change>, now_boot_ns: u64) {
        while let Some((deadline, key)) = self.deadlines.front().copied() {
            let is_full = self.held > HELD_MAX || self.deadlines.len() > CONNECTIONS_MAX;
            if deadline > now_boot_ns && !is_full {
                return;
            }
            self.deadlines.pop_front();
            self.release(key, changes);
        }
    }

    /// Reports the changes of a connection that has no response yet; further ones do not wait.
    pub(super) fn release(&mut self, key: ConnectionKey, changes: &mut Vec<Change>) {
        let Some(LookupState::Pending(pending)) = self.states.peek_mut(&key) else { return };
        let held = std::mem::take(&mut pending.held);
        pending.passes = true;
        pending.has_passed |= !held.is_empty();
        self.held = self.held.saturating_sub(held.len());
        changes.extend(held);
    }

    /// Applies the response to one lookup. [`Self::release_resolved`] must follow the last one of a batch.
    pub(super) fn resolve(
        &mut self,
        key: ConnectionKey,
        translation: Option<&Translation>,
        changes: &mut Vec<Change>,
    ) {
        let Some(pending) = self.take_pending(key) else { return };
        if translation.is_some() {
            self.stats.nat_mappings_found.increment();
            if pending.has_passed {
                self.stats.nat_mappings_late.increment();
            }
        }
        let has_ended = pending.is_closed && pending.held.is_empty();
        let is_raw = pending.passes && translation.is_some();
        if key.0 == Protocol::Udp && !is_raw && !has_ended {
            return self.resolve_udp(key.1, pending, translation, changes);
        }
        let PendingLookup { flow, netns, held, is_closed, .. } = pending;
        let mapping = translation.map(|it| late_mapping(it, &flow));
        if mapping.is_some() {
            let flow = Flow { phase: Phase::Translated, translated: mapping, ..flow };
            changes.push(Change::new(ChangeKind::Translated, flow, key.1, netns));
        }
        if !is_closed {
            self.remember(key, LookupState::Resolved(mapping), changes);
        }
        for mut change in held {
            change.flow.translated = change.flow.translated.or(mapping);
            changes.push(change);
        }
    }

    /// Reports the changes that waited for the responses of a batch: a flow must not be closed before its
    /// other parts are known.
    pub(super) fn release_resolved(&mut self, changes: &mut Vec<Change>) {
        for (key, held) in std::mem::take(&mut self.resolved) {
            for change in held {
                self.emit(key, change, changes);
            }
        }
    }

    /// Removes a connection without a response.
    fn take_pending(&mut self, key: ConnectionKey) -> Option<PendingLookup> {
        if !matches!(self.states.peek(&key), Some(LookupState::Pending(_))) {
            return None;
        }
        let Some(LookupState::Pending(pending)) = self.states.pop(&key) else { return None };
        self.forget_end(pending.end(), key.1);
        self.pending = self.pending.saturating_sub(1);
        self.held = self.held.saturating_sub(pending.held.len());
        Some(*pending)
    }

    /// A UDP flow is a flow of its own, or a part of one with the same socket and remote end.
    fn resolve_udp(
        &mut self,
        number: u64,
        pending: PendingLookup,
        translation: Option<&Translation>,
        changes: &mut Vec<Change>,
    ) {
        let PendingLookup { flow, netns, cookie, held, .. } = pending;
        let (key, opened) = ((Protocol::Udp, number), flow.time);
        let mut known = UdpFlow::new(flow.clone(), cookie, translation);
        let other = known.end.and_then(|end| self.by_end.get(&end).copied());
        let other = other.filter(|other| *other != number).map(|other| (Protocol::Udp, other));
        let mut waiting_part = None;
        match other.and_then(|other| Some((other, self.states.get_mut(&other)?))) {
            Some((other, LookupState::Udp(primary))) => {
                primary.parts = primary.parts.saturating_add(1);
                if primary.translate(&known) {
                    let flow = Flow { phase: Phase::Translated, time: primary.opened(), ..flow };
                    let mut change = Change::new(ChangeKind::Translated, flow, number, netns);
                    primary.apply(&mut change, other.1, opened);
                    changes.push(change);
                }
                self.remember(key, part(other.1, opened), changes);
                return self.resolved.push((key, held));
            }
            Some((other, LookupState::Pending(it))) if !it.passes => waiting_part = Some(other),
            _ => {}
        }
        known.parts = known.parts.saturating_add(u32::from(waiting_part.is_some()));
        let end = known.end;
        self.remember(key, LookupState::Udp(Box::new(known)), changes);
        self.resolved.push((key, held));
        if let Some(other) = waiting_part
            && let Some(pending) = self.take_pending(other)
        {
            self.remember(other, part(number, pending.flow.time), changes);
            self.resolved.push((other, pending.held));
        }
        self.by_end.extend(end.map(|end| (end, number)));
    }
}

impl PendingLookup {
    fn end(&self) -> Option<SocketEnd> {
        SocketEnd::of(&self.flow, self.cookie)
    }
}

const fn part(primary: u64, opened: jiff::Timestamp) -> LookupState {
    LookupState::UdpPart(UdpPart { primary, opened })
}

const fn is_closing(kind: ChangeKind) -> bool {
    matches!(kind, ChangeKind::Closed | ChangeKind::Failed)
}
