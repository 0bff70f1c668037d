//! `ArrayLines`: a JSON array as one line per element, as `jq -c '.[]'` prints it, so that readers of
//! JSON lines read it too. The number of a line is then that of the element. Other input is unchanged.

use std::io::{self, BufRead, Read};

use super::io::read_some;

/// Size of the buffer in bytes.
const BUFFER_BYTES: usize = 1 << 16;
/// Line after an array without an end. It is no element, so that the end is not mistaken for complete.
const CUT: &[u8] = b"\n[";

/// Reader of the elements of arrays; see the module documentation.
#[derive(Debug)]
pub struct ArrayLines<R> {
    inner: R,
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
    is_done: bool,
    splitter: Splitter,
}

/// Position in the structure of the input.
#[derive(Debug, Default)]
struct Splitter {
    /// True after the first byte that is not blank.
    has_begun: bool,
    /// True if that byte opened an array.
    is_array: bool,
    /// Number of open brackets.
    depth: u64,
    is_string: bool,
    is_escaped: bool,
}

impl<R: Read> ArrayLines<R> {
    /// Reads from `inner`, which has no byte order mark.
    pub fn new(inner: R) -> Self {
        let buffer = vec![0; BUFFER_BYTES];
        Self { inner, buffer, begin: 0, end: 0, is_done: false, splitter: Splitter::default() }
    }

    fn refill(&mut self) -> io::Result<()> {
        self.begin = 0;
        self.end = read_some(&mut self.inner, &mut self.buffer)?;
        let bytes = self.buffer.get_mut(..self.end).unwrap_or_default();
        for byte in bytes {
            *byte = self.splitter.split(*byte);
        }
        self.is_done = self.end == 0;
        if self.is_done && self.splitter.depth > 0 {
            for (target, source) in self.buffer.iter_mut().zip(CUT) {
                *target = *source;
            }
            self.end = CUT.len();
        }
        Ok(())
    }
}

impl Splitter {
    /// Returns the byte that replaces the next byte of the input.
    const fn split(&mut self, byte: u8) -> u8 {
        if !self.has_begun && !byte.is_ascii_whitespace() {
            self.has_begun = true;
            self.is_array = byte == b'[';
        }
        if !self.is_array {
            return byte;
        }
        if self.is_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.is_string = false,
                _ => {}
            }
            return if matches!(byte, b'\n' | b'\r') { b' ' } else { byte };
        }
        match (byte, self.depth) {
            (b'[', 0) => {
                self.depth = 1;
                return b' ';
            }
            (b']', 1) => {
                self.depth = 0;
                return b'\n';
            }
            (b',', 1) => return b'\n',
            (b'\n' | b'\r', _) => return b' ',
            (b'"', _) => self.is_string = true,
            (b'[' | b'{', _) => self.depth += 1,
            (b']' | b'}', 2..) => self.depth -= 1,
            _ => {}
        }
        byte
    }
}

impl<R: Read> BufRead for ArrayLines<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.begin == self.end && !self.is_done {
            self.refill()?;
        }
        Ok(self.buffer.get(self.begin..self.end).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.begin = self.end.min(self.begin + count);
    }
}

impl<R: Read> Read for ArrayLines<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let count = available.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let mut read = String::new();
        ArrayLines::new(text.as_bytes()).read_to_string(&mut read).unwrap();
        read.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    }

    #[test]
    fn an_array_has_a_line_for_each_element() {
        for (text, expected) in [
            ("[{\"a\":1},{\"b\":[2,{\"c\":3}]}]", &["{\"a\":1}", "{\"b\":[2,{\"c\":3}]}"][..]),
            (" [\n {\n\"a\": \"],\\\"[\"\n },\r\n 7]\n", &["{ \"a\": \"],\\\"[\"  }", "7"]),
            ("[1][2]", &["1", "2"]),
            ("[]", &[]),
            ("[1,{\"a\":", &["1", "{\"a\":", "["]),
            ("[1", &["1", "["]),
            ("{\"a\":[1,2]}\n{\"b\":3}", &["{\"a\":[1,2]}", "{\"b\":3}"]),
            ("x,[1", &["x,[1"]),
            ("", &[]),
        ] {
            assert_eq!(lines(text), expected, "{text}");
        }
    }

    #[test]
    fn the_number_of_a_line_is_that_of_the_element() {
        let mut read = String::new();
        ArrayLines::new("[\n1,\n\n2\n]".as_bytes()).read_to_string(&mut read).unwrap();
        assert_eq!(read.lines().map(str::trim).collect::<Vec<_>>(), ["1", "2"]);
    }
}
