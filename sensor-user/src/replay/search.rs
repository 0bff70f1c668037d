//! `Search`: all rows against all indicators, on all cores; what each pair of indicator and
//! remote address saw.
//!
//! Blocks of lines go to the workers in rounds, and the next round is read meanwhile. Which worker
//! reads a row makes no difference: rows are ordered by time and place, and sums have no order.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use jiff::Timestamp;

use super::at::{PAIRS_MAX, ReplayError};
use super::blocks::{Block, Blocks};
use super::input;
use super::reject_log::{RejectLog, SHOWN_MAX};
use super::rows;
use super::rows::Seen;
use crate::base::lines::LINE_MAX;
use crate::base::progress::Progress;
use crate::intel::IndicatorSet;
use crate::pipeline::aggregate::Tally;
use crate::pipeline::dedup::Sighting;
use crate::pipeline::matcher::{Covering, Hit, Via, covering, covering_addresses};

/// Threads at most: more do not help, as one reads the input.
const WORKERS_MAX: usize = 8;

/// Workers and what they read.
pub(super) struct Search<'set> {
    workers: Vec<Worker<'set>>,
    files: usize,
    progress: Progress,
}

/// What all of the input gives.
pub(super) struct Found {
    pub(super) rows: u64,
    pub(super) rows_in_window: u64,
    /// What the input says was lost while it was recorded.
    pub(super) lost: u64,
    pub(super) pairs: Vec<Pair>,
}

/// The latest row of an indicator and a remote address, and what all of them count.
pub(super) struct Pair {
    /// Of the latest row.
    pub(super) hit: Hit,
    pub(super) latest: Arc<Sighting>,
    pub(super) tally: Tally,
    place: Place,
}

/// File and line: the order of the input.
type Place = (usize, u64);

impl<'set> Search<'set> {
    /// What counts at `at`; rows before `oldest` are ignored.
    pub(super) fn new(
        set: &'set IndicatorSet,
        (oldest, at): (Timestamp, Timestamp),
        progress: Progress,
    ) -> Self {
        let count = thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
        let workers = (0..count).map(|_| Worker::new(set, oldest, at)).collect();
        Self { workers, files: 0, progress }
    }

    /// Reads a file; it comes after those read before.
    pub(super) fn file(&mut self, path: &Path, log: &mut RejectLog<'_>) -> Result<(), ReplayError> {
        let failed = |source| ReplayError::Read { path: path.to_owned(), source };
        let file = self.files;
        self.files += 1;
        let mut blocks = Blocks::new(input::open(path, &self.progress).map_err(failed)?.reader);
        let mut round: Vec<Block> = self.workers.iter().map(|_| Block::default()).collect();
        let mut next: Vec<Block> = self.workers.iter().map(|_| Block::default()).collect();
        blocks.fill(&mut round).map_err(failed)?;
        while round.iter().any(|block| !block.is_empty()) {
            let read = thread::scope(|scope| {
                for (worker, block) in self.workers.iter_mut().zip(&round) {
                    if !block.is_empty() {
                        scope.spawn(move || worker.block(file, block));
                    }
                }
                blocks.fill(&mut next)
            });
            for worker in &mut self.workers {
                worker.report(path, log).map_err(ReplayError::WriteRejects)?;
                worker.check()?;
            }
            self.progress.set_rows(self.workers.iter().map(|worker| worker.rows).sum());
            read.map_err(failed)?;
            std::mem::swap(&mut round, &mut next);
        }
        Ok(())
    }

    /// Puts together what the workers found.
    pub(super) fn finish(self) -> Result<Found, ReplayError> {
        let mut workers = self.workers.into_iter();
        let Some(mut all) = workers.next() else {
            return Ok(Found { rows: 0, rows_in_window: 0, lost: 0, pairs: Vec::new() });
        };
        for worker in workers {
            all.merge(worker);
            all.check()?;
        }
        let pairs = all.pairs.into_values().collect();
        Ok(Found { rows: all.rows, rows_in_window: all.rows_in_window, lost: all.lost, pairs })
    }
}

