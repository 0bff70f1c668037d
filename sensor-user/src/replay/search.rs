//! `Search`: the match of all rows against all indicators, on all cores, with one result for each pair of
//! indicator and remote address.
//!
//! The workers receive blocks of lines in rounds, while the next round is read. The result does not
//! depend on the assignment of rows to workers: rows are ordered by time and position, and sums are
//! independent of order.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use super::blocks::{Block, Blocks, worker_count};
use super::input;
use super::options::{PAIRS_MAX, ReplayError, RowChecks, Window};
use super::recorded_row;
use super::recorded_row::{RecordedLine, RecordedRow};
use super::reject_log::{LISTED_MAX, RejectLog};
use super::row_scan::{Miss, RowScan};
use crate::base::json_text::repaired;
use crate::base::lines::LINE_MAX;
use crate::base::progress::Progress;
use crate::intel::IndicatorSet;
use crate::pipeline::aggregate::Tally;
use crate::pipeline::dedup::Sighting;
use crate::pipeline::matcher::{Hit, Via, covering, covering_addresses};

/// A search in progress.
pub(super) struct Search<'set> {
    workers: Vec<SearchWorker<'set>>,
    files: usize,
    progress: Progress,
}

/// Result over all of the input.
#[derive(Default)]
pub(super) struct SearchResult {
    pub(super) rows: u64,
    pub(super) rows_in_window: u64,
    /// Losses while the input was recorded.
    pub(super) lost: u64,
    pub(super) pairs: Vec<Pair>,
}

/// The latest row of an indicator and a remote address, and the counts of all their rows.
pub(super) struct Pair {
    /// Hit of the latest row.
    pub(super) hit: Hit,
    pub(super) latest: Arc<Sighting>,
    pub(super) tally: Tally,
    position: InputPosition,
}

/// File, block and line in it, which order the input.
type InputPosition = (usize, u64, u64);

impl<'set> Search<'set> {
    /// A search over the rows in `window` for the indicators of `set`.
    pub(super) fn new(
        set: &'set IndicatorSet,
        window: Window,
        checks: RowChecks,
        progress: Progress,
    ) -> Self {
        let count = worker_count();
        let workers = (0..count).map(|_| SearchWorker::new(set, window, checks)).collect();
        Self { workers, files: 0, progress }
    }

    /// Reads a file. Its rows are ordered after those of the files read before.
    pub(super) fn read_file(
        &mut self,
        path: &Path,
        log: &mut RejectLog<'_>,
    ) -> Result<(), ReplayError> {
        let failed = |source| ReplayError::Read { path: path.to_owned(), source };
        let file = self.files;
        self.files += 1;
        let input = input::open_rows(path, &self.progress).map_err(failed)?;
        if let Some(hint) = input.hint() {
            log.note(path, 1, hint).map_err(ReplayError::WriteRejects)?;
        }
        let mut blocks = Blocks::new(input.reader);
        let (mut number, mut first_line) = (0, 1);
        let mut round: Vec<Block> = self.workers.iter().map(|_| Block::default()).collect();
        let mut next: Vec<Block> = self.workers.iter().map(|_| Block::default()).collect();
        blocks.fill(&mut round).map_err(failed)?;
        while round.iter().any(|block| !block.is_empty()) {
            let read = thread::scope(|scope| {
                for (worker, block) in self.workers.iter_mut().zip(&round) {
                    let at = (file, number);
                    number += 1;
                    if !block.is_empty() {
                        scope.spawn(move || worker.read_block(at, block));
                    }
                }
                blocks.fill(&mut next)
            });
            for worker in &mut self.workers {
                worker.log_rejected(path, first_line, log).map_err(ReplayError::WriteRejects)?;
                first_line += std::mem::take(&mut worker.lines);
                worker.check_limit()?;
            }
            self.progress.set_rows(self.workers.iter().map(|worker| worker.rows).sum());
            read.map_err(failed)?;
            std::mem::swap(&mut round, &mut next);
        }
        Ok(())
    }

    /// Merges the results of the workers.
    pub(super) fn finish(self) -> Result<SearchResult, ReplayError> {
        let mut workers = self.workers.into_iter();
        let Some(mut all) = workers.next() else {
            return Ok(SearchResult::default());
        };
        for worker in workers {
            all.merge(worker);
            all.check_limit()?;
        }
        let pairs = all.pairs.into_values().collect();
        let SearchWorker { rows, rows_in_window, lost, .. } = all;
        Ok(SearchResult { rows, rows_in_window, lost, pairs })
    }
}

