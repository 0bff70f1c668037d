//! Fuzz targets as plain functions. Each reads hostile bytes and panics if a reader violates an
//! invariant. `tests/fuzz` has a libFuzzer target for each. The suite `fuzz_corpus` runs every file
//! of the corpus through the same functions on the stable toolchain.

mod framing;
mod spool;
mod state_files;

pub use framing::framing;
pub use spool::spool;
pub use state_files::{history, store};

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::sync::LazyLock;

use sensor_user::intel::{
    AllowedNetworks, CollectedEntries, EntryContent, EntrySink, FeedEntry, ListField, ListFormat,
    PrefixPolicy, ReadError, ReadPolicy, RejectReason, preset, read_crowdsec, read_list, read_misp,
    read_networks, read_pattern, read_rows, read_sentinel_query, read_stix,
};

/// Fuzz target: reads hostile bytes.
pub type FuzzTarget = fn(&[u8]);

/// Name of each target and its corpus, and the function.
pub const TARGETS: &[(&str, FuzzTarget)] = &[
    ("crowdsec", crowdsec),
    ("framing", framing),
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

/// Reader of a feed's documents.
pub type Reader = fn(&mut dyn Read, &ReadPolicy, u64, &mut dyn EntrySink) -> Result<u64, ReadError>;

/// Fuzzes the reader of STIX patterns.
pub fn pattern(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match read_pattern(text) {
        Ok(found) => {
            for it in found.merged() {
                assert_eq!(it.prefix, it.prefix.trunc(), "host bits are zero");
                assert!(text.len() >= it.entity.len(), "the entity is part of the pattern");
                for ports in [&it.ports.remote, &it.ports.local] {
                    assert!(ports.iter().all(|range| range.first <= range.last));
                    assert!(ports.is_sorted_by(|a, b| a.last < b.first), "disjoint and in order");
                }
            }
        }
        Err(error) => assert!(text.is_char_boundary(error.at), "{error}"),
    }
}

/// Fuzzes the reader of STIX bundles and object lists.
pub fn stix(data: &[u8]) {
    document(data, |input, policy, position, entries| read_stix(input, policy, position, entries));
}

/// Fuzzes the reader of `CrowdSec` decision stream responses.
pub fn crowdsec(data: &[u8]) {
    document(data, |input, policy, position, entries| {
        read_crowdsec(BufReader::new(input), policy, position, entries)
    });
}

/// Fuzzes the readers of lists. The first byte selects the format.
pub fn list(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let formats: [Reader; 8] = [
        |input, policy, position, entries| {
            read_preset("firehol", input, (policy, position), entries)
        },
        |input, policy, position, entries| {
            read_preset("threatfox", input, (policy, position), entries)
        },
        |input, policy, position, entries| {
            read_preset("threatfox-csv", input, (policy, position), entries)
        },
        |input, policy, position, entries| {
            read_preset("spamhaus-drop", input, (policy, position), entries)
        },
        |input, policy, position, entries| {
            read_preset("dshield", input, (policy, position), entries)
        },
        |input, policy, position, entries| read_preset("otx", input, (policy, position), entries),
        |input, policy, position, entries| {
            read_list(BufReader::new(input), &EVERY_CSV, policy, position, entries)
        },
        |input, policy, position, entries| {
            read_list(BufReader::new(input), &EVERY_JSON, policy, position, entries)
        },
    ];
    if let Some(format) = formats.get(usize::from(*first) % formats.len()) {
        document(data, *format);
    }
}

fn read_preset(
    name: &str,
    input: &mut dyn Read,
    (policy, position): (&ReadPolicy, u64),
    entries: &mut dyn EntrySink,
) -> Result<u64, ReadError> {
    let format = preset(name).unwrap_or_default();
    read_list(BufReader::new(input), &format, policy, position, entries)
}

/// List format with a column for every field, named after the field.
fn every_field(shape: &str, separator: Option<char>) -> ListFormat {
    let name = |field: ListField| field.name().to_owned();
    let columns: BTreeMap<_, _> =
        ListField::ALL.into_iter().map(|field| (name(field), vec![name(field)])).collect();
    ListFormat::from_config(None, Some(shape), separator, &columns).unwrap_or_default()
}

static EVERY_CSV: LazyLock<ListFormat> = LazyLock::new(|| every_field("csv", Some(';')));
static EVERY_JSON: LazyLock<ListFormat> = LazyLock::new(|| every_field("jsonl", None));

/// Fuzzes the reader of MISP responses and events.
pub fn misp(data: &[u8]) {
    document(data, |input, policy, position, entries| {
        read_misp(BufReader::new(input), policy, position, entries)
    });
}

/// Fuzzes the reader of Microsoft Sentinel table rows. A row without id has an empty id.
pub fn rows(data: &[u8]) {
    document(data, |input, policy, position, entries| {
        let mut non_empty = NonEmptyIds(entries);
        read_rows(BufReader::new(input), policy, position, &mut non_empty)
    });
}

/// Prefixes each id, since [`document`] asserts that ids are not empty.
struct NonEmptyIds<'e>(&'e mut dyn EntrySink);

