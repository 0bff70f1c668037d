//! Framing: length-prefixed, checksummed frames in files that are only appended to.
//!
//! The segments of the spool and of the history consist of frames:
//!
//! ```text
//! length u32 | crc32 u32 | body, `length` bytes
//! ```
//!
//! Both numbers are little-endian; the CRC-32 (IEEE 802.3) covers the body. A [`FrameFormat`] has
//! what differs between the files: the limits of the length, the content of a body, and how far to
//! search for the next frame behind damage.
//!
//! After a crash a file may end in a frame that is cut, or in zeros: room that was reserved and not
//! written to, or blocks that power loss took. [`FrameReader`] returns every whole frame, and each
//! range of other bytes once, with its [`FrameError`]. It never panics. Its memory is one frame of the
//! maximum length and the read-ahead, or one search.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

/// Bytes of a frame before its body.
pub const PREFIX: usize = 8;
/// Bytes that are read at once, at least.
const READ_AHEAD: usize = 256 << 10;
/// A search computes checksums of at most this many times the bytes that it reads.
const HASHES_PER_BYTE: usize = 4;

/// File format whose records are frames.
pub trait FrameFormat {
    /// Bytes of the shortest body. If it is above 0, zeros are not a frame.
    const LEN_MIN: u32;
    /// Bytes of the longest body.
    const LEN_MAX: u32;
    /// Bytes behind damage that are searched for the next frame; 0 if damage ends the file.
    const SEARCH_MAX: usize;
    /// Decoded body.
    type Body<'b>;

    /// Decodes a body whose checksum matches; `None` if it is not of this format.
    fn decode<'b>(&mut self, body: &'b [u8]) -> Option<Self::Body<'b>>;

    /// True if `body` may follow the frames before it. A search checks this before the checksum, so
    /// that few bytes are hashed.
    fn may_follow(&self, body: &[u8]) -> bool;
}

/// Reason why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is outside the limits of the format.
    #[error("frame length {0} is out of range")]
    Length(u32),
    /// The file ends within the frame.
    #[error("frame is truncated")]
    Truncated,
    /// The CRC-32 of the body is another.
    #[error("frame checksum does not match")]
    Checksum,
    /// The checksum matches, but the body is not of the format.
    #[error("frame content is invalid")]
    Content,
}

/// Next element of a file of frames.
#[derive(Debug, PartialEq, Eq)]
pub enum FrameStep<T> {
    /// Offset and body of a whole frame.
    Frame(u64, T),
    /// Range of bytes that are not frames.
    Damage(FrameDamage),
    /// Offset from which on the rest of the file is zeros.
    Zeros(u64),
    /// End of the file.
    End,
}

/// Range of bytes that are not frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameDamage {
    /// Offset of the first byte.
    pub start: u64,
    /// Offset behind the last byte.
    pub end: u64,
    /// Reason why `start` is not the beginning of a frame.
    pub error: FrameError,
    /// True if the range reaches the end of the file.
    pub is_tail: bool,
}

/// Appends a frame to `out`; `write_body` appends its body.
pub fn append_frame<T>(out: &mut Vec<u8>, write_body: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let start = out.len();
    out.extend([0; PREFIX]);
    let written = write_body(out);
    let frame = out.get_mut(start..).and_then(|frame| frame.split_first_chunk_mut::<PREFIX>());
    if let Some((prefix, body)) = frame {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let crc = crc32fast::hash(body).to_le_bytes();
        prefix.iter_mut().zip(length.into_iter().chain(crc)).for_each(|(to, from)| *to = from);
    }
    written
}

/// Reads the frames of a file in order.
///
/// `R` reads up to a number of bytes at an offset, and fewer only at the end of the file:
/// [`read_at`], or the same of another storage.
#[derive(Debug)]
pub struct FrameReader<R, F> {
    read: R,
    format: F,
    /// Offset of the next frame.
    offset: u64,
    end: u64,
    /// Bytes up to some offset behind `offset`; the first `used` are before it.
    buffer: Vec<u8>,
    used: usize,
}

impl<R: FnMut(u64, usize) -> io::Result<Vec<u8>>, F: FrameFormat> FrameReader<R, F> {
    /// Reader of the frames in `range` of the file.
    pub const fn new(read: R, format: F, range: Range<u64>) -> Self {
        Self { read, format, offset: range.start, end: range.end, buffer: Vec::new(), used: 0 }
    }

