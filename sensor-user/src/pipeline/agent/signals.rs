//! Signals that end the agent, or a recording.

use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal as Number};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::deliver::Outbox;
use crate::helpers::Helpers;

/// Signals that wait until somebody listens: a start that they come in ends in order.
#[derive(Debug)]
pub(in crate::pipeline) struct Held(SigSet);

impl Held {
    /// Holds them on the calling thread, and on those that it starts.
    pub(in crate::pipeline) fn hold() -> anyhow::Result<Self> {
        let set = SigSet::from_iter([Number::SIGINT, Number::SIGTERM]);
        set.thread_block().context("hold signals back")?;
        Ok(Self(set))
    }

    /// Listens to them from here on, on the thread that held them. Within a runtime only.
    pub(in crate::pipeline) fn listen(self) -> anyhow::Result<Signals> {
        let signals = Signals {
            interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
        };
        self.0.thread_unblock().context("take signals again")?;
        Ok(signals)
    }
}

/// The signals that end the agent, or a recording.
pub(in crate::pipeline) struct Signals {
    pub(in crate::pipeline) interrupt: Signal,
    pub(in crate::pipeline) terminate: Signal,
}

/// Waits for a reason to end.
pub(super) async fn until_told(
    mut signals: Signals,
    (outbox, helpers): (&Outbox, &Helpers),
    mut died: oneshot::Receiver<()>,
) -> &'static str {
    let mut look = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            _ = signals.interrupt.recv() => return "interrupted",
            _ = signals.terminate.recv() => return "terminated",
            _ = &mut died => return "the pipeline's thread ended",
            _ = look.tick() => {
                if outbox.stdout_closed() {
                    return "nobody reads standard output";
                }
                if helpers.ended().is_some() {
                    return "a helper ended that cannot be started again";
                }
            }
        }
    }
}
