//! Recovery: reads the folder of a spool at start, and repairs what a crash left.
//!
//! No content refuses the start. A torn end of the last segment is cut off. Zeros at the end of a
//! segment are reserved room. Other damage stays in the file and is skipped, and so are missing segments
//! (`gaps.rs`). A file with an invalid
//! header is renamed to `NAME.bad` (the last eight are kept). A frame whose ordinal came before is
//! the repetition after a failed sync, and is ignored. Of the states, only those without a gap count.

use std::collections::VecDeque;
use std::io;

use super::cursors;
use super::frame::{BODY_MIN, HEADER, StateBytes, StoredCommit, numbers_of_body, read_commits};
use super::gaps::{Gap, GapFinder};
use super::segment::{Segment, SegmentFile};
use super::storage::Storage;
use crate::base::counters::Stats;
use crate::base::framing::{FrameDamage, FrameError, FrameStep, PREFIX};

/// Renamed files that are kept.
const BAD_MAX: usize = 8;
/// Alerts that a damaged frame may have.
const ALERTS_PLAUSIBLE: u64 = 100_000;
/// Repairs that are listed one by one.
const REPAIRS_MAX: usize = 32;

/// Numbers of the next alert, commit and segment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct NextNumbers {
    /// At least 1, and above all numbers that were used.
    pub(super) sequence: u64,
    pub(super) ordinal: u64,
    pub(super) generation: u64,
}

/// Content of a folder.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    pub(super) segments: VecDeque<Segment>,
    pub(super) cursors: Vec<(String, u64)>,
    pub(super) states: RecoveredStates,
    /// Number after that of the last alert.
    pub(super) end: u64,
    pub(super) next: NextNumbers,
    /// Generation of the segment with the last snapshot.
    pub(super) floor: Option<u64>,
    /// True if the last segment can be appended to.
    pub(super) can_append: bool,
    pub(super) repairs: Vec<String>,
    /// Number of repairs, listed or not.
    repaired: u64,
    /// Unreadable alerts, as far as the numbers show.
    lost: u64,
    /// True if bytes before the next frame are unreadable.
    is_damaged: bool,
}

/// The last snapshot and the changes since.
#[derive(Debug, Default)]
pub(super) struct RecoveredStates {
    pub(super) snapshot: Option<Vec<u8>>,
    pub(super) changes: Vec<Vec<u8>>,
    /// Number of the last state.
    pub(super) chain: u64,
    has_gap: bool,
}

impl RecoveredStates {
    /// Adds the state of the next commit; returns true for a snapshot.
    fn add(&mut self, state: StateBytes<'_>, chain: u64) -> bool {
        let follows = chain == self.chain.saturating_add(1);
        self.chain = chain;
        match state {
            StateBytes::Snapshot(bytes) => {
                self.snapshot = Some(bytes.to_vec());
                self.changes.clear();
                self.has_gap = false;
                return true;
            }
            StateBytes::Change(bytes) if follows && self.is_complete() => {
                self.changes.push(bytes.to_vec());
            }
            StateBytes::Change(_) => self.has_gap = true,
        }
        false
    }

    /// True if the next change applies to these states.
    pub(super) const fn is_complete(&self) -> bool {
        self.snapshot.is_some() && !self.has_gap
    }
}

/// Reads and repairs a folder. Fails only if it cannot be created or listed.
pub(super) fn recover(storage: &dyn Storage) -> io::Result<Recovery> {
    storage.prepare()?;
    let files = SegmentFile::list(storage)?;
    let first = files.iter().map(|file| file.first).max().unwrap_or(1).max(1);
    let generation = files.last().map_or(0, |file| file.generation) + 1;
    let next = NextNumbers { sequence: first, ordinal: 1, generation };
    let mut found = Recovery { next, ..Recovery::default() };
    match cursors::load(storage) {
        Ok(cursors) => found.cursors = cursors,
        Err(error) => {
            let repair = format!("cannot be read: {error}; each sink gets all retained alerts");
            found.repaired(storage, cursors::FILE, &repair);
        }
    }
    let mut gaps = GapFinder::new(storage, &found.cursors)?;
    let last = files.last().cloned();
    for file in files {
        found.can_append = false;
        if let Some(gap) = gaps.before(&file, found.end) {
            found.skip(storage, &file, &gap);
        }
        if let Err(error) = found.read(storage, &file, Some(&file) == last.as_ref()) {
            found.is_damaged = true;
            found.repaired(
                storage,
                &file.name,
                &format!("cannot be read: {error}; it is not changed"),
            );
        }
    }
    remove_old_bad(storage)?;
    // Cursors may have numbers of alerts that never came to this disk.
    let used = found.cursors.iter().map(|(_, cursor)| *cursor).max().unwrap_or(0);
    found.next.sequence = found.next.sequence.max(found.end).max(used);
    Ok(found)
}

impl Recovery {
    /// Content of a folder that cannot be read, with numbers from `first` on.
    pub(super) fn unreadable(first: u64) -> Self {
        let next = NextNumbers { sequence: first, ordinal: first, generation: 0 };
        Self { end: first, next, ..Self::default() }
    }

    /// Adds repairs and losses to the counters.
    pub(super) fn count(&self, stats: &Stats) {
        stats.spool_repairs.add(self.repaired);
        stats.spool_alerts_lost_corrupt.add(self.lost);
    }

    fn repaired(&mut self, storage: &dyn Storage, name: &str, repair: &str) {
        self.repaired += 1;
        let path = storage.path(name);
        tracing::warn!(path = %path.display(), damage = %repair, "spool is damaged");
        if self.repairs.len() < REPAIRS_MAX {
            self.repairs.push(format!("{}: {repair}", path.display()));
        }
    }

