//! Files of networks that never alert: MISP warning lists, and plain lists.
//!
//! They are the operator's own files, not feeds, so an error in one is reported at start.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::de::{IgnoredAny, MapAccess};

use super::addresses::{ListedAddress, parse_value};
use super::entry::{EntryContent, EntrySink, FeedEntry, ReadError, ReadPolicy};
use super::json::{EachElement, EachObject, LenientStr, ObjectVisitor, parse_document};
use super::list::{ListFormat, read_list};
use crate::base::regular_file;
use crate::base::text_input::{TextInput, TextInputError};
use crate::intel::address::{PrefixPolicy, parse_prefix};
use crate::intel::rejects::RejectReason;

/// File name of the lists in a directory of warning lists.
const LIST_NAME: &str = "list.json";
/// Maximum depth of directories that are searched.
const DEPTH_MAX: usize = 4;
/// Maximum number of files in all directories together.
const FILES_MAX: usize = 10_000;
/// Maximum size of a file in bytes.
const FILE_MAX: u64 = 1 << 30;
/// Maximum white space before the first character of a file, in bytes.
const BLANKS_MAX: usize = 4096;
const EXPECTED: &str = "a MISP warning list";

/// Content of files of networks.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct AllowedNetworks {
    /// All networks, in the order of the files; canonical.
    pub networks: Vec<IpNet>,
    /// Number of files.
    pub files: usize,
    /// Entries of warning lists that are not networks: names, patterns.
    pub skipped: u64,
}

/// A file of networks cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("allow.files: {path}: {kind}", path = .path.display())]
pub struct AllowFileError {
    /// Path of the file.
    pub path: PathBuf,
    /// Kind of the error.
    pub kind: AllowFileErrorKind,
}

/// Kind of an error in a file of networks.
#[derive(Debug, thiserror::Error)]
pub enum AllowFileErrorKind {
    /// Reading the file failed.
    #[error("{0}; does it exist, and may the agent read it?")]
    Io(#[from] io::Error),
    /// The file has another format.
    #[error("{0}; it should be a MISP warning list, or one network per line")]
    Format(String),
    /// A line of a plain list is invalid.
    #[error("line {line}: {text:?}: {reason}; correct or remove it")]
    Line {
        /// Number of the line, from 1.
        line: u64,
        /// Text of the entry.
        text: String,
        /// Reason why it is invalid.
        reason: RejectReason,
    },
    /// A directory without lists.
    #[error("there is no {LIST_NAME} in or below this directory")]
    Empty,
    /// A directory with too many lists.
    #[error("more than {FILES_MAX} files; name a smaller directory")]
    TooMany,
    /// The file is too large.
    #[error("larger than {FILE_MAX} bytes; is it a list of networks?")]
    TooLarge,
}

/// Reads the networks of files, and of each `list.json` in or below directories.
pub fn read_allowed(paths: &[PathBuf]) -> Result<AllowedNetworks, AllowFileError> {
    let mut allowed = AllowedNetworks::default();
    for path in paths {
        let failed = |kind| AllowFileError { path: path.clone(), kind };
        if !fs::metadata(path).map_err(|error| failed(error.into()))?.is_dir() {
            read_file(path, &mut allowed).map_err(failed)?;
            continue;
        }
        let mut lists = Vec::new();
        find_lists(path, DEPTH_MAX, &mut lists).map_err(failed)?;
        if lists.is_empty() {
            return Err(failed(AllowFileErrorKind::Empty));
        }
        for list in lists {
            read_file(&list, &mut allowed)
                .map_err(|kind| AllowFileError { path: list.clone(), kind })?;
        }
    }
    Ok(allowed)
}

fn find_lists(
    folder: &Path,
    depth: usize,
    lists: &mut Vec<PathBuf>,
) -> Result<(), AllowFileErrorKind> {
    let entries: Result<Vec<_>, _> = fs::read_dir(folder)?.collect();
    let mut entries = entries?;
    entries.sort_unstable_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type()?;
        if kind.is_dir() && depth > 0 {
            find_lists(&entry.path(), depth - 1, lists)?;
        } else if !kind.is_dir() && entry.file_name() == LIST_NAME {
            if lists.len() >= FILES_MAX {
                return Err(AllowFileErrorKind::TooMany);
            }
            lists.push(entry.path());
        }
    }
    Ok(())
}

