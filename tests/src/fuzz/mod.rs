//! What the fuzzers run, as plain functions: each reads hostile bytes and panics where a reader
//! breaks a promise. `tests/fuzz` has a target of some lines for each; the suite `fuzz_corpus` runs
//! every file of the corpus through the same functions on the stable toolchain.

mod spool;
mod state_files;

pub use spool::spool;
pub use state_files::{history, store};

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::sync::LazyLock;

use sensor_user::intel::{
    Allowed, Collected, Content, Entries, Entry, Field, ListFormat, PrefixPolicy, ReadFault,
    ReadPolicy, Reason, preset, read_crowdsec, read_list, read_misp, read_networks, read_pattern,
    read_rows, read_sentinel_query, read_stix,
};

/// Takes hostile bytes.
pub type Target = fn(&[u8]);

/// Name of the target and of its corpus, and its function.
pub const TARGETS: &[(&str, Target)] = &[
    ("crowdsec", crowdsec),
    ("history", history),
    ("list", list),
    ("misp", misp),
    ("pattern", pattern),
    ("rows", rows),
    ("sentinel_query", sentinel_query),
    ("spool", spool),
    ("stix", stix),
    ("store", store),
    ("warninglist", warninglist),
];

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

/// A reply of `CrowdSec`'s decision stream.
pub fn crowdsec(data: &[u8]) {
    document(data, |input, policy, place, entries| {
        read_crowdsec(BufReader::new(input), policy, place, entries)
    });
}

/// A list; its first byte says in which format.
pub fn list(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let formats: [Reader; 8] = [
        |input, policy, place, entries| read_preset("firehol", input, (policy, place), entries),
        |input, policy, place, entries| read_preset("threatfox", input, (policy, place), entries),
        |input, policy, place, entries| {
            read_preset("threatfox-csv", input, (policy, place), entries)
        },
        |input, policy, place, entries| {
            read_preset("spamhaus-drop", input, (policy, place), entries)
        },
        |input, policy, place, entries| read_preset("dshield", input, (policy, place), entries),
        |input, policy, place, entries| read_preset("otx", input, (policy, place), entries),
        |input, policy, place, entries| {
            read_list(BufReader::new(input), &EVERY_CSV, policy, place, entries)
        },
        |input, policy, place, entries| {
            read_list(BufReader::new(input), &EVERY_JSON, policy, place, entries)
        },
    ];
    if let Some(format) = formats.get(usize::from(*first) % formats.len()) {
        document(data, *format);
    }
}

fn read_preset(
    name: &str,
    input: &mut dyn Read,
    (policy, place): (&ReadPolicy, u64),
    entries: &mut dyn Entries,
) -> Result<u64, ReadFault> {
    let format = preset(name).unwrap_or_default();
    read_list(BufReader::new(input), &format, policy, place, entries)
}

/// A column for every field, each of its name.
fn every_field(shape: &str, separator: Option<char>) -> ListFormat {
    let name = |field: Field| field.name().to_owned();
    let columns: BTreeMap<_, _> =
        Field::ALL.into_iter().map(|field| (name(field), vec![name(field)])).collect();
    ListFormat::named(None, Some(shape), separator, &columns).unwrap_or_default()
}

static EVERY_CSV: LazyLock<ListFormat> = LazyLock::new(|| every_field("csv", Some(';')));
static EVERY_JSON: LazyLock<ListFormat> = LazyLock::new(|| every_field("jsonl", None));

/// A reply or an event of MISP.
pub fn misp(data: &[u8]) {
    document(data, |input, policy, place, entries| {
        read_misp(BufReader::new(input), policy, place, entries)
    });
}

/// Rows of the tables of Microsoft Sentinel. A row without id has the id "".
pub fn rows(data: &[u8]) {
    document(data, |input, policy, place, entries| {
        let mut named = Named(entries);
        read_rows(BufReader::new(input), policy, place, &mut named)
    });
}

struct Named<'e>(&'e mut dyn Entries);

impl Entries for Named<'_> {
    fn take(&mut self, mut entry: Entry) {
        entry.id.insert(0, '.');
        self.0.take(entry);
    }

    fn reject(&mut self, place: u64, reason: Reason, text: &str) {
        self.0.reject(place, reason, text);
    }
}

/// A reply of `queryIndicators`.
pub fn sentinel_query(data: &[u8]) {
    document(data, |input, policy, place, entries| {
        read_sentinel_query(BufReader::new(input), policy, place, entries)
    });
}

/// A file of allowed networks.
pub fn warninglist(data: &[u8]) {
    let read = |input: &mut dyn Read| {
        let mut allowed = Allowed::default();
        let outcome = read_networks(BufReader::new(input), &mut allowed);
        (format!("{outcome:?}"), allowed)
    };
    let (whole, pieces) = (read(&mut &*data), read(&mut Pieces(data)));
    assert_eq!(whole, pieces);
    assert!(whole.1.networks.iter().all(|network| *network == network.trunc()));
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