/// State of one thread.
struct SearchWorker<'set> {
    set: &'set IndicatorSet,
    window: Window,
    /// `None` if every row is parsed.
    scan: Option<RowScan<'set>>,
    pairs: HashMap<(String, IpAddr), Pair>,
    rows: u64,
    rows_in_window: u64,
    lost: u64,
    /// Lines of the round's block.
    lines: u64,
    /// First malformed lines of the block, from 0, with their reasons.
    rejected: Vec<(u64, String)>,
    rejected_unlisted: u64,
    /// First values of the block that are not used, of rows that are.
    unused: Vec<(u64, String)>,
    unused_unlisted: u64,
}

impl<'set> SearchWorker<'set> {
    fn new(set: &'set IndicatorSet, window: Window, checks: RowChecks) -> Self {
        Self {
            set,
            window,
            scan: (checks == RowChecks::Hits).then(|| RowScan::new(set, window)),
            pairs: HashMap::new(),
            rows: 0,
            rows_in_window: 0,
            lost: 0,
            lines: 0,
            rejected: Vec::new(),
            rejected_unlisted: 0,
            unused: Vec::new(),
            unused_unlisted: 0,
        }
    }

    fn read_block(&mut self, (file, block_number): (usize, u64), block: &Block) {
        for bytes in block.lines() {
            let line = self.lines;
            self.lines += 1;
            let row = match bytes {
                Some(bytes) if bytes.trim_ascii_start().is_empty() => continue,
                Some(bytes) => self.read_row((file, block_number, line), bytes),
                None => Err(format!("line too long; at most {LINE_MAX} bytes")),
            };
            self.rows += 1;
            match row {
                Ok(()) => {}
                Err(reason) if (self.rejected.len() as u64) < LISTED_MAX => {
                    self.rejected.push((line, reason));
                }
                Err(_unlisted) => self.rejected_unlisted += 1,
            }
        }
    }

    /// Matches a row. Returns the reason if it is malformed.
    fn read_row(&mut self, position: InputPosition, line: &[u8]) -> Result<(), String> {
        match self.scan.as_mut().and_then(|scan| scan.miss(line)) {
            Some(Miss::Early) => return Ok(()),
            Some(Miss::InWindow) => {
                self.rows_in_window += 1;
                return Ok(());
            }
            None => {}
        }
        let line = repaired(line);
        let line = recorded_row::text(&line)?;
        let head = match recorded_row::parse_head(line)? {
            RecordedLine::Row(head) => head,
            RecordedLine::DnsAnswer => return Ok(()),
            RecordedLine::AgentEvent { lost } => {
                self.lost = self.lost.saturating_add(lost);
                return Ok(());
            }
        };
        if head.time < self.window.start {
            return Ok(());
        }
        let at = self.window.at;
        let is_live = |it: &Hit| it.indicator.counts(at, head.time);
        // Ports are parsed only for rows that may be a hit.
        if covering_addresses(self.set, head.remote, head.translated).any(|it| is_live(&it)) {
            let mut row = recorded_row::parse_row(line, head)?;
            for text in std::mem::take(&mut row.unused) {
                if (self.unused.len() as u64) < LISTED_MAX {
                    self.unused.push((position.2, text));
                } else {
                    self.unused_unlisted += 1;
                }
            }
            for it in covering(self.set, row.peer(head)).filter(is_live) {
                let key = (it.indicator.id.clone(), head.remote);
                self.add(key, Pair::new(it, &row, position));
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

    /// Logs what was found in a block that begins with line `first`.
    fn log_rejected(&mut self, path: &Path, first: u64, log: &mut RejectLog<'_>) -> io::Result<()> {
        for (line, reason) in self.rejected.drain(..) {
            log.add(path, first + line, &reason)?;
        }
        log.add_unlisted(std::mem::take(&mut self.rejected_unlisted));
        for (line, text) in self.unused.drain(..) {
            log.note(path, first + line, &text)?;
        }
        log.add_unlisted_notes(std::mem::take(&mut self.unused_unlisted));
        Ok(())
    }

    fn check_limit(&self) -> Result<(), ReplayError> {
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
    fn new(hit: Hit, row: &RecordedRow, position: InputPosition) -> Self {
        let tally = Tally {
            first_seen: row.sighting.time,
            last_seen: row.sighting.time,
            connections: match hit.via {
                Via::Conntrack => row.connections.saturating_add(row.translated),
                _ => row.connections,
            },
            bytes_sent: row.bytes_sent,
            bytes_received: row.bytes_received,
        };
        Self { hit, latest: Arc::clone(&row.sighting), tally, position }
    }

    /// Merges another row. Among equal times the later position is the latest, because all rows of a
    /// minute have the same time.
    fn merge(&mut self, other: Self) {
        self.tally.join(&other.tally);
        if (other.latest.time, other.position) > (self.latest.time, self.position) {
            self.latest = other.latest;
            self.hit = other.hit;
            self.position = other.position;
        }
    }
}
