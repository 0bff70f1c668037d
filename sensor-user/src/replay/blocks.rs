//! `Blocks`: an input in blocks of complete lines, for several threads. A line ends with LF, CR LF, or CR
//! alone, which no string of JSON contains.
//!
//! The thread that reads only finds the last line ending of a block; those that receive the blocks split
//! them into lines.

use std::io::{self, BufRead};

use crate::base::io::read_some;
use crate::base::lines::LINE_MAX;

/// Limit of a block in bytes; exceeds that of a line.
const BLOCK_BYTES: usize = LINE_MAX * 2;

/// Limit of the threads that receive blocks: more do not help, because one thread reads the input.
const WORKERS_MAX: usize = 8;

/// Number of threads that receive blocks.
pub(super) fn worker_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX)
}

/// Consecutive complete lines.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// Buffer, reused to avoid allocations.
    buffer: Vec<u8>,
    /// Number of its bytes that are lines.
    length: usize,
}

impl Block {
    pub(super) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes of the lines.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }

    /// Returns the lines without their endings; `None` for a line that is too long.
    pub(super) fn lines(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let mut rest = self.bytes();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            let (line, tail) = rest.split_at_checked(end)?;
            let after = if tail.starts_with(b"\r\n") { 2 } else { 1 };
            rest = tail.get(after..).unwrap_or_default();
            Some((line.len() <= LINE_MAX).then_some(line))
        })
    }
}

/// Reader of consecutive blocks.
pub(super) struct Blocks<R> {
    reader: R,
    /// Start of a line that ends in the next block.
    rest: Vec<u8>,
    block_bytes: usize,
}

impl<R: BufRead> Blocks<R> {
    pub(super) const fn new(reader: R) -> Self {
        Self { reader, rest: Vec::new(), block_bytes: BLOCK_BYTES }
    }

    /// Fills all `blocks` in order; blocks after the end of the input are empty.
    pub(super) fn fill(&mut self, blocks: &mut [Block]) -> io::Result<()> {
        blocks.iter_mut().try_for_each(|block| self.fill_one(block))
    }

    fn fill_one(&mut self, block: &mut Block) -> io::Result<()> {
        block.length = 0;
        block.buffer.resize(self.block_bytes.max(self.rest.len()), 0);
        if let Some(start) = block.buffer.get_mut(..self.rest.len()) {
            start.copy_from_slice(&self.rest);
        }
        let mut length = self.rest.len();
        self.rest.clear();
        let mut is_done = false;
        while !is_done
            && let Some(free) = block.buffer.get_mut(length..)
            && !free.is_empty()
        {
            let count = read_some(&mut self.reader, free)?;
            length += count;
            is_done = count == 0;
        }
        block.length = length;
        if is_done {
            return Ok(());
        }
        // LF may follow after a CR at the end, so that the line is not known to be complete.
        let inner = block.bytes().strip_suffix(b"\r").unwrap_or_else(|| block.bytes());
        match memchr::memrchr2(b'\n', b'\r', inner) {
            Some(last) => {
                self.rest.extend_from_slice(block.bytes().get(last + 1..).unwrap_or_default());
                block.length = last + 1;
            }
            // The part in this block already exceeds the limit, so the line is rejected.
            None => self.skip_line(block.bytes().ends_with(b"\r"))?,
        }
        Ok(())
    }

    /// Skips the rest of a line; `is_ended` is true if its CR was read already.
    fn skip_line(&mut self, mut is_ended: bool) -> io::Result<()> {
        loop {
            let available = self.reader.fill_buf()?;
            if is_ended || available.is_empty() {
                let is_in_crlf = available.starts_with(b"\n");
                self.reader.consume(usize::from(is_in_crlf));
                return Ok(());
            }
            let end = memchr::memchr2(b'\n', b'\r', available);
            let is_lf = end.is_some_and(|end| available.get(end) == Some(&b'\n'));
            let used = end.map_or(available.len(), |end| end + 1);
            self.reader.consume(used);
            if is_lf {
                return Ok(());
            }
            is_ended = end.is_some();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn lines(input: &[u8], [block_bytes, buffer, at_once]: [usize; 3]) -> Vec<Option<Vec<u8>>> {
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
                found.extend(block.lines().map(|line| line.map(<[u8]>::to_vec)));
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
            let unix = text.replace("\r\n", "\n").replace('\r', "\n");
            let expected: Vec<Option<Vec<u8>>> =
                unix.split_terminator('\n').map(|line| Some(line.as_bytes().to_vec())).collect();
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
            assert_eq!(found, [line("a"), None, line("b"), None], "{length}");
        }
    }
}
