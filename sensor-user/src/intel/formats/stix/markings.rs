//! Markings: Traffic Light Protocol levels of entries, also if a marking is defined after its use.
//!
//! The definitions of TLP 1 and TLP 2 have fixed ids. Others may be anywhere in the document: an
//! entry that refers to an unknown one is held, together with all entries after it, so that the
//! order stays. At most `PENDING_MAX` are held; then the first is passed on with the known levels.

use std::collections::{HashMap, VecDeque};

use super::super::columns::JsonStr;
use super::super::entry::{EntryContent, EntrySink, FeedEntry};

/// Maximum number of held entries; an entry with several indicators counts as several.
const PENDING_MAX: usize = 4096;
/// Maximum length of the id of a definition in bytes; longer ones are ignored.
const ID_MAX: usize = 128;
/// Maximum number of stored definitions.
const KNOWN_MAX: usize = 16_384;

/// Level of the Traffic Light Protocol; a greater one is stricter. Names as in the definitions of
/// TLP 1.0 (STIX 2.1, section 7.2.1.4) and TLP 2.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum TlpLevel {
    White,
    Clear,
    Green,
    Amber,
    AmberStrict,
    Red,
}

/// Fixed ids of the definitions, without `marking-definition--`.
const FIXED: [(&str, TlpLevel); 9] = [
    ("613f2e26-407d-48c7-9eca-b8e91df99dc9", TlpLevel::White),
    ("34098fce-860f-48ae-8e50-ebd3cc5e41da", TlpLevel::Green),
    ("f88d31f6-486f-44da-b317-01333bde0b82", TlpLevel::Amber),
    ("5e57c739-391a-4eb3-b6be-7d15ca92d5ed", TlpLevel::Red),
    ("94868c89-83c2-464b-929b-a1a8aa3c8487", TlpLevel::Clear),
    ("bab4a63c-aed9-4cf5-a766-dfca5abac2bb", TlpLevel::Green),
    ("55d920b0-5e8b-4f79-9ee9-91f868d9b421", TlpLevel::Amber),
    ("939a9414-2ddd-4d32-a0cd-375ea402b003", TlpLevel::AmberStrict),
    ("e828b379-4e03-4974-9ac4-e53a884c97c1", TlpLevel::Red),
];

impl TlpLevel {
    const fn name(self) -> &'static str {
        match self {
            Self::White => "white",
            Self::Clear => "clear",
            Self::Green => "green",
            Self::Amber => "amber",
            Self::AmberStrict => "amber+strict",
            Self::Red => "red",
        }
    }

    /// Parses `amber`, `TLP:AMBER`, `tlp:amber+strict`.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let word = text.strip_prefix("tlp:").unwrap_or(&text).trim_start();
        [Self::White, Self::Clear, Self::Green, Self::Amber, Self::AmberStrict, Self::Red]
            .into_iter()
            .find(|level| level.name() == word)
    }
}

/// An entry that is held until its markings are known.
#[derive(Debug)]
struct PendingEntry {
    entry: FeedEntry,
    level: Option<TlpLevel>,
    /// Ids of its unknown markings.
    unknown: Vec<String>,
}

/// Known definitions, and the entries that wait for others.
#[derive(Debug, Default)]
pub(super) struct Markings {
    /// Level by id; `None` for a marking other than TLP.
    known: HashMap<String, Option<TlpLevel>>,
    pending: VecDeque<PendingEntry>,
    /// As counted for `PENDING_MAX`.
    pending_count: usize,
}

impl Markings {
    /// Passes an entry to the sink with the strictest level of its markings, once they are known.
    pub(super) fn push(
        &mut self,
        entry: FeedEntry,
        references: &[JsonStr<'_>],
        entries: &mut dyn EntrySink,
    ) {
        let (mut level, mut unknown) = (None, Vec::new());
        for id in references.iter().map(JsonStr::as_str).filter(|id| id.len() <= ID_MAX) {
            match self.level(id) {
                Some(known) => level = level.max(known),
                None => unknown.push(id.to_owned()),
            }
        }
        let is_marked = matches!(entry.content, EntryContent::Indicators(_));
        if self.pending.is_empty() && (unknown.is_empty() || !is_marked) {
            entries.push(marked(entry, level));
            return;
        }
        self.pending_count += weight(&entry);
        self.pending.push_back(PendingEntry { entry, level, unknown });
        if self.pending_count > PENDING_MAX {
            while self.pending_count > PENDING_MAX {
                self.release_first(entries);
            }
            self.release_known(entries);
        }
    }

    /// Stores a definition. Its level is the first of `texts` that names one.
    pub(super) fn add_definition(
        &mut self,
        id: &str,
        texts: [&str; 2],
        entries: &mut dyn EntrySink,
    ) {
        if self.known.len() >= KNOWN_MAX || id.len() > ID_MAX {
            return;
        }
        self.known.insert(id.to_owned(), texts.into_iter().find_map(TlpLevel::parse));
        self.release_known(entries);
    }

    /// Passes all held entries on, at the end of the document.
    pub(super) fn finish(mut self, entries: &mut dyn EntrySink) {
        while !self.pending.is_empty() {
            self.release_first(entries);
        }
    }

    #[expect(clippy::option_option, reason = "an unknown marking differs from one without a level")]
    fn level(&self, id: &str) -> Option<Option<TlpLevel>> {
        if let Some(known) = self.known.get(id) {
            return Some(*known);
        }
        let uuid = id.strip_prefix("marking-definition--")?;
        FIXED.iter().find(|(fixed, _)| *fixed == uuid).map(|(_, level)| Some(*level))
    }

    fn release_known(&mut self, entries: &mut dyn EntrySink) {
        while self.pending.front().is_some_and(|it| {
            !matches!(it.entry.content, EntryContent::Indicators(_))
                || it.unknown.iter().all(|id| self.level(id).is_some())
        }) {
            self.release_first(entries);
        }
    }

    fn release_first(&mut self, entries: &mut dyn EntrySink) {
        let Some(PendingEntry { entry, level, unknown }) = self.pending.pop_front() else { return };
        self.pending_count = self.pending_count.saturating_sub(weight(&entry));
        let late = unknown.iter().filter_map(|id| self.level(id).flatten()).max();
        entries.push(marked(entry, level.max(late)));
    }
}

fn weight(entry: &FeedEntry) -> usize {
    match &entry.content {
        EntryContent::Indicators(indicators) => indicators.len().max(1),
        EntryContent::Removed(_) => 1,
    }
}

fn marked(mut entry: FeedEntry, level: Option<TlpLevel>) -> FeedEntry {
    if let (EntryContent::Indicators(indicators), Some(level)) = (&mut entry.content, level) {
        for indicator in indicators {
            level.name().clone_into(&mut indicator.tlp_level);
        }
    }
    entry
}
