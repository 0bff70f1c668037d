//! Looking for the canary among what the probes tell.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use super::emitter::{Flight, Pair, Shared};
use crate::base::clock::boot_ns;
use crate::pipeline::aggregate::{Attribution, Change, ChangeKind, Direction};
use crate::pipeline::capture::{Hook, HookState, Hooks};
use crate::pipeline::decode::Record;

/// How long after its end a canary may still be told of.
const LATENESS_NS: u64 = 2_000_000_000;
/// Canaries that a hook may miss in a row before it is called silent.
const MISSES_MAX: u32 = 2;

/// What a hook has to tell of each canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// Both ends of both connections, from their beginning to their end.
    Life,
    /// That this process accepted.
    Accept,
    /// That this process was the first to read.
    FirstRead,
    /// That it was the first to write.
    FirstWrite,
    Exec,
    Fork,
    Exit,
}

const SIGNS: usize = 7;

/// One hook that is on.
#[derive(Debug)]
struct Watched {
    attach: &'static str,
    sign: Sign,
    misses: u32,
    /// When it last told of a canary, or the agent started; ns since boot.
    seen_boot_ns: u64,
}

/// Whether a hook tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What it is attached to, or `canary` for the canary itself.
    pub component: &'static str,
    /// Why it is not well: silent for so long (`None`: it is well).
    pub fault: Option<Fault>,
}

/// What is wrong with a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It told nothing of the canary since then, ns since boot.
    Silent(u64),
    /// The canary could not be made.
    Grounded(String),
}

/// Looks for the canary.
#[derive(Debug)]
pub struct CanaryDetector {
    shared: Arc<Shared>,
    hooks: Vec<Watched>,
    flights: Receiver<Flight>,
    again: SyncSender<()>,
    /// The one that is being looked for.
    current: Option<Flight>,
    /// When each sign was last seen, ns since boot.
    signs: [u64; SIGNS],
    /// Events of the life of connections since the last verdict.
    life: Life,
    /// This process as the kernel numbers it: another one in a pid namespace.
    own: u32,
    /// Whether a connection of the canary's told it.
    is_own_known: bool,
    /// Who starts the child, as the kernel numbers it, once a child was seen.
    launcher: u32,
    child: Option<u32>,
    /// Without a canary for longer than this nothing is known.
    overdue_ns: u64,
    last_flight_boot_ns: u64,
}

/// What was seen of the two connections' four ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Life {
    opened: u32,
    established: u32,
    closed: u32,
    inbound: u32,
}

impl CanaryDetector {
    pub(super) fn new(
        (shared, launcher): (Arc<Shared>, u32),
        every: Duration,
        hooks: &Hooks,
        flights: Receiver<Flight>,
        again: SyncSender<()>,
    ) -> Self {
        let now = boot_ns();
        let every_ns = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        Self {
            shared,
            hooks: watched(hooks, now),
            flights,
            again,
            current: None,
            signs: [0; SIGNS],
            life: Life::default(),
            own: std::process::id(),
            is_own_known: false,
            launcher,
            child: None,
            overdue_ns: every_ns.saturating_mul(2).saturating_add(15_000_000_000),
            last_flight_boot_ns: now,
        }
    }

    /// This process as the kernel numbers it, once a canary has told.
    pub const fn own_pid(&self) -> Option<u32> {
        if self.is_own_known { Some(self.own) } else { None }
    }

    /// This process as the kernel numbers it, as far as is known: see [`Self::own_pid`].
    pub const fn pid(&self) -> u32 {
        self.own
    }

    /// When the hook that has been silent for longest last told of a canary, ns since boot; `None`
    /// before the first one.
    pub fn seen(&self) -> Option<u64> {
        self.child?;
        self.hooks.iter().map(|hook| hook.seen_boot_ns).min()
    }

    /// Sees a record of a process.
    pub fn record(&mut self, record: &Record) {
        match record {
            Record::Fork(fork) if fork.parent.tgid == self.launcher => self.sign(Sign::Fork),
            Record::Exec(exec) if exec.command_line.contains(&self.shared.token) => {
                self.sign(Sign::Exec);
                self.child = Some(exec.task.tgid);
                if exec.task.parent_tgid != 0 {
                    self.launcher = exec.task.parent_tgid;
                }
            }
            Record::Exit(exit) if self.child == Some(exit.tgid) => self.sign(Sign::Exit),
            _ => {}
        }
    }

    /// Takes the canary's connections out of `changes`, from `first` on.
    pub fn take(&mut self, changes: &mut Vec<Change>, first: usize) {
        let mut number = 0;
        changes.retain(|change| {
            number += 1;
            match self.pair(change).filter(|_| number > first) {
                Some(pair) => {
                    self.change(change, pair);
                    false
                }
                None => true,
            }
        });
    }