/// One thread's share.
struct Worker<'set> {
    set: &'set IndicatorSet,
    oldest: Timestamp,
    at: Timestamp,
    pairs: HashMap<(String, IpAddr), Pair>,
    rows: u64,
    rows_in_window: u64,
    lost: u64,
    /// Malformed lines of the round, the first in full.
    rejected: Vec<(u64, String)>,
    rejected_unseen: u64,
}

impl<'set> Worker<'set> {
    fn new(set: &'set IndicatorSet, oldest: Timestamp, at: Timestamp) -> Self {
        Self {
            set,
            oldest,
            at,
            pairs: HashMap::new(),
            rows: 0,
            rows_in_window: 0,
            lost: 0,
            rejected: Vec::new(),
            rejected_unseen: 0,
        }
    }

    fn block(&mut self, file: usize, block: &Block) {
        for (line, bytes) in block.lines() {
            let row = match bytes {
                Some(bytes) if bytes.trim_ascii_start().is_empty() => continue,
                Some(bytes) => self.row((file, line), bytes),
                None => Err(format!("line too long; at most {LINE_MAX} bytes")),
            };
            self.rows += 1;
            match row {
                Ok(()) => {}
                Err(reason) if (self.rejected.len() as u64) < SHOWN_MAX => {
                    self.rejected.push((line, reason));
                }
                Err(_unseen) => self.rejected_unseen += 1,
            }
        }
    }

    /// Takes a row in; the error is the reason why it is malformed.
    fn row(&mut self, place: Place, line: &[u8]) -> Result<(), String> {
        let line = rows::text(line)?;
        let head = match rows::head(line)? {
            rows::Line::Row(head) => head,
            rows::Line::Answer => return Ok(()),
            rows::Line::AgentEvent { lost } => {
                self.lost = self.lost.saturating_add(lost);
                return Ok(());
            }
        };
        if head.time < self.oldest {
            return Ok(());
        }
        let at = self.at;
        let is_live = |it: &Covering| it.indicator.counts(at, head.time);
        // The ports are read only of what may be a hit.
        if covering_addresses(self.set, head.remote, head.translated).any(|it| is_live(&it)) {
            let seen = rows::seen(line, head)?;
            for it in covering(self.set, seen.peer(head)).filter(is_live) {
                let key = (it.indicator.id.clone(), head.remote);
                self.add(key, Pair::new(it.into_hit(), &seen, place));
            }
        }
        self.rows_in_window += 1;
        Ok(())
    }

    fn add(&mut self, key: (String, IpAddr), pair: Pair) {
        match self.pairs.get_mut(&key) {
            Some(known) => known.merge(pair),
            None => {
                self.pairs.insert(key, pair);
            }
        }
    }

    fn report(&mut self, path: &Path, log: &mut RejectLog<'_>) -> io::Result<()> {
        for (line, reason) in self.rejected.drain(..) {
            log.add(path, line, &reason)?;
        }
        log.add_unseen(std::mem::take(&mut self.rejected_unseen));
        Ok(())
    }

    fn check(&self) -> Result<(), ReplayError> {
        if self.pairs.len() > PAIRS_MAX { Err(ReplayError::TooManyPairs) } else { Ok(()) }
    }

    fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.rows_in_window += other.rows_in_window;
        self.lost = self.lost.saturating_add(other.lost);
        for (key, pair) in other.pairs {
            self.add(key, pair);
        }
    }
}

impl Pair {
    fn new(hit: Hit, seen: &Seen, place: Place) -> Self {
        let tally = Tally {
            first_seen: seen.sighting.time,
            last_seen: seen.sighting.time,
            connections: match hit.via {
                Via::Conntrack => seen.connections.saturating_add(seen.translated),
                _ => seen.connections,
            },
            bytes_sent: seen.bytes_sent,
            bytes_received: seen.bytes_received,
        };
        Self { hit, latest: Arc::clone(&seen.sighting), tally, place }
    }

    /// Of equal times the later in input is the latest: rows of a minute all have its start.
    fn merge(&mut self, other: Self) {
        self.tally.join(&other.tally);
        if (other.latest.time, other.place) > (self.latest.time, self.place) {
            self.latest = other.latest;
            self.hit = other.hit;
            self.place = other.place;
        }
    }
}