fn read_file(path: &Path, allowed: &mut AllowedNetworks) -> Result<(), AllowFileErrorKind> {
    let file = regular_file::open_trusted(path)?;
    if file.metadata()?.len() > FILE_MAX {
        return Err(AllowFileErrorKind::TooLarge);
    }
    read_networks(BufReader::with_capacity(1 << 16, file), allowed)
}

/// Adds the networks of one file.
pub fn read_networks(
    reader: impl io::BufRead,
    allowed: &mut AllowedNetworks,
) -> Result<(), AllowFileErrorKind> {
    let mut reader = match TextInput::open(reader, FILE_MAX) {
        Ok(text) => text,
        Err(error) => {
            return Err(match TextInputError::from_io(&error) {
                Some(other) => AllowFileErrorKind::Format(other.to_string()),
                None => error.into(),
            });
        }
    };
    // Skips white space byte by byte, since a read may return few bytes.
    let mut blanks = Vec::new();
    let first = loop {
        match reader.fill_buf()?.first().copied() {
            Some(byte) if byte.is_ascii_whitespace() && blanks.len() < BLANKS_MAX => {
                blanks.push(byte);
                reader.consume(1);
            }
            other => break other,
        }
    };
    let reader = blanks.as_slice().chain(reader);
    allowed.files += 1;
    if first == Some(b'{') { warning_list(reader, allowed) } else { plain(reader, allowed) }
}

fn plain(
    reader: impl io::BufRead,
    allowed: &mut AllowedNetworks,
) -> Result<(), AllowFileErrorKind> {
    let policy = ReadPolicy {
        prefixes: PrefixPolicy { allow_private: true, min_v4: 0, min_v6: 0 },
        min_confidence: None,
        now: Timestamp::UNIX_EPOCH,
        oldest: Timestamp::MIN,
    };
    let mut lines = PlainLines { allowed, error: None };
    read_list(reader, &ListFormat::default(), &policy, 1, &mut lines).map_err(file_error)?;
    lines.error.map_or(Ok(()), Err)
}

struct PlainLines<'l> {
    allowed: &'l mut AllowedNetworks,
    error: Option<AllowFileErrorKind>,
}

impl EntrySink for PlainLines<'_> {
    fn push(&mut self, entry: FeedEntry) {
        if let EntryContent::Indicators(networks) = entry.content {
            self.allowed.networks.extend(networks.into_iter().map(|it| it.prefix));
        }
    }

    fn reject(&mut self, line: u64, reason: RejectReason, text: &str) {
        // A comment without its sign may name an address.
        if reason == RejectReason::AddressInText {
            return;
        }
        let text = text.chars().take(100).collect();
        self.error.get_or_insert(AllowFileErrorKind::Line { line, text, reason });
    }
}

/// Warning list under construction: its type may come after its entries.
#[derive(Default)]
struct WarningList {
    kind: String,
    networks: Vec<IpNet>,
    others: u64,
    has_list: bool,
}