    /// What the canary that is over says of each hook, once for each canary; nothing while none is.
    pub fn verdicts(&mut self) -> Vec<Verdict> {
        let now = boot_ns();
        if self.current.is_none() {
            self.current = self.flights.try_recv().ok();
        }
        let over = |flight: &Flight| now >= flight.ended_boot_ns.saturating_add(LATENESS_NS);
        let Some(flight) = self.current.take_if(|flight| over(flight)) else {
            if now.saturating_sub(self.last_flight_boot_ns) > self.overdue_ns {
                let fault = Fault::Grounded("none was made in time".to_owned());
                return vec![Verdict { component: CANARY, fault: Some(fault) }];
            }
            return Vec::new();
        };
        self.last_flight_boot_ns = now;
        self.judge(&flight)
    }

    fn judge(&mut self, flight: &Flight) -> Vec<Verdict> {
        let life = std::mem::take(&mut self.life);
        let grounded = flight.fault.clone().map(Fault::Grounded);
        let mut verdicts = vec![Verdict { component: CANARY, fault: grounded.clone() }];
        if grounded.is_some() {
            return verdicts;
        }
        let complete = life.opened >= 4 && life.established >= 4 && life.closed >= 4;
        if complete {
            self.sign(Sign::Life);
        }
        let mut missed = false;
        for hook in &mut self.hooks {
            let seen = self.signs.get(hook.sign as usize).copied().unwrap_or(0);
            // Who accepts is told only of a connection that is told of.
            let needs_life = matches!(hook.sign, Sign::Accept | Sign::FirstRead | Sign::FirstWrite);
            if seen >= flight.began_boot_ns {
                hook.seen_boot_ns = seen;
                hook.misses = 0;
            } else if !needs_life || life.inbound >= 2 {
                hook.misses = hook.misses.saturating_add(1);
                missed = true;
            }
            let silent = hook.misses >= MISSES_MAX;
            let fault = silent.then_some(Fault::Silent(hook.seen_boot_ns));
            verdicts.push(Verdict { component: hook.attach, fault });
        }
        if missed {
            // Full: it was asked for already.
            let _asked = self.again.try_send(());
        }
        verdicts
    }

    /// The canary's connection that a change is about, if it is about one.
    fn pair(&self, change: &Change) -> Option<Pair> {
        const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let flow = &change.flow;
        let here = change.netns == 0
            || self.shared.netns == 0
            || u64::from(change.netns) == self.shared.netns;
        if flow.local != LOOPBACK || flow.remote != LOOPBACK || !here {
            return None;
        }
        self.shared.pair(flow.source_port()?, flow.destination_port()?)
    }

    fn change(&mut self, change: &Change, pair: Pair) {
        let flow = &change.flow;
        match change.kind {
            ChangeKind::Opened => {
                self.life.opened += 1;
                if flow.direction == Direction::Inbound {
                    self.life.inbound += 1;
                    self.owner(flow.attribution, pair);
                } else if let (Attribution::Connect, Some(pid)) =
                    (flow.attribution, flow.process.pid)
                {
                    // Nobody else can connect from a port that this process has bound.
                    self.own = pid;
                    self.is_own_known = true;
                }
            }
            ChangeKind::Established => self.life.established += 1,
            ChangeKind::Closed => self.life.closed += 1,
            ChangeKind::Active | ChangeKind::Failed | ChangeKind::Translated => {}
        }
    }

    fn owner(&mut self, attribution: Attribution, pair: Pair) {
        match attribution {
            Attribution::Accept => self.sign(Sign::Accept),
            Attribution::FirstIo if pair.server_writes => self.sign(Sign::FirstWrite),
            Attribution::FirstIo => self.sign(Sign::FirstRead),
            _ => {}
        }
    }

    fn sign(&mut self, sign: Sign) {
        if let Some(seen) = self.signs.get_mut(sign as usize) {
            *seen = boot_ns();
        }
    }
}

/// The component that stands for the canary itself.
const CANARY: &str = "canary";

/// The hooks that are on and have to tell of a canary. Where an accept hook is on, the first read
/// or write tells nothing more.
fn watched(hooks: &Hooks, now: u64) -> Vec<Watched> {
    let on: Vec<&Hook> = hooks.iter().filter(|hook| hook.state == HookState::On).collect();
    let accepts = on.iter().any(|hook| sign(hook.program) == Some(Sign::Accept));
    let expected = on.iter().filter_map(|hook| {
        let sign = sign(hook.program)?;
        let stands_back = accepts && matches!(sign, Sign::FirstRead | Sign::FirstWrite);
        (!stands_back).then_some(Watched {
            attach: hook.attach,
            sign,
            misses: 0,
            seen_boot_ns: now,
        })
    });
    expected.collect()
}

/// What a program has to tell of; `None` for one that the canary does not touch.
fn sign(program: &str) -> Option<Sign> {
    Some(match program {
        "inet_sock_set_state_btf" | "inet_sock_set_state_raw" | "inet_sock_set_state_classic" => {
            Sign::Life
        }
        "inet_csk_accept_fexit4" | "inet_csk_accept_fexit2" | "inet_csk_accept_kretprobe" => {
            Sign::Accept
        }
        "socket_read" | "sock_recv_length" | "tcp_rcv_space_adjust" => Sign::FirstRead,
        "socket_write" | "sock_send_length" => Sign::FirstWrite,
        "sched_process_exec" => Sign::Exec,
        "sched_process_fork" => Sign::Fork,
        "sched_process_exit" => Sign::Exit,
        _ => return None,
    })
}
