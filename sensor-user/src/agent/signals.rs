//! Signals that end the agent, or a recording.

use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal as Number};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::deliver::Outbox;
use crate::privsep::Workers;

/// Signals that wait until somebody listens: a start that they come in ends in order.
#[derive(Debug)]
pub(super) struct Held {
    set: SigSet,
    reloads: bool,
}

impl Held {
    /// Holds them on the calling thread, and on those that it starts; also the one to reload where
    /// that `reloads` anything.
    pub(super) fn hold(reloads: bool) -> anyhow::Result<Self> {
        let ends = [Number::SIGINT, Number::SIGTERM];
        let set: SigSet = ends.into_iter().chain(reloads.then_some(Number::SIGHUP)).collect();
        set.thread_block().context("hold signals back")?;
        Ok(Self { set, reloads })
    }

    /// Listens to them from here on, on the thread that held them. Within a runtime only.
    pub(super) fn listen(self) -> anyhow::Result<Signals> {
        let hangup = || signal(SignalKind::hangup()).context("listen for SIGHUP");
        let signals = Signals {
            hangup: self.reloads.then(hangup).transpose()?,
            interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
        };
        self.set.thread_unblock().context("take signals again")?;
        Ok(signals)
    }
}

/// The signals that end the agent, or a recording.
pub(super) struct Signals {
    pub(super) interrupt: Signal,
    pub(super) terminate: Signal,
    /// Only where there is something to read again: a terminal that hangs up ends the agent else.
    hangup: Option<Signal>,
}

/// What the agent is to do.
#[derive(Debug)]
pub(super) enum Told {
    /// To end; why.
    End(&'static str),
    /// To read its configuration again.
    Reload,
}

impl Signals {
    /// Waits for a reason to do something.
    pub(super) async fn next(
        &mut self,
        (outbox, workers): (&Outbox, &Workers),
        died: &mut oneshot::Receiver<()>,
    ) -> Told {
        let mut look = tokio::time::interval(Duration::from_millis(200));
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return Told::End("interrupted"),
                _ = self.terminate.recv() => return Told::End("terminated"),
                () = hung_up(&mut self.hangup) => return Told::Reload,
                _ = &mut *died => return Told::End("the pipeline's thread ended"),
                _ = look.tick() => {
                    if outbox.stdout_closed() {
                        return Told::End("nobody reads standard output");
                    }
                    if workers.check_spawners().is_err() {
                        return Told::End("a helper ended that cannot be started again");
                    }
                }
            }
        }
    }
}

async fn hung_up(signal: &mut Option<Signal>) {
    match signal {
        // There are no more once the runtime ends.
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
