//! `LookupThread`: the thread that waits for the worker.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use super::messages::{NatLookup, NatResponse};
use crate::base::counters::Stats;
use crate::privsep::WorkerClient;

/// Lookups of one batch, and the response to them; `None` if the worker failed.
pub(super) type FinishedBatch = (Vec<NatLookup>, Option<NatResponse>);

/// The thread that waits for the worker.
#[derive(Debug)]
pub(super) struct LookupThread {
    pub(super) lookups: Receiver<Vec<NatLookup>>,
    pub(super) finished: SyncSender<FinishedBatch>,
    pub(super) worker: Arc<WorkerClient>,
    pub(super) stats: Arc<Stats>,
}

impl LookupThread {
    pub(super) fn run(self) {
        while let Ok(batch) = self.lookups.recv() {
            let response = match self.worker.request::<_, NatResponse>(&batch) {
                Ok(response) => {
                    self.stats.add_all(&response.counters);
                    Some(response)
                }
                Err(error) => {
                    tracing::debug!(%error, "worker nat");
                    self.stats.nat_lookups_failed.add(batch.len() as u64);
                    None
                }
            };
            if self.finished.send((batch, response)).is_err() {
                return;
            }
        }
    }
}