    /// Offset of the next element.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the next frame, the next range of damage, or the end.
    pub fn next_step(&mut self) -> io::Result<FrameStep<F::Body<'_>>> {
        if self.offset >= self.end {
            return Ok(FrameStep::End);
        }
        let start = self.offset;
        let error = match self.check()? {
            Ok(length) => {
                let body = self.used + PREFIX..self.used + PREFIX + length;
                self.used = body.end;
                self.offset += (PREFIX + length) as u64;
                match self.format.decode(self.buffer.get(body).unwrap_or_default()) {
                    Some(body) => return Ok(FrameStep::Frame(start, body)),
                    None => FrameError::Content,
                }
            }
            Err(_) if self.resync()? => return Ok(FrameStep::Zeros(start)),
            Err(error) => error,
        };
        let (end, is_tail) = (self.offset, self.offset >= self.end);
        Ok(FrameStep::Damage(FrameDamage { start, end, error, is_tail }))
    }

    /// Length of the body at `offset`, which is whole in the buffer then.
    fn check(&mut self) -> io::Result<Result<usize, FrameError>> {
        self.fill(PREFIX)?;
        let Some((length, crc)) = prefix(self.buffered()) else {
            return Ok(Err(FrameError::Truncated));
        };
        if !(F::LEN_MIN..=F::LEN_MAX).contains(&length) {
            return Ok(Err(FrameError::Length(length)));
        }
        // No memory is allocated for a length that the file does not have.
        if u64::from(length) + PREFIX as u64 > self.end.saturating_sub(self.offset) {
            return Ok(Err(FrameError::Truncated));
        }
        let length = length as usize;
        self.fill(PREFIX + length)?;
        Ok(match self.buffered().get(PREFIX..PREFIX + length) {
            None => Err(FrameError::Truncated),
            Some(body) if crc32fast::hash(body) == crc => Ok(length),
            Some(_) => Err(FrameError::Checksum),
        })
    }

    fn buffered(&self) -> &[u8] {
        self.buffer.get(self.used..).unwrap_or_default()
    }

    /// Reads at least `length` bytes from `offset` on into the buffer, if the file has them.
    fn fill(&mut self, length: usize) -> io::Result<()> {
        let buffered = self.buffered().len();
        if buffered >= length {
            return Ok(());
        }
        self.buffer.drain(..self.used.min(self.buffer.len()));
        self.used = 0;
        let from = self.offset + buffered as u64;
        let missing = (length - buffered).max(READ_AHEAD).min(distance(from, self.end));
        self.buffer.extend((self.read)(from, missing)?);
        Ok(())
    }

    /// Moves to the next whole frame behind `offset`, or to the end. Returns true if all bytes up to
    /// the end are zeros.
    fn resync(&mut self) -> io::Result<bool> {
        let rest = distance(self.offset, self.end);
        let bytes = (self.read)(self.offset, rest.min(F::SEARCH_MAX))?;
        let is_zeros = bytes.len() == rest && bytes.iter().all(|byte| *byte == 0);
        let found = if is_zeros { None } else { self.search(&bytes) };
        self.buffer.clear();
        self.used = 0;
        self.offset = found.map_or(self.end, |at| self.offset + at as u64);
        Ok(is_zeros)
    }

    /// Offset of the first frame in `bytes`, apart from offset 0.
    fn search(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut hashed = 0;
        let end = (bytes.len() + 1).saturating_sub(PREFIX + F::LEN_MIN as usize);
        (1..end).find(|at| {
            let frame = bytes.get(*at..).unwrap_or_default();
            let Some((length, crc)) = prefix(frame) else { return false };
            let body = frame.get(PREFIX..PREFIX.saturating_add(length as usize));
            let Some(body) = body.filter(|_| (F::LEN_MIN..=F::LEN_MAX).contains(&length)) else {
                return false;
            };
            if !self.format.may_follow(body) || hashed >= F::SEARCH_MAX * HASHES_PER_BYTE {
                return false;
            }
            hashed += body.len();
            crc32fast::hash(body) == crc
        })
    }
}

/// Length and CRC-32 at the beginning of a frame.
fn prefix(frame: &[u8]) -> Option<(u32, u32)> {
    let mut numbers = LittleEndian(frame);
    Some((numbers.u32()?, numbers.u32()?))
}

fn distance(from: u64, to: u64) -> usize {
    usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX)
}