    /// Counts the alerts of missing segments before `file` as lost.
    fn skip(&mut self, storage: &dyn Storage, file: &SegmentFile, gap: &Gap) {
        self.repaired(storage, &file.name, &gap.text);
        // The numbers after damage are counted with it.
        if !(self.is_damaged && self.end > 0) {
            self.lost += gap.alerts.end.saturating_sub(gap.alerts.start);
        }
    }

    fn read(&mut self, storage: &dyn Storage, file: &SegmentFile, is_last: bool) -> io::Result<()> {
        let mut segment = match file.read_header(storage)? {
            Ok(segment) => segment,
            // A crash directly after the file was created: it has no frames.
            Err(_) if file.bytes < HEADER && is_last => {
                return storage.remove(&file.name).or(Ok(()));
            }
            Err(reason) => {
                self.is_damaged = true;
                let bad = format!("{}.bad", file.name);
                let repair = match storage.rename(&file.name, &bad) {
                    Ok(()) => format!("{reason}; it is renamed to {bad}"),
                    Err(error) => format!("{reason}; it cannot be renamed: {error}"),
                };
                self.repaired(storage, &file.name, &repair);
                return Ok(());
            }
        };
        self.can_append = is_last;
        self.advance(segment.first);
        self.next.ordinal = self.next.ordinal.max(segment.ordinal);
        let mut commits = read_commits(storage, &file.name, HEADER..file.bytes, segment.ordinal);
        let mut damages = Vec::new();
        loop {
            match commits.next_step()? {
                FrameStep::End => break,
                FrameStep::Zeros(start) => {
                    // The next segment shows whether alerts are missing.
                    self.is_damaged = !is_last;
                    segment.bytes = start;
                    break;
                }
                FrameStep::Damage(damage) => {
                    self.is_damaged = true;
                    damages.push(damage);
                }
                FrameStep::Frame(_, commit) => self.add(&mut segment, &commit),
            }
        }
        for damage in damages {
            self.repair(storage, &mut segment, damage, is_last);
        }
        self.segments.push_back(segment);
        Ok(())
    }

    /// The next alerts begin at the number `sequence`; alerts between may be lost.
    fn advance(&mut self, sequence: u64) {
        if self.is_damaged && self.end > 0 {
            self.lost += sequence.saturating_sub(self.end);
        }
        self.is_damaged = false;
        self.next.sequence = self.next.sequence.max(sequence);
        self.end = self.end.max(sequence);
    }

    fn add(&mut self, segment: &mut Segment, commit: &StoredCommit<'_>) {
        let header = commit.header;
        if header.ordinal < self.next.ordinal || header.sequence < self.end {
            return;
        }
        self.advance(header.sequence);
        self.next.ordinal = header.ordinal.saturating_add(1);
        self.end = commit.end();
        segment.add_stored(commit);
        if commit.state.is_some_and(|state| self.states.add(state, header.chain)) {
            self.floor = Some(segment.generation);
        }
    }

    fn repair(
        &mut self,
        storage: &dyn Storage,
        segment: &mut Segment,
        FrameDamage { start, end, error, is_tail }: FrameDamage,
        is_last: bool,
    ) {
        let bytes = end - start;
        let mut dropped = String::new();
        let action = if is_last && is_tail {
            // A frame without its end was not synced: no sink has its alerts, and they are raised again.
            if !matches!(error, FrameError::Truncated) {
                let damaged = alerts_of_damaged(storage, &segment.name, start, self.end);
                self.lost += damaged;
                dropped = format!("; it had {damaged} alerts");
            }
            let truncated = storage.open(&segment.name).and_then(|mut file| {
                file.truncate(start)?;
                file.sync()
            });
            match truncated {
                Ok(()) => {
                    segment.bytes = start;
                    format!("the last {bytes} bytes are cut off")
                }
                Err(error) => {
                    self.can_append = false;
                    format!("the last {bytes} bytes cannot be cut off: {error}")
                }
            }
        } else {
            format!("{bytes} bytes are skipped")
        };
        let repair = format!("offset {start}: {error}; {action}{dropped}");
        self.repaired(storage, &segment.name, &repair);
    }
}

/// Number of the alerts of a damaged frame at `start`, as far as its beginning is plausible: its first alert
/// is `next`. At least 1, since most frames have an alert.
fn alerts_of_damaged(storage: &dyn Storage, name: &str, start: u64, next: u64) -> u64 {
    let read = storage.read_at(name, start + PREFIX as u64, BODY_MIN).unwrap_or_default();
    match numbers_of_body(&read) {
        Some((sequence, alerts)) if sequence == next && alerts <= ALERTS_PLAUSIBLE => alerts,
        _ => 1,
    }
}

/// Removes all renamed files but the last.
fn remove_old_bad(storage: &dyn Storage) -> io::Result<()> {
    let files = storage.list()?.into_iter();
    let mut bad: Vec<SegmentFile> = files
        .filter_map(|(name, bytes)| SegmentFile::new(name.strip_suffix(".bad")?.to_owned(), bytes))
        .collect();
    bad.sort();
    let count = bad.len().saturating_sub(BAD_MAX);
    for file in bad.into_iter().take(count) {
        let name = format!("{}.bad", file.name);
        if let Err(error) = storage.remove(&name) {
            let path = storage.path(&name);
            tracing::warn!(path = %path.display(), %error, "old damaged file cannot be removed");
        }
    }
    Ok(())
}
