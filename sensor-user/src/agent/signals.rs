//! Signals that stop or reload the agent.

use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal as Number};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::deliver::Outbox;
use crate::privsep::Workers;

/// Blocked signals: a signal during the start stays pending, and leads to an orderly shutdown.
#[derive(Debug)]
pub(super) struct BlockedSignals {
    set: SigSet,
    reloads: bool,
}

impl BlockedSignals {
    /// Blocks the signals on the calling thread, and on the threads that it starts; SIGHUP as well if it
    /// `reloads`.
    pub(super) fn block(reloads: bool) -> anyhow::Result<Self> {
        let ends = [Number::SIGINT, Number::SIGTERM];
        let set: SigSet = ends.into_iter().chain(reloads.then_some(Number::SIGHUP)).collect();
        set.thread_block().context("block signals")?;
        Ok(Self { set, reloads })
    }

    /// Unblocks and receives the signals, on the thread that blocked them. Within a runtime only.
    pub(super) fn listen(self) -> anyhow::Result<Signals> {
        let hangup = || signal(SignalKind::hangup()).context("listen for SIGHUP");
        let signals = Signals {
            hangup: self.reloads.then(hangup).transpose()?,
            interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
        };
        self.set.thread_unblock().context("unblock signals")?;
        Ok(signals)
    }
}

/// Receivers of the signals.
pub(super) struct Signals {
    pub(super) interrupt: Signal,
    pub(super) terminate: Signal,
    /// Only if there is a configuration file to reload; otherwise SIGHUP terminates the agent, as when its
    /// terminal is closed.
    hangup: Option<Signal>,
}

/// Request that a signal, or the state of the agent, makes.
#[derive(Debug)]
pub(super) enum SignalEvent {
    /// Stop, with the reason.
    Stop(&'static str),
    /// Reload the configuration.
    Reload,
}

impl Signals {
    /// Waits for a signal that stops the agent; returns the reason.
    pub(super) async fn stopped(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "terminated",
        }
    }

    /// Waits for the next request.
    pub(super) async fn next(
        &mut self,
        outbox: &Outbox,
        workers: &Workers,
        died: &mut oneshot::Receiver<()>,
    ) -> SignalEvent {
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return SignalEvent::Stop("interrupted"),
                _ = self.terminate.recv() => return SignalEvent::Stop("terminated"),
                () = hung_up(&mut self.hangup) => return SignalEvent::Reload,
                _ = &mut *died => return SignalEvent::Stop("the pipeline thread exited"),
                _ = ticks.tick() => {
                    if outbox.stdout_closed() {
                        return SignalEvent::Stop("standard output is closed");
                    }
                    if workers.check_spawners().is_err() {
                        return SignalEvent::Stop("a worker exited that cannot be restarted");
                    }
                }
            }
        }
    }
}

async fn hung_up(signal: &mut Option<Signal>) {
    match signal {
        // `None` at the shutdown of the runtime.
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
