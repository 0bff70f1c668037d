//! Scan: the frames of a segment one after the other, and what is damaged between them.
//!
//! Damage is told with its place and never ends the reading: the scan looks for the next whole frame
//! behind it. A frame is taken for one where its length fits, its ordinal may follow, and its crc32
//! is right. The looking is bounded: 64 MiB, and 256 MiB of checksums.

use std::fmt;
use std::io;

use super::frame::{FRAME_MAX, Frame, HEAD, PREFIX, prefix};
use super::storage::Storage;

/// Bytes that are read at once at least.
const READ_AHEAD: usize = 256 << 10;
/// Bytes behind damage that are looked through for a frame at most.
const SEARCH_MAX: usize = 64 << 20;
/// Bytes whose crc32 is made in one such search at most.
const SEARCH_HASHED_MAX: usize = 256 << 20;
/// Ordinals of one segment are not further apart.
const ORDINALS_MAX: u64 = 1 << 32;

/// What is next in a segment.
#[derive(Debug)]
pub(super) enum Step<'b> {
    /// A whole frame, and where it begins.
    Frame(u64, Frame<'b>),
    /// Something that is none.
    Damage(Damage),
    /// Zeros from there to the end, which were never written to: the room of a segment that nobody
    /// ended, or what power loss left of a write that was not synced.
    Zeros(u64),
    /// Nothing.
    End,
}

/// Bytes that are no frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damage {
    /// Where they begin.
    pub(super) offset: u64,
    /// Where they end.
    pub(super) until: u64,
    /// What is wrong with what begins there.
    pub(super) wrong: Wrong,
    /// Whether nothing whole follows.
    pub(super) is_tail: bool,
}

/// Why something is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    Length(u32),
    Cut,
    Crc,
    Commit,
}

impl fmt::Display for Wrong {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(out, "no frame has {length} bytes"),
            Self::Cut => out.write_str("the frame is cut"),
            Self::Crc => out.write_str("the frame's crc32 is wrong"),
            Self::Commit => out.write_str("the frame holds no commit"),
        }
    }
}

/// Reads a segment from an offset on.
#[derive(Debug)]
pub(super) struct Scan<'s> {
    storage: &'s dyn Storage,
    name: &'s str,
    /// Nothing from here on is read.
    end: u64,
    /// Where the next frame begins.
    offset: u64,
    /// No frame from here on has a lower ordinal.
    ordinal: u64,
    /// Bytes from `offset` on, after those that are used up.
    buffer: Vec<u8>,
    used: usize,
}

impl<'s> Scan<'s> {
    /// The frames of `name` from `offset` to `end`, whose ordinals are `ordinal` and more.
    pub(super) const fn new(
        storage: &'s dyn Storage,
        name: &'s str,
        (offset, end): (u64, u64),
        ordinal: u64,
    ) -> Self {
        Self { storage, name, end, offset, ordinal, buffer: Vec::new(), used: 0 }
    }

    /// How far it is.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The next frame, damage, or the end.
    pub(super) fn next(&mut self) -> io::Result<Step<'_>> {
        if self.offset >= self.end {
            return Ok(Step::End);
        }
        let start = self.offset;
        let wrong = match self.check()? {
            Ok(length) => {
                let from = self.used + PREFIX;
                let until = from + length;
                self.used = until;
                self.offset += (PREFIX + length) as u64;
                let body = self.buffer.get(from..until).unwrap_or_default();
                match Frame::parse(body) {
                    Some(frame) => {
                        self.ordinal = self.ordinal.max(frame.ordinal);
                        return Ok(Step::Frame(start, frame));
                    }
                    None => Wrong::Commit,
                }
            }
            Err(_) if self.search()? => return Ok(Step::Zeros(start)),
            Err(wrong) => wrong,
        };
        let (until, is_tail) = (self.offset, self.offset >= self.end);
        Ok(Step::Damage(Damage { offset: start, until, wrong, is_tail }))
    }

    /// The length of the frame at `offset`, whose bytes are then in the buffer.
    fn check(&mut self) -> io::Result<Result<usize, Wrong>> {
        if !self.fill(PREFIX)? {
            return Ok(Err(Wrong::Cut));
        }
        let bytes = self.buffer.get(self.used..).unwrap_or_default();
        let Some((length, crc)) = prefix(bytes) else { return Ok(Err(Wrong::Cut)) };
        if (length as usize) < HEAD || length > FRAME_MAX {
            return Ok(Err(Wrong::Length(length)));
        }
        if u64::from(length) > self.end.saturating_sub(self.offset + PREFIX as u64) {
            return Ok(Err(Wrong::Cut));
        }
        let whole = PREFIX + length as usize;
        if !self.fill(whole)? {
            return Ok(Err(Wrong::Cut));
        }
        let body = self.buffer.get(self.used + PREFIX..self.used + whole).unwrap_or_default();
        Ok(if crc32fast::hash(body) == crc { Ok(length as usize) } else { Err(Wrong::Crc) })
    }

    /// Has at least `length` bytes from `offset` on in the buffer; false where there are not so many.
    fn fill(&mut self, length: usize) -> io::Result<bool> {
        let there = self.buffer.len().saturating_sub(self.used);
        if there >= length {
            return Ok(true);
        }
        self.buffer.drain(..self.used.min(self.buffer.len()));
        self.used = 0;
        let from = self.offset + there as u64;
        let rest = usize::try_from(self.end.saturating_sub(from)).unwrap_or(usize::MAX);
        let more = (length - there).max(READ_AHEAD).min(rest);
        self.buffer.extend(self.storage.read_at(self.name, from, more)?);
        Ok(self.buffer.len() >= length)
    }

    /// Moves on to the next whole frame behind `offset`, or to the end; whether there are only zeros
    /// up to that.
    fn search(&mut self) -> io::Result<bool> {
        let rest = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let bytes = self.storage.read_at(self.name, self.offset, rest.min(SEARCH_MAX))?;
        let is_zeros = bytes.len() == rest && bytes.iter().all(|byte| *byte == 0);
        let found = if is_zeros { None } else { self.find(&bytes) };
        self.buffer.clear();
        self.used = 0;
        self.offset = found.map_or(self.end, |at| self.offset + at as u64);
        Ok(is_zeros)
    }

    fn find(&self, bytes: &[u8]) -> Option<usize> {
        let mut hashed = 0;
        let ordinals = self.ordinal..self.ordinal.saturating_add(ORDINALS_MAX);
        (1..bytes.len().saturating_sub(PREFIX + HEAD - 1)).find(|at| {
            let here = bytes.get(*at..).unwrap_or_default();
            let Some((length, crc)) = prefix(here) else { return false };
            let body = here.get(PREFIX..PREFIX.saturating_add(length as usize));
            let Some(body) = body.filter(|body| body.len() >= HEAD) else { return false };
            let ordinal = body.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            if !ordinals.contains(&ordinal) || hashed >= SEARCH_HASHED_MAX {
                return false;
            }
            hashed += body.len();
            crc32fast::hash(body) == crc && Frame::parse(body).is_some()
        })
    }
}
