//! What the deliverer gives to the task of each sink.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::backoff::RetryPolicy;
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::deliver::spool::{DeadLetters, Spool};

/// Values that all sinks share.
#[derive(Debug, Clone)]
pub(super) struct DeliveryContext {
    pub(super) retry: RetryPolicy,
    pub(super) stats: Arc<Stats>,
    pub(super) clock: Arc<dyn Clock>,
    /// Set when the reader of standard output has exited.
    pub(super) stdout_closed: Arc<AtomicBool>,
    pub(super) dead_letters: Arc<DeadLetters>,
    /// `None` if no sink received alerts when delivery started.
    pub(super) spool: Option<Spool>,
}

/// Phase of a sink's task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SinkPhase {
    Running,
    /// No more items are queued.
    Draining {
        /// All alerts are on disk, so that undelivered ones may stay there.
        alerts_durable: bool,
    },
}
