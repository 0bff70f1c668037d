//! Hostile documents: bytes in any number and order, read in chunks of any size.

use std::io::{self, Read};

use proptest::prelude::*;

use super::stream::ObjectStream;
use super::tests::{indicator, policy, read};
use super::window::OBJECT_MAX;
use super::*;
use crate::intel::formats::entry::CollectedEntries;

/// Reader of a head, a byte repeated many times, and a tail.
struct Long<'a>(&'a [u8], u8, usize, &'a [u8]);

impl Read for Long<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let head = Slow(self.0, usize::MAX).read(buffer)?;
        self.0 = &self.0[head..];
        let count = self.2.min(buffer.len() - head);
        buffer[head..head + count].fill(self.1);
        self.2 -= count;
        let tail = if self.2 == 0 {
            Slow(self.3, usize::MAX).read(&mut buffer[head + count..])?
        } else {
            0
        };
        self.3 = &self.3[tail..];
        Ok(head + count + tail)
    }
}

#[test]
fn no_run_of_bytes_is_kept_in_memory() {
    let a = indicator("a", "");
    let (list, end) = (format!("[{a}"), format!(",{a}]"));
    for (head, byte, tail, positions) in [
        (list.as_str(), b' ', end.as_str(), Some(2)),
        (list.as_str(), b',', end.as_str(), Some(2)),
        ("", b' ', &format!("[{a}]"), Some(1)),
        (&format!("[{a}] "), b' ', "\n", Some(1)),
        (&format!("{{\"objects\":[{a}],\"x\":\""), b'x', "\"}", Some(1)),
        ("{", b' ', "\"objects\":[]}", None),
        ("{\"a\":\"", b'x', "\"}", None),
        ("{", b',', "}", None),
    ] {
        let mut stream = ObjectStream::new(Long(head.as_bytes(), byte, 20 << 20, tail.as_bytes()));
        let mut count = 0;
        let result = loop {
            match stream.next() {
                Ok(Some(_)) => count += 1,
                end => break end.map(|_| count),
            }
        };
        assert_eq!(result.ok(), positions, "{head} {byte}");
        assert!(stream.memory() <= OBJECT_MAX + (1 << 20), "{head} {byte}: {}", stream.memory());
    }
}

/// Reader that returns few bytes at a time.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.1.min(buffer.len()).min(self.0.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

fn parts() -> impl Strategy<Value = String> {
    const PARTS: [&str; 20] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\n",
        " ",
        "\"objects\"",
        "\"type\"",
        "\"indicator\"",
        "1",
        "null",
        "{\"type\":\"identity\"}",
        "{\"objects\":[",
        "]}",
        "é",
        "{\"type\":\"indicator\",\"id\":\"i\",\"pattern\":\"[ipv4-addr:value='192.0.2.1']\"}",
    ];
    prop::collection::vec(prop::sample::select(&PARTS[..]), 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    /// For any bytes and any sizes of reads.
    #[test]
    fn the_result_does_not_depend_on_the_size_of_reads(text in parts(), step in 1..9_usize) {
        let (whole, found) = read(&text);
        let mut slow = CollectedEntries::default();
        let slowly = read_stix(Slow(text.as_bytes(), step), &policy(), 1, &mut slow);
        prop_assert_eq!(format!("{whole:?}"), format!("{slowly:?}"));
        prop_assert_eq!(found.entries, slow.entries);
        prop_assert_eq!(found.rejects, slow.rejects);
    }
}