/// Reads up to `length` bytes of `file` at `offset`, and fewer only at its end. Memory is allocated
/// for bytes that the file has.
pub fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length.min(distance(offset, file.metadata()?.len()))];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            // Truncated meanwhile.
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Little-endian numbers at the beginning of a slice; a number that is not there is `None`.
#[derive(Debug, Clone, Copy)]
pub struct LittleEndian<'b>(pub &'b [u8]);

impl<'b> LittleEndian<'b> {
    /// Takes the next `N` bytes.
    pub const fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let Some((array, rest)) = self.0.split_first_chunk::<N>() else { return None };
        self.0 = rest;
        Some(*array)
    }

    /// Takes the next `length` bytes.
    pub const fn bytes(&mut self, length: usize) -> Option<&'b [u8]> {
        let Some((bytes, rest)) = self.0.split_at_checked(length) else { return None };
        self.0 = rest;
        Some(bytes)
    }

    /// Takes the next byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    /// Takes the next four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Takes the next eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Takes the next eight bytes, signed.
    pub fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// Takes the next sixteen bytes.
    pub fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bodies of 1 to 64 bytes whose first byte is not 0xee.
    struct TestFormat;

    impl FrameFormat for TestFormat {
        const LEN_MIN: u32 = 1;
        const LEN_MAX: u32 = 64;
        const SEARCH_MAX: usize = 4096;
        type Body<'b> = Vec<u8>;

        fn decode(&mut self, body: &[u8]) -> Option<Vec<u8>> {
            (body.first() != Some(&0xee)).then(|| body.to_vec())
        }

        fn may_follow(&self, body: &[u8]) -> bool {
            body.first() != Some(&0xee)
        }
    }

    fn written(bodies: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for body in bodies {
            append_frame(&mut bytes, |out| out.extend(body));
        }
        bytes
    }

    fn steps(bytes: &[u8]) -> Vec<FrameStep<Vec<u8>>> {
        let read = |offset: u64, length: usize| {
            let rest = &bytes[usize::try_from(offset).unwrap()..];
            Ok(rest[..length.min(rest.len())].to_vec())
        };
        let mut reader = FrameReader::new(read, TestFormat, 0..bytes.len() as u64);
        let mut steps = Vec::new();
        loop {
            match reader.next_step().unwrap() {
                FrameStep::End => return steps,
                step => steps.push(step),
            }
        }
    }

    fn damage(start: u64, end: u64, error: FrameError, is_tail: bool) -> FrameStep<Vec<u8>> {
        FrameStep::Damage(FrameDamage { start, end, error, is_tail })
    }

    #[test]
    fn each_kind_of_damage_is_reported_with_its_range() {
        let frame = |body: &[u8]| written(&[body.to_vec()]);
        let (good, bad) = (frame(b"good"), frame(&[0xee]));
        let step = |offset| FrameStep::Frame(offset, b"good".to_vec());
        let mut flipped = good.clone();
        flipped[9] ^= 1;
        let cases = [
            (good.clone(), vec![step(0)]),
            (vec![0; 30], vec![FrameStep::Zeros(0)]),
            ([&good[..], &[0; 3]].concat(), vec![step(0), FrameStep::Zeros(12)]),
            (
                [&good[..], &good[..11]].concat(),
                vec![step(0), damage(12, 23, FrameError::Truncated, true)],
            ),
            (
                [&flipped[..], &good].concat(),
                vec![damage(0, 12, FrameError::Checksum, false), step(12)],
            ),
            (
                [&[65, 0, 0, 0, 1][..], &good].concat(),
                vec![damage(0, 5, FrameError::Length(65), false), step(5)],
            ),
            ([&bad[..], &good].concat(), vec![damage(0, 9, FrameError::Content, false), step(9)]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(steps(&bytes), expected, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_cut_at_any_byte_loses_only_the_last_frame(
            bodies in prop::collection::vec(prop::collection::vec(0_u8..9, 1..20), 1..6),
        ) {
            let bytes = written(&bodies);
            for cut in 0..bytes.len() {
                let whole: Vec<Vec<u8>> = steps(&bytes[..cut])
                    .into_iter()
                    .filter_map(|it| if let FrameStep::Frame(_, body) = it { Some(body) } else { None })
                    .collect();
                let count = (0..=bodies.len()).rfind(|count| written(&bodies[..*count]).len() <= cut);
                prop_assert_eq!(&whole[..], &bodies[..count.unwrap()], "cut at {}", cut);
            }
            prop_assert_eq!(steps(&bytes).len(), bodies.len());
        }
    }
}
