//! Recover: what a folder holds when a spool is opened, and the repair of what a crash left.
//!
//! Nothing that is found refuses the start. A torn end of the last segment is cut off, zeros
//! at the end of any are room that was never used, damage elsewhere is left where it is and read around; a file with a header that cannot be used is
//! moved aside as `NAME.bad` (the last eight stay). A frame whose ordinal came before is the
//! repetition that follows a failed sync, and does not count. Of the states only those count
//! between which none is missing.

use std::collections::VecDeque;
use std::io;

use super::cursors;
use super::frame::{Frame, HEADER, Header, StateBytes};
use super::scan::{Damage, Scan, Step};
use super::segment::Segment;
use super::storage::Storage;

/// Files moved aside that stay at most.
const BAD_MAX: usize = 8;
/// Repairs that are told one by one at most.
const REPAIRS_MAX: usize = 32;

/// What a folder holds.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    pub(super) segments: VecDeque<Segment>,
    pub(super) cursors: Vec<(String, u64)>,
    pub(super) states: States,
    /// Number behind the last alert.
    pub(super) end: u64,
    /// A number that no alert had, at least 1.
    pub(super) next_sequence: u64,
    pub(super) next_ordinal: u64,
    pub(super) next_generation: u64,
    /// Generation of the segment with the last snapshot.
    pub(super) floor: Option<u64>,
    /// Whether the last segment can be written to.
    pub(super) goes_on: bool,
    pub(super) repairs: Vec<String>,
    /// How many repairs, told or not.
    pub(super) repaired: u64,
    /// Alerts that cannot be read any more, as far as their numbers tell.
    pub(super) lost: u64,
    /// Something before the next frame cannot be read.
    pub(super) is_damaged: bool,
}

/// The last snapshot and the changes since.
#[derive(Debug, Default)]
pub(super) struct States {
    pub(super) snapshot: Option<Vec<u8>>,
    pub(super) changes: Vec<Vec<u8>>,
    /// Number of the last of them.
    pub(super) chain: u64,
    has_gap: bool,
}

impl States {
    /// Takes in the state of the next commit; whether it is a snapshot.
    fn take(&mut self, state: StateBytes<'_>, chain: u64) -> bool {
        let follows = chain == self.chain.saturating_add(1);
        self.chain = chain;
        match state {
            StateBytes::Snapshot(bytes) => {
                self.snapshot = Some(bytes.to_vec());
                self.changes.clear();
                self.has_gap = false;
                return true;
            }
            StateBytes::Change(bytes) if follows && !self.has_gap && self.snapshot.is_some() => {
                self.changes.push(bytes.to_vec());
            }
            StateBytes::Change(_) => self.has_gap = true,
        }
        false
    }

    /// Whether a change that comes now would follow all before it.
    pub(super) const fn are_whole(&self) -> bool {
        self.snapshot.is_some() && !self.has_gap
    }
}

/// Reads and repairs; fails only where the folder cannot be made or listed.
pub(super) fn recover(storage: &dyn Storage) -> io::Result<Recovery> {
    storage.prepare()?;
    let files = storage.list()?;
    let mut found = Recovery { next_sequence: 1, next_ordinal: 1, ..Recovery::default() };
    let mut names: Vec<(u64, String, u64)> = Vec::new();
    for (name, bytes) in &files {
        if let Some((generation, first)) = Segment::numbers_of(name) {
            found.next_sequence = found.next_sequence.max(first);
            names.push((generation, name.clone(), *bytes));
        }
    }
    names.sort();
    found.next_generation = names.last().map_or(0, |(generation, ..)| *generation) + 1;
    let last = names.len();
    for (place, (generation, name, bytes)) in names.into_iter().enumerate() {
        let is_last = place + 1 == last;
        found.goes_on = false;
        if let Err(error) = found.read(storage, (generation, &name, bytes), is_last) {
            found.is_damaged = true;
            found.note(storage, &name, &format!("cannot be read: {error}; it is left as it is"));
        }
    }
    remove_old_bad(storage, files)?;
    match cursors::load(storage) {
        Ok(cursors) => found.cursors = cursors,
        Err(error) => {
            let what = format!("cannot be read: {error}; every sink gets what is retained");
            found.note(storage, cursors::FILE, &what);
        }
    }
    // Numbers that were used for alerts which never came to this disk are not used again.
    let used = found.cursors.iter().map(|(_, cursor)| *cursor).max().unwrap_or(0);
    found.next_sequence = found.next_sequence.max(found.end).max(used);
    Ok(found)
}

impl Recovery {
    fn note(&mut self, storage: &dyn Storage, name: &str, what: &str) {
        self.repaired += 1;
        let path = storage.path(name);
        let repair = format!("{}: {what}", path.display());
        tracing::warn!(path = %path.display(), damage = %what, "spool is damaged");
        if self.repairs.len() < REPAIRS_MAX {
            self.repairs.push(repair);
        }
    }

