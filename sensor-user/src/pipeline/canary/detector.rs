//! `CanaryDetector`: detects the canary in records and changes.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use super::emitter::{CANARY_ADDRESS, CanaryIdentity, CanaryPorts, InFlight};
use crate::base::clock::boot_ns;
use crate::pipeline::aggregate::{Attribution, Change, ChangeKind, Direction};
use crate::pipeline::capture::{Hook, Hooks};
use crate::pipeline::decode::Record;

/// Time after the end of a canary in which its records may still arrive.
const GRACE_NS: u64 = 2_000_000_000;
/// Canaries in a row that a hook may miss before it counts as silent.
const MISSES_MAX: u32 = 2;

/// Evidence of each canary that a hook must report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evidence {
    /// Both ends of both connections, from open to close.
    Connections,
    /// This process as the accepting one.
    Accept,
    /// This process as the first to read.
    FirstRead,
    /// This process as the first to write.
    FirstWrite,
    Exec,
    Fork,
    Exit,
}

const EVIDENCE_KINDS: usize = 7;

/// An attached hook that must report canaries.
#[derive(Debug)]
struct WatchedHook {
    attach: &'static str,
    evidence: Evidence,
    misses: u32,
    /// Time at which it last reported a canary, or the agent started; ns since boot.
    seen_boot_ns: u64,
}

/// State of a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanaryVerdict {
    /// The hook, or `canary` for the canary itself.
    pub component: &'static str,
    /// Why it is degraded; `None` if it works.
    pub failure: Option<CanaryFailure>,
}

/// Why a hook, or the canary, is degraded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CanaryFailure {
    /// The hook has reported no canary since this time, ns since boot.
    Silent(u64),
    /// The canary could not be emitted.
    NotEmitted(String),
}

/// Detects the canary in the pipeline.
#[derive(Debug)]
pub struct CanaryDetector {
    identity: Arc<CanaryIdentity>,
    hooks: Vec<WatchedHook>,
    in_flight: Receiver<InFlight>,
    retry: SyncSender<()>,
    /// The canary that is being detected.
    current: Option<InFlight>,
    /// Time at which each [`Evidence`] was last seen, ns since boot.
    last_seen: [u64; EVIDENCE_KINDS],
    /// Connection events since the last verdict.
    connections: ConnectionEvents,
    /// Process id of the agent in the initial PID namespace.
    own: u32,
    /// True once a connection of the canary has confirmed it.
    is_own_known: bool,
    /// Process id of the launcher in the initial PID namespace, once a child was seen.
    launcher: u32,
    child: Option<u32>,
    /// Time without a canary after which the canary counts as not emitted.
    overdue_ns: u64,
    last_canary_boot_ns: u64,
}

/// Events of the four ends of the two connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ConnectionEvents {
    opened: u32,
    established: u32,
    closed: u32,
    inbound: u32,
}

impl CanaryDetector {
    pub(super) fn new(
        identity: Arc<CanaryIdentity>,
        launcher: u32,
        interval: Duration,
        hooks: &Hooks,
        in_flight: Receiver<InFlight>,
        retry: SyncSender<()>,
    ) -> Self {
        let now = boot_ns();
        let interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        Self {
            identity,
            hooks: watched_hooks(hooks, now),
            in_flight,
            retry,
            current: None,
            last_seen: [0; EVIDENCE_KINDS],
            connections: ConnectionEvents::default(),
            own: std::process::id(),
            is_own_known: false,
            launcher,
            child: None,
            overdue_ns: interval_ns.saturating_mul(2).saturating_add(15_000_000_000),
            last_canary_boot_ns: now,
        }
    }

    /// Process id of the agent in the initial PID namespace, once a canary has confirmed it.
    pub const fn own_pid(&self) -> Option<u32> {
        if self.is_own_known { Some(self.own) } else { None }
    }

    /// Time of the last canary that every hook has reported, ns since boot; `None` before the first
    /// one.
    pub fn last_complete(&self) -> Option<u64> {
        self.child?;
        self.hooks.iter().map(|hook| hook.seen_boot_ns).min()
    }

    /// Checks a record of a process.
    pub fn observe(&mut self, record: &Record) {
        match record {
            Record::Fork(fork) if fork.parent.tgid == self.launcher => self.mark(Evidence::Fork),
            Record::Exec(exec) if exec.command_line.contains(&self.identity.token) => {
                self.mark(Evidence::Exec);
                self.child = Some(exec.task.tgid);
                if exec.task.parent_tgid != 0 {
                    self.launcher = exec.task.parent_tgid;
                }
            }
            Record::Exit(exit) if self.child == Some(exit.tgid) => self.mark(Evidence::Exit),
            _ => {}
        }
    }

    /// Removes the connections of canaries from `changes`, from `first` on: those of this agent, and those of
    /// others on this host.
    pub fn remove_from(&mut self, changes: &mut Vec<Change>, first: usize) {
        let mut number = 0;
        changes.retain(|change| {
            number += 1;
            if number <= first || !is_canary(change) {
                return true;
            }
            if let Some(ports) = self.ports(change) {
                self.record_change(change, ports);
            }
            false
        });
    }

    /// Verdicts on each hook after a canary, once for each canary; empty in between.
    pub fn take_verdicts(&mut self) -> Vec<CanaryVerdict> {
        let now = boot_ns();
        if self.current.is_none() {
            self.current = self.in_flight.try_recv().ok();
        }
        let is_over = |canary: &InFlight| now >= canary.ended_boot_ns.saturating_add(GRACE_NS);
        let Some(canary) = self.current.take_if(|canary| is_over(canary)) else {
            if now.saturating_sub(self.last_canary_boot_ns) > self.overdue_ns {
                let failure = CanaryFailure::NotEmitted("not emitted in time".to_owned());
                return vec![CanaryVerdict { component: CANARY, failure: Some(failure) }];
            }
            return Vec::new();
        };
        self.last_canary_boot_ns = now;
        self.evaluate(&canary)
    }