impl EntrySink for NonEmptyIds<'_> {
    fn push(&mut self, mut entry: FeedEntry) {
        entry.id.insert(0, '.');
        self.0.push(entry);
    }

    fn reject(&mut self, position: u64, reason: RejectReason, text: &str) {
        self.0.reject(position, reason, text);
    }
}

/// Fuzzes the reader of `queryIndicators` responses.
pub fn sentinel_query(data: &[u8]) {
    document(data, |input, policy, position, entries| {
        read_sentinel_query(BufReader::new(input), policy, position, entries)
    });
}

/// Fuzzes the reader of allowlist files.
pub fn warninglist(data: &[u8]) {
    let read = |input: &mut dyn Read| {
        let mut allowed = AllowedNetworks::default();
        let outcome = read_networks(BufReader::new(input), &mut allowed);
        (format!("{outcome:?}"), allowed)
    };
    let (whole, chunked) = (read(&mut &*data), read(&mut ChunkedReader(data)));
    assert_eq!(whole, chunked);
    assert!(whole.1.networks.iter().all(|network| *network == network.trunc()));
}

/// Fuzzes the reader of a feed's document. The result must not depend on the sizes of reads, and
/// the entries' positions must be in order and within the document.
pub fn document(data: &[u8], read: Reader) {
    let whole = collected(&mut &*data, read);
    let chunked = collected(&mut ChunkedReader(data), read);
    assert_eq!(format!("{:?}", whole.0), format!("{:?}", chunked.0));
    assert_eq!(whole.1.entries, chunked.1.entries);
    assert_eq!(whole.1.rejects, chunked.1.rejects);
    let (Ok(positions), found) = whole else { return };
    for entry in &found.entries {
        assert!(
            (FIRST..FIRST + positions).contains(&entry.position),
            "{} of {positions}",
            entry.position
        );
        assert!(!entry.id.is_empty(), "an entry has an id");
        if let EntryContent::Indicators(indicators) = &entry.content {
            assert!(!indicators.is_empty(), "an entry without indicators has a reason");
            assert!(indicators.iter().all(|it| policy().prefixes.exclusion(&it.prefix).is_none()));
        }
    }
    for reject in found.rejects.kept() {
        assert!(
            (FIRST..FIRST + positions.max(1)).contains(&reject.position),
            "{reject:?} of {positions}"
        );
    }
}

/// Position of the first entry. Not 1, so that positions counted from elsewhere are detected.
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

fn collected(input: &mut dyn Read, read: Reader) -> (Result<u64, ReadError>, CollectedEntries) {
    let mut found = CollectedEntries::default();
    (read(input, &policy(), FIRST, &mut found), found)
}

/// Reader that returns one to seven bytes per read.
struct ChunkedReader<'a>(&'a [u8]);

impl Read for ChunkedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (self.0.len() % 7 + 1).min(self.0.len());
        let mut chunk = self.0.take(count as u64);
        let count = chunk.read(buffer)?;
        self.0 = self.0.split_at(count).1;
        Ok(count)
    }
}