    fn read(
        &mut self,
        storage: &dyn Storage,
        (generation, name, bytes): (u64, &str, u64),
        is_last: bool,
    ) -> io::Result<()> {
        let header = storage.read_at(name, 0, usize::try_from(HEADER).unwrap_or(0))?;
        let header = match Header::parse(&header) {
            Ok(header) => header,
            Err(_) if bytes < HEADER && is_last => {
                // A crash right after it was made: there is nothing in it.
                return storage.remove(name).or(Ok(()));
            }
            Err(wrong) => {
                self.is_damaged = true;
                self.set_aside(storage, name, &wrong);
                return Ok(());
            }
        };
        let mut segment = Segment::new(generation, header.sequence, header.ordinal);
        name.clone_into(&mut segment.name);
        segment.bytes = bytes;
        self.goes_on = is_last;
        self.reach(header.sequence);
        self.next_ordinal = self.next_ordinal.max(header.ordinal);
        let mut scan = Scan::new(storage, name, (HEADER, bytes), header.ordinal);
        let mut damages = Vec::new();
        loop {
            match scan.next()? {
                Step::End => break,
                Step::Zeros(offset) => {
                    // What follows tells whether something was there.
                    self.is_damaged = !is_last;
                    segment.bytes = offset;
                    break;
                }
                Step::Damage(damage) => {
                    self.is_damaged = true;
                    damages.push(damage);
                }
                Step::Frame(_, frame) => self.take(&mut segment, &frame),
            }
        }
        for damage in damages {
            self.repair(storage, &mut segment, damage, is_last);
        }
        self.segments.push_back(segment);
        Ok(())
    }

    /// Alerts come next from the number `sequence` on.
    fn reach(&mut self, sequence: u64) {
        if self.is_damaged && self.end > 0 {
            self.lost += sequence.saturating_sub(self.end);
        }
        self.is_damaged = false;
        self.next_sequence = self.next_sequence.max(sequence);
        self.end = self.end.max(sequence);
    }

    fn take(&mut self, segment: &mut Segment, frame: &Frame<'_>) {
        if frame.ordinal < self.next_ordinal || frame.sequence < self.end {
            return;
        }
        self.reach(frame.sequence);
        self.next_ordinal = frame.ordinal.saturating_add(1);
        self.end = frame.end();
        segment.note(frame);
        if frame.state.is_some_and(|state| self.states.take(state, frame.chain)) {
            self.floor = Some(segment.generation);
        }
    }

    fn repair(
        &mut self,
        storage: &dyn Storage,
        segment: &mut Segment,
        damage: Damage,
        is_last: bool,
    ) {
        let Damage { offset, until, wrong, is_tail } = damage;
        let bytes = until - offset;
        if !(is_last && is_tail) {
            let what = format!("offset {offset}: {wrong}; {bytes} bytes are skipped");
            return self.note(storage, &segment.name, &what);
        }
        let cut = storage.open(&segment.name).and_then(|mut file| {
            file.truncate(offset)?;
            file.sync()
        });
        let what = match cut {
            Ok(()) => {
                segment.bytes = offset;
                format!("offset {offset}: {wrong}; the last {bytes} bytes are cut off")
            }
            Err(error) => {
                self.goes_on = false;
                format!("offset {offset}: {wrong}; {bytes} bytes cannot be cut off: {error}")
            }
        };
        self.note(storage, &segment.name, &what);
    }

    fn set_aside(&mut self, storage: &dyn Storage, name: &str, wrong: &str) {
        let what = match storage.rename(name, &format!("{name}.bad")) {
            Ok(()) => format!("{wrong}; it is moved aside as {name}.bad"),
            Err(error) => format!("{wrong}; it cannot be moved aside: {error}"),
        };
        self.note(storage, name, &what);
    }
}

/// Of the files that were moved aside the last stay.
fn remove_old_bad(storage: &dyn Storage, files: Vec<(String, u64)>) -> io::Result<()> {
    let bad = |name: &String| name.strip_suffix(".bad").and_then(Segment::numbers_of);
    let before: Vec<String> = files.into_iter().map(|(name, _)| name).collect();
    if !before.iter().any(|name| bad(name).is_some()) {
        return Ok(());
    }
    let mut all: Vec<((u64, u64), String)> =
        storage.list()?.into_iter().filter_map(|(name, _)| Some((bad(&name)?, name))).collect();
    all.sort();
    let too_many = all.len().saturating_sub(BAD_MAX);
    for (_, name) in all.into_iter().take(too_many) {
        if let Err(error) = storage.remove(&name) {
            let path = storage.path(&name);
            tracing::warn!(path = %path.display(), %error, "remove an old damaged file");
        }
    }
    Ok(())
}