    fn evaluate(&mut self, canary: &InFlight) -> Vec<CanaryVerdict> {
        let connections = std::mem::take(&mut self.connections);
        let failure = canary.error.clone().map(CanaryFailure::NotEmitted);
        let mut verdicts = vec![CanaryVerdict { component: CANARY, failure: failure.clone() }];
        if failure.is_some() {
            return verdicts;
        }
        let complete =
            connections.opened >= 4 && connections.established >= 4 && connections.closed >= 4;
        if complete {
            self.mark(Evidence::Connections);
        }
        let mut missed = false;
        for hook in &mut self.hooks {
            let seen = self.last_seen.get(hook.evidence as usize).copied().unwrap_or(0);
            // The owner of a connection is reported only if the connection itself is.
            let needs_connections = matches!(
                hook.evidence,
                Evidence::Accept | Evidence::FirstRead | Evidence::FirstWrite
            );
            if seen >= canary.began_boot_ns {
                hook.seen_boot_ns = seen;
                hook.misses = 0;
            } else if !needs_connections || connections.inbound >= 2 {
                hook.misses = hook.misses.saturating_add(1);
                missed = true;
            }
            let silent = hook.misses >= MISSES_MAX;
            let failure = silent.then_some(CanaryFailure::Silent(hook.seen_boot_ns));
            verdicts.push(CanaryVerdict { component: hook.attach, failure });
        }
        if missed {
            // A full channel: a retry is requested already.
            let _requested = self.retry.try_send(());
        }
        verdicts
    }

    /// The connection of this agent's canary that a change belongs to; `None` for another agent's.
    fn ports(&self, change: &Change) -> Option<CanaryPorts> {
        let flow = &change.flow;
        let is_same_netns = change.netns == 0
            || self.identity.netns == 0
            || u64::from(change.netns) == self.identity.netns;
        if !is_same_netns {
            return None;
        }
        self.identity.ports(flow.source_port()?, flow.destination_port()?)
    }

    fn record_change(&mut self, change: &Change, ports: CanaryPorts) {
        let flow = &change.flow;
        match change.kind {
            ChangeKind::Opened => {
                self.connections.opened += 1;
                if flow.direction == Direction::Inbound {
                    self.connections.inbound += 1;
                    self.record_owner(flow.attribution, ports);
                } else if let (Attribution::Connect, Some(pid)) =
                    (flow.attribution, flow.process.pid)
                {
                    // Only this process can connect from the port that it has bound.
                    self.own = pid;
                    self.is_own_known = true;
                }
            }
            ChangeKind::Established => self.connections.established += 1,
            ChangeKind::Closed => self.connections.closed += 1,
            ChangeKind::Active
            | ChangeKind::Attributed
            | ChangeKind::Failed
            | ChangeKind::Translated => {}
        }
    }

    fn record_owner(&mut self, attribution: Attribution, ports: CanaryPorts) {
        match attribution {
            Attribution::Accept => self.mark(Evidence::Accept),
            Attribution::FirstIo if ports.server_writes => self.mark(Evidence::FirstWrite),
            Attribution::FirstIo => self.mark(Evidence::FirstRead),
            _ => {}
        }
    }

    fn mark(&mut self, evidence: Evidence) {
        if let Some(seen) = self.last_seen.get_mut(evidence as usize) {
            *seen = boot_ns();
        }
    }
}

/// True for a connection of any agent's canary.
fn is_canary(change: &Change) -> bool {
    let flow = &change.flow;
    flow.local == CANARY_ADDRESS && flow.remote == CANARY_ADDRESS
}

/// Component of the canary itself.
const CANARY: &str = "canary";

/// The attached hooks that must report a canary. With an accept hook, the first read or write
/// reports nothing more.
fn watched_hooks(hooks: &Hooks, now: u64) -> Vec<WatchedHook> {
    let on: Vec<&Hook> = hooks.iter().filter(|hook| hook.is_on()).collect();
    let accepts = on.iter().any(|hook| evidence(hook.program) == Some(Evidence::Accept));
    let expected = on.iter().filter_map(|hook| {
        let evidence = evidence(hook.program)?;
        let is_redundant =
            accepts && matches!(evidence, Evidence::FirstRead | Evidence::FirstWrite);
        (!is_redundant).then_some(WatchedHook {
            attach: hook.attach,
            evidence,
            misses: 0,
            seen_boot_ns: now,
        })
    });
    expected.collect()
}

/// Evidence that a program must report; `None` if the canary does not trigger it.
fn evidence(program: &str) -> Option<Evidence> {
    Some(match program {
        "inet_sock_set_state_btf" | "inet_sock_set_state_raw" | "inet_sock_set_state_classic" => {
            Evidence::Connections
        }
        "inet_csk_accept_fexit4" | "inet_csk_accept_fexit2" | "inet_csk_accept_kretprobe" => {
            Evidence::Accept
        }
        "socket_read" | "sock_recv_length" | "tcp_rcv_space_adjust" => Evidence::FirstRead,
        "socket_write" | "sock_send_length" => Evidence::FirstWrite,
        "sched_process_exec" => Evidence::Exec,
        "sched_process_fork" => Evidence::Fork,
        "sched_process_exit" => Evidence::Exit,
        _ => return None,
    })
}
