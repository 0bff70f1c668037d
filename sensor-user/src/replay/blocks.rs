//! `Blocks`: an input in blocks of complete lines, for several threads. A line of JSON ends with LF, CR LF,
//! or CR alone, which no string contains.

use std::io::{self, BufRead, Read as _};

use crate::base::lines::LINE_MAX;

/// Limit of a block in bytes; exceeds that of a line.
const BLOCK_BYTES: usize = LINE_MAX * 2;

/// Consecutive complete lines.
#[derive(Debug, Default)]
pub(super) struct Block {
    bytes: Vec<u8>,
    first_line: u64,
}

impl Block {
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the lines with their numbers, from 1, without line feeds; `None` for a line that is too
    /// long.
    pub(super) fn lines(&self) -> impl Iterator<Item = (u64, Option<&[u8]>)> {
        let mut rest = self.bytes.as_slice();
        let mut number = self.first_line;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (line, tail) = match memchr::memchr(b'\n', rest) {
                Some(end) => {
                    let (line, tail) = rest.split_at(end);
                    (line, tail.split_first().map_or(tail, |(_feed, tail)| tail))
                }
                None => (rest, [].as_slice()),
            };
            rest = tail;
            number += 1;
            Some((number - 1, (line.len() <= LINE_MAX).then_some(line)))
        })
    }
}

/// Reader of consecutive blocks.
pub(super) struct Blocks<R> {
    reader: R,
    /// Start of a line that ends in the next block.
    rest: Vec<u8>,
    next_line: u64,
    block_bytes: usize,
}

impl<R: BufRead> Blocks<R> {
    pub(super) const fn new(reader: R) -> Self {
        Self { reader, rest: Vec::new(), next_line: 1, block_bytes: BLOCK_BYTES }
    }

    /// Fills all `blocks` in order; blocks after the end of the input are empty.
    pub(super) fn fill(&mut self, blocks: &mut [Block]) -> io::Result<()> {
        blocks.iter_mut().try_for_each(|block| self.fill_one(block))
    }

    fn fill_one(&mut self, block: &mut Block) -> io::Result<()> {
        let bytes = &mut block.bytes;
        bytes.clear();
        bytes.append(&mut self.rest);
        let start = bytes.len();
        let wanted = self.block_bytes.saturating_sub(start) as u64;
        self.reader.by_ref().take(wanted).read_to_end(bytes)?;
        let is_in_crlf = bytes.ends_with(b"\r") && self.reader.fill_buf()?.starts_with(b"\n");
        if let Some(new) = bytes.get_mut(start..) {
            end_lines_with_lf(new, is_in_crlf);
        }
        match memchr::memrchr(b'\n', bytes) {
            Some(last) => self.rest = bytes.split_off(last + 1),
            None if bytes.len() < self.block_bytes => {}
            // The part in this block already exceeds the limit, so the line is rejected.
            None => self.skip_line()?,
        }
        block.first_line = self.next_line;
        let unended = u64::from(bytes.last().is_some_and(|byte| *byte != b'\n'));
        self.next_line += memchr::memchr_iter(b'\n', bytes).count() as u64 + unended;
        Ok(())
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let available = self.reader.fill_buf()?;
            let end = memchr::memchr2(b'\n', b'\r', available);
            let is_cr = end.is_some_and(|end| available.get(end) == Some(&b'\r'));
            let (used, done) =
                end.map_or((available.len(), available.is_empty()), |end| (end + 1, true));
            self.reader.consume(used);
            if done {
                let is_in_crlf = is_cr && self.reader.fill_buf()?.starts_with(b"\n");
                self.reader.consume(usize::from(is_in_crlf));
                return Ok(());
            }
        }
    }
}

/// Replaces CR by LF, and CR LF by a blank and LF, so that each line ends with LF. `is_in_crlf` is true if
/// LF follows after `bytes`.
fn end_lines_with_lf(bytes: &mut [u8], is_in_crlf: bool) {
    let mut from = 0;
    while let Some(at) = bytes.get(from..).and_then(|rest| memchr::memchr(b'\r', rest)) {
        let at = from + at;
        from = at + 1;
        let is_crlf = bytes.get(from).map_or(is_in_crlf, |next| *next == b'\n');
        if let Some(byte) = bytes.get_mut(at) {
            *byte = if is_crlf { b' ' } else { b'\n' };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    type NumberedLines = Vec<(u64, Option<Vec<u8>>)>;

    fn lines(input: &[u8], [block_bytes, buffer, at_once]: [usize; 3]) -> NumberedLines {
        let reader = io::BufReader::with_capacity(buffer, input);
        let mut blocks = Blocks { block_bytes, ..Blocks::new(reader) };
        let mut round: Vec<Block> = (0..at_once).map(|_| Block::default()).collect();
        let mut found = Vec::new();
        loop {
            blocks.fill(&mut round).unwrap();
            if round[0].is_empty() {
                return found;
            }
            for block in &round {
                found.extend(block.lines().map(|(line, bytes)| (line, bytes.map(<[u8]>::to_vec))));
            }
        }
    }

    proptest! {
        #[test]
        fn blocks_have_the_lines_of_the_input(
            input in prop::collection::vec(("[ab]{0,6}", prop::sample::select(&["\n", "\r\n", "\r"][..])), 0..30),
            is_ended in any::<bool>(),
            sizes in (8..20_usize, 1..9_usize, 1..4_usize),
        ) {
            let mut text: String = input.iter().flat_map(|(line, end)| [line.as_str(), end]).collect();
            if !is_ended {
                text.truncate(text.trim_end_matches(['\n', '\r']).len());
            }
            // CR and LF side by side are one line ending.
            let unix = text.replace("\r\n", " \n").replace('\r', "\n");
            let expected: NumberedLines = unix
                .split_terminator('\n')
                .zip(1..)
                .map(|(line, number)| (number, Some(line.as_bytes().to_vec())))
                .collect();
            prop_assert_eq!(lines(text.as_bytes(), sizes.into()), expected);
        }
    }

    #[test]
    fn a_line_longer_than_a_block_is_one_rejected_line() {
        let lengths = [LINE_MAX + 1, BLOCK_BYTES - 3, BLOCK_BYTES, BLOCK_BYTES * 3 + 5];
        for (length, end) in
            lengths.into_iter().flat_map(|it| [(it, "\n"), (it, "\r"), (it, "\r\n")])
        {
            let text = format!("a\n{}{end}b\n{}", "x".repeat(length), "y".repeat(length));
            let found = lines(text.as_bytes(), [BLOCK_BYTES, 4096, 2]);
            let line = |text: &str| Some(text.as_bytes().to_vec());
            assert_eq!(found, [(1, line("a")), (2, None), (3, line("b")), (4, None)], "{length}");
        }
    }
}
