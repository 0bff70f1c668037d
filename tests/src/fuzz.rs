//! What the fuzzers run, as plain functions: each reads hostile bytes and panics where a reader
//! breaks a promise. `tests/fuzz` has a target of some lines for each; the suite `fuzz_corpus` runs
//! every file of the corpus through the same functions on the stable toolchain.

use std::io::{self, Read};

use sensor_user::intel::{
    Collected, Content, Entries, PrefixPolicy, ReadFault, ReadPolicy, read_pattern, read_stix,
};

/// Takes hostile bytes.
pub type Target = fn(&[u8]);

/// Name of the target and of its corpus, and its function.
pub const TARGETS: &[(&str, Target)] = &[("pattern", pattern), ("stix", stix)];

/// A reader of documents.
pub type Reader = fn(&mut dyn Read, &ReadPolicy, u64, &mut dyn Entries) -> Result<u64, ReadFault>;

/// A STIX pattern.
pub fn pattern(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match read_pattern(text) {
        Ok(found) => {
            for it in found {
                assert_eq!(it.prefix, it.prefix.trunc(), "host bits are zero");
                assert!(text.len() >= it.entity.len(), "the text that named it is in the pattern");
                for ports in [&it.ports.remote, &it.ports.local] {
                    assert!(ports.iter().all(|range| range.first <= range.last));
                    assert!(ports.is_sorted_by(|a, b| a.last < b.first), "disjoint and in order");
                }
            }
        }
        Err(fault) => assert!(text.is_char_boundary(fault.at), "{fault}"),
    }
}

/// STIX objects in any form.
pub fn stix(data: &[u8]) {
    document(data, |input, policy, place, entries| read_stix(input, policy, place, entries));
}

/// A document of a feed: the same is found however its bytes come, and places are in order and
/// within what was read.
pub fn document(data: &[u8], read: Reader) {
    let whole = collected(&mut &*data, read);
    let pieces = collected(&mut Pieces(data), read);
    assert_eq!(format!("{:?}", whole.0), format!("{:?}", pieces.0));
    assert_eq!(whole.1.entries, pieces.1.entries);
    assert_eq!(whole.1.rejects, pieces.1.rejects);
    let (Ok(places), found) = whole else { return };
    for entry in &found.entries {
        assert!((FIRST..FIRST + places).contains(&entry.place), "{} of {places}", entry.place);
        assert!(!entry.id.is_empty(), "an entry has an id");
        if let Content::Indicators(indicators) = &entry.content {
            assert!(!indicators.is_empty(), "an entry without indicators says why");
            assert!(indicators.iter().all(|it| policy().prefixes.exclusion(&it.prefix).is_none()));
        }
    }
    for reject in found.rejects.kept() {
        assert!((FIRST..FIRST + places.max(1)).contains(&reject.place), "{reject:?} of {places}");
    }
}

/// Not 1, so that a place that was not counted from here is seen.
const FIRST: u64 = 7;

fn policy() -> ReadPolicy {
    let second = |second| jiff::Timestamp::from_second(second).unwrap_or_default();
    ReadPolicy {
        prefixes: PrefixPolicy::default(),
        min_confidence: Some(10),
        now: second(1_795_521_600),
        oldest: second(1_794_312_000),
    }
}

fn collected(input: &mut dyn Read, read: Reader) -> (Result<u64, ReadFault>, Collected) {
    let mut found = Collected::default();
    (read(input, &policy(), FIRST, &mut found), found)
}

/// Gives the bytes in pieces of one to seven.
struct Pieces<'a>(&'a [u8]);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (self.0.len() % 7 + 1).min(self.0.len());
        let mut piece = self.0.take(count as u64);
        let count = piece.read(buffer)?;
        self.0 = self.0.split_at(count).1;
        Ok(count)
    }
}