impl ObjectVisitor for WarningList {
    fn visit_member<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match key {
            "type" => self.kind = map.next_value::<LenientStr<'_>>()?.to_text(),
            "list" => {
                let is_list =
                    map.next_value_seed(EachElement(|text: &str| match networks(text) {
                        Some(networks) => self.networks.extend(networks),
                        None => self.others += 1,
                    }))?;
                self.has_list |= is_list;
            }
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

fn file_error(error: ReadError) -> AllowFileErrorKind {
    match error {
        ReadError::Io(error) => AllowFileErrorKind::Io(error),
        ReadError::Format(error) => AllowFileErrorKind::Format(error),
        ReadError::Truncated(position) => {
            AllowFileErrorKind::Format(format!("it ends early, {position}"))
        }
    }
}

/// Returns the networks of an entry, which may be a range.
fn networks(json: &str) -> Option<Vec<IpNet>> {
    let text: LenientStr<'_> = serde_json::from_str(json).ok()?;
    if let Some(prefix) = parse_prefix(text.as_str()) {
        return Some(vec![prefix]);
    }
    let addresses = parse_value(text.as_str()).ok()?;
    let mut endpoints = addresses.iter().flat_map(ListedAddress::endpoints);
    endpoints.try_fold(Vec::new(), |mut all, it| {
        // An allowed port is not an allowed host.
        it.port.is_none().then(|| all.push(it.prefix))?;
        Some(all)
    })
}

fn warning_list(
    reader: impl io::BufRead,
    allowed: &mut AllowedNetworks,
) -> Result<(), AllowFileErrorKind> {
    let mut list = WarningList::default();
    parse_document(reader, EachObject(&mut list), EXPECTED).map_err(file_error)?;
    if !list.has_list {
        return Err(AllowFileErrorKind::Format("it has no \"list\"".to_owned()));
    }
    // Lists of other types hold names and patterns; an address in them has another meaning.
    if ["cidr", "string"].contains(&list.kind.as_str()) {
        allowed.networks.append(&mut list.networks);
        allowed.skipped += list.others;
    } else {
        allowed.skipped += list.others + list.networks.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn networks_are_read_from_files_and_from_lists_in_folders() {
        let cidr = "{\"list\":[\"198.51.100.0/24\",\"::ffff:203.0.113.7\",\"host\"],\
                    \"name\":\"n\",\"type\":\"cidr\"}";
        let string = "{\"type\":\"string\",\"list\":[\"192.0.2.1\",\"example.com\",7]}";
        let hostname = "{\"type\":\"hostname\",\"list\":[\"192.0.2.2\",\"example.com\"]}";
        let folder = folder(&[
            ("lists/b/list.json", cidr),
            ("lists/a/deep/list.json", string),
            ("lists/c/list.json", hostname),
            ("lists/c/other.json", "not read"),
            ("own.txt", "# own\n10.0.0.0/8\n0.0.0.0/0 # all\n"),
        ]);
        let paths = [folder.path().join("lists"), folder.path().join("own.txt")];
        let allowed = read_allowed(&paths).unwrap();
        let networks: Vec<String> = allowed.networks.iter().map(IpNet::to_string).collect();
        assert_eq!(
            networks,
            ["192.0.2.1/32", "198.51.100.0/24", "203.0.113.7/32", "10.0.0.0/8", "0.0.0.0/0"]
        );
        assert_eq!((allowed.files, allowed.skipped), (4, 2 + 1 + 2));
    }

    #[test]
    fn an_error_in_a_file_is_reported_with_its_path() {
        let folder = folder(&[
            ("typo.txt", "10.0.0.0/8\n10.0.0/8\n"),
            ("cut.json", "{\"type\":\"cidr\",\"list\":[\"10.0.0.0/8\""),
            ("other.json", "{\"type\":\"cidr\"}"),
            ("empty/readme", ""),
            ("bad/x/list.json", "{]"),
        ]);
        for (name, message) in [
            ("typo.txt", "typo.txt: line 2: \"10.0.0/8\": not an address; correct or remove it"),
            ("cut.json", "cut.json: it ends early, at line 1 column 35; it should be"),
            ("other.json", "other.json: it has no \"list\""),
            ("empty", "empty: there is no list.json in or below this directory"),
            ("bad", "bad/x/list.json: the body is not a MISP warning list: key must be a string"),
            ("none", "none: No such file or directory"),
        ] {
            let error = read_allowed(&[folder.path().join(name)]).unwrap_err().to_string();
            assert!(error.starts_with("allow.files: /") && error.contains(message), "{error}");
        }
    }

    #[test]
    fn marks_ranges_and_cut_texts_of_a_file_are_read() {
        let list = "\u{feff}{\"description\":\"\\ud83d\",\"type\":\"cidr\",\"list\":\
                    {\"0\":\"198.51.100.0/24\",\"2\":\"192.0.2.0 - 192.0.2.2\"}}";
        let folder = folder(&[
            ("mark.json", list),
            ("mark.txt", "\u{feff}10.0.0.0 - 10.0.0.255 # own\r10.1.0.0 255.255.0.0\r"),
            ("packed.zip", "PK\u{3}\u{4}"),
        ]);
        let paths = ["mark.json", "mark.txt"].map(|name| folder.path().join(name));
        let allowed = read_allowed(&paths).unwrap();
        let networks: Vec<String> = allowed.networks.iter().map(IpNet::to_string).collect();
        assert_eq!(
            networks,
            ["198.51.100.0/24", "192.0.2.0/31", "192.0.2.2/32", "10.0.0.0/24", "10.1.0.0/16"]
        );
        let error = read_allowed(&[folder.path().join("packed.zip")]).unwrap_err().to_string();
        assert!(error.contains("packed.zip: the body is a zip archive"), "{error}");
    }
}
