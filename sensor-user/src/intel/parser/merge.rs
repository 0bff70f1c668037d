//! `Merge`: builds the next set of a feed from the documents of a pull and the previous set.
//!
//! The newest version of an id applies; of equal versions, the later in input. Entries that are not
//! in a snapshot have left the feed; with changes all other entries stay until they expire. Records
//! are written as they arrive, so that memory holds a few numbers per indicator and no text.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::net::IpAddr;

use indexmap::map::Entry::{Occupied, Vacant};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::applied::{AppliedVersion, Ids, drop_oldest_removed, group, hash, matched};
use crate::intel::address::host;
use crate::intel::formats::entry::{EntryContent, EntrySink, FeedEntry};
use crate::intel::indicator::Indicator;
use crate::intel::pull::{Cursor, Extent};
use crate::intel::rejects::{RejectReason, Rejects};
use crate::intel::set::store::{
    EncodedIndicator, RECORD_MAX, SetFile, SetMeta, SetWriter, StoredFact, StoredIdentity, seconds,
    ticks,
};
use crate::intel::set::ttl::Ttl;

/// Maximum length of an id in bytes. The longest ids of feeds are URLs, which are far shorter.
const ID_MAX: usize = 8192;

/// A merge in progress.
#[derive(Debug)]
pub struct Merge {
    out: SetWriter,
    /// By number of the record: false once a newer version replaced it.
    kept: Vec<bool>,
    ids: Ids,
    previous: Option<SetFile>,
    extent: Extent,
    now: Timestamp,
    /// Addresses of this host.
    own: HashSet<IpNet>,
    /// True if a withdrawal of an unknown id is of its group: see [`Merge::withdrawing_groups`].
    withdraws_groups: bool,
    /// Groups that were withdrawn by an unknown id; at most one per entry.
    withdrawn: HashSet<u64>,
    rejects: Rejects,
    entries: u64,
    failed: Option<io::Error>,
    encoded: EncodedIndicator,
}

/// Counts of a finished merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeSummary {
    /// Indicators in the new set.
    pub indicators: u32,
    /// Indicators of the previous set that are live now.
    pub previous: u32,
    /// Entries in the documents.
    pub entries: u64,
}

impl Merge {
    /// Starts a merge into `previous` that writes to the empty file `out`.
    pub fn new(out: File, previous: Option<SetFile>, extent: Extent, now: Timestamp) -> Self {
        Self {
            out: SetWriter::new(out),
            kept: Vec::new(),
            ids: Ids::default(),
            previous,
            extent,
            now,
            own: HashSet::new(),
            withdraws_groups: false,
            withdrawn: HashSet::new(),
            rejects: Rejects::default(),
            entries: 0,
            failed: None,
            encoded: EncodedIndicator::default(),
        }
    }

    /// Reserves memory for this many ids.
    pub fn reserve(&mut self, ids: usize) {
        self.ids.reserve(ids);
    }

    /// Leaves out indicators of exactly one of `own`, the addresses of this host.
    #[must_use]
    pub fn without_addresses(self, own: &[IpAddr]) -> Self {
        Self { own: own.iter().map(|address| host(*address)).collect(), ..self }
    }

    /// Lets a withdrawal of an unknown id remove its whole group. `CrowdSec` servers that de-duplicate name the
    /// longest decision about an address, which may be one that was never sent.
    #[must_use]
    pub fn withdrawing_groups(self, withdraws_groups: bool) -> Self {
        Self { withdraws_groups, ..self }
    }

    /// Returns the cursor of the previous set.
    pub fn previous_cursor(&self) -> Option<&Cursor> {
        self.previous.as_ref().map(|set| &set.meta.cursor)
    }

    /// Keeps the entries of the previous set that are not in the documents, also those of `groups`: a
    /// document that cannot be read must not remove entries.
    pub fn keep_others(&mut self, groups: &[String]) {
        let mut replaced = match std::mem::replace(&mut self.extent, Extent::Snapshot) {
            Extent::Changes { replaced } => replaced,
            Extent::Snapshot => Vec::new(),
        };
        replaced.retain(|group| !groups.contains(group));
        self.extent = Extent::Changes { replaced };
    }

    /// Returns the rejects so far.
    pub const fn rejects(&self) -> &Rejects {
        &self.rejects
    }

    /// Returns the number of entries so far.
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    fn add(&mut self, entry: FeedEntry) -> io::Result<()> {
        self.entries += 1;
        if entry.id.len() > ID_MAX {
            let reason = RejectReason::Malformed(format!("an id of more than {ID_MAX} bytes"));
            self.rejects.add(entry.position, reason, &entry.id);
            return Ok(());
        }
        let id = hash(&entry.id);
        let (version, matched) = (ticks(entry.version), matched(&entry.content));
        // A single lookup for a new id, since most are new.
        let (index, known) = match self.ids.entry(id) {
            Vacant(vacant) => {
                let index = vacant.index();
                vacant.insert(AppliedVersion::default());
                (index, None)
            }
            Occupied(known) => (known.index(), Some(*known.get())),
        };
        if let Some(known) = known {
            let older = version < known.version;
            let position = if older { entry.position } else { known.position.into() };
            if version == known.version && matched == known.matched {
                self.rejects.add_duplicate();
            } else {
                self.rejects.add(position, RejectReason::Superseded, &entry.id);
            }
            if older {
                return Ok(());
            }
            let records = self.kept.iter_mut().skip(known.first as usize);
            records.take(known.count as usize).for_each(|kept| *kept = false);
        }
        let previous = self.previous.as_ref().and_then(|set| set.identity(id));
        // A snapshot is the current state, even if it contains an older version.
        let is_older = previous.is_some_and(|previous| previous.version > version);
        if is_older && self.extent != Extent::Snapshot {
            if known.is_none() {
                self.ids.pop();
            }
            self.rejects.add(entry.position, RejectReason::Superseded, &entry.id);
            return Ok(());
        }
        let first = self.out.next_number();
        let (group, position) = (group(&entry.group), entry.position);
        let shown = u32::try_from(position).unwrap_or(u32::MAX);
        let mut applied =
            AppliedVersion { version, group, position: shown, matched, first, count: 0 };
        match self.without_own(entry.content, position) {
            EntryContent::Removed(reason) => {
                let is_unknown = known.is_none() && previous.is_none();
                if self.withdraws_groups && is_unknown && reason == RejectReason::Withdrawn {
                    self.withdrawn.insert(group);
                }
                self.rejects.add(entry.position, reason, &entry.id);
            }
            EntryContent::Indicators(indicators) => {
                for mut indicator in indicators {
                    if indicator.expires.is_some_and(|expires| expires <= self.now) {
                        self.rejects.add(entry.position, RejectReason::Expired, &indicator.id);
                        continue;
                    }
                    if self.write(&mut indicator, previous)? {
                        applied.count += 1;
                    } else {
                        let reason = format!("its texts have more than {RECORD_MAX} bytes");
                        let reason = RejectReason::Malformed(reason);
                        self.rejects.add(entry.position, reason, &indicator.id);
                    }
                }
            }
        }
        if let Some((_, known)) = self.ids.get_index_mut(index) {
            *known = applied;
        }
        Ok(())
    }

    /// Removes indicators of this host's addresses: every connection has one of them at one end.
    fn without_own(&mut self, content: EntryContent, position: u64) -> EntryContent {
        let EntryContent::Indicators(mut indicators) = content else { return content };
        let Self { own, rejects, .. } = self;
        let is_own = |it: &Indicator| own.contains(&it.prefix);
        if !indicators.is_empty() && indicators.iter().all(is_own) {
            return EntryContent::Removed(RejectReason::OwnAddress);
        }
        for own in indicators.extract_if(.., |it| is_own(it)) {
            rejects.add(position, RejectReason::OwnAddress, &own.prefix.to_string());
        }
        EntryContent::Indicators(indicators)
    }

    /// Writes a record. An unchanged record keeps its age from the previous set. Returns false if
    /// the record is too long to be read again.
    fn write(
        &mut self,
        indicator: &mut Indicator,
        previous: Option<StoredIdentity>,
    ) -> io::Result<bool> {
        if indicator.time_generated == self.now {
            // Stands for the time of the pull, so that the record is equal in every pull.
            indicator.time_generated = Timestamp::MIN;
        }
        self.encoded.encode(indicator)?;
        if self.encoded.len() > RECORD_MAX {
            return Ok(false);
        }
        let crc = self.encoded.crc();
        let pulled = seconds(self.now);
        let same = previous.and_then(|identity| {
            let set = self.previous.as_ref()?;
            let mut facts = identity.records().filter_map(|number| set.fact(number));
            facts.find(|fact| fact.crc == crc)
        });
        let since = same.map_or(pulled, |fact| fact.since);
        let expires = indicator.expires.map_or(0, seconds);
        let fact = StoredFact { crc, since, pulled, expires };
        self.out.append(indicator.prefix, &self.encoded, fact)?;
        self.kept.push(true);
        Ok(true)
    }

    /// Writes the rest of the set. `meta` has the origin, the cursor and the time of the pull.
    pub fn finish(mut self, mut meta: SetMeta, ttl: Ttl) -> io::Result<MergeSummary> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let previous = self.previous.take();
        meta.has_repeated_groups = previous.as_ref().is_some_and(|it| it.meta.has_repeated_groups)
            || self.has_repeated_group();
        // A server that does not de-duplicate names each id: an unknown one came and went between two pulls, and
        // other decisions about the same address stay.
        self.withdraws_groups &= !meta.has_repeated_groups;
        let previous = match previous {
            Some(previous) => self.carry_over(&previous, ttl)?,
            None => 0,
        };
        meta.rejects = std::mem::take(&mut self.rejects);
        match self.extent {
            Extent::Snapshot => self.ids.retain(|_, slot| slot.count > 0),
            Extent::Changes { .. } => drop_oldest_removed(&mut self.ids),
        }
        self.ids.sort_unstable_keys();
        let identities = self.ids.iter().map(|(id, slot)| slot.identity(*id));
        let indicators = self.out.finish(&self.kept, identities, &meta)?;
        Ok(MergeSummary { indicators, previous, entries: self.entries })
    }

    /// Copies records of the previous set that stay. Returns the number of its records that are
    /// live now.
    fn carry_over(&mut self, previous: &SetFile, ttl: Ttl) -> io::Result<u32> {
        let now = self.now;
        let live = |number: u32| previous.fact(number).filter(|fact| !ttl.is_over(*fact, now));
        let replaced: HashSet<u64> = match &self.extent {
            Extent::Snapshot => {
                let live = previous.prefixes().filter(|(_, number)| live(*number).is_some());
                return Ok(u32::try_from(live.count()).unwrap_or(u32::MAX));
            }
            Extent::Changes { replaced } => {
                let withdrawn = self.withdrawn_groups();
                replaced.iter().map(|it| group(it)).chain(withdrawn).collect()
            }
        };
        let prefixes = previous.prefixes_by_number();
        let mut records = previous.record_reader();
        let mut count = 0;
        // In file order, so that the file is read sequentially.
        let mut order: Vec<&StoredIdentity> = previous.identities.iter().collect();
        order.sort_unstable_by_key(|identity| identity.first);
        for identity in order {
            let stays = !self.ids.contains_key(&identity.id)
                && (identity.group == 0 || !replaced.contains(&identity.group));
            let mut applied = AppliedVersion {
                version: identity.version,
                group: identity.group,
                position: 0,
                matched: 0,
                first: self.out.next_number(),
                count: 0,
            };
            for number in identity.records() {
                let prefix = prefixes.get(number as usize).copied().flatten();
                let (Some(prefix), Some(fact)) = (prefix, live(number)) else { continue };
                count += 1;
                if stays && !self.own.contains(&prefix) {
                    self.out.append_copy(prefix, fact, records.read(number)?)?;
                    self.kept.push(true);
                    applied.count += 1;
                }
            }
            if stays {
                self.ids.insert(identity.id, applied);
            }
        }
        Ok(count)
    }

    /// True if two live entries of the input have the same group, which a server that de-duplicates never sends.
    fn has_repeated_group(&self) -> bool {
        let mut groups = HashSet::new();
        self.withdraws_groups && self.added_groups().any(|it| it != 0 && !groups.insert(it))
    }

    fn added_groups(&self) -> impl Iterator<Item = u64> {
        self.ids.values().filter(|it| it.count > 0).map(|it| it.group)
    }

    /// Groups that are withdrawn as a whole; those of which the same input has an entry stay.
    fn withdrawn_groups(&self) -> Vec<u64> {
        if !self.withdraws_groups {
            return Vec::new();
        }
        let added: HashSet<u64> = self.added_groups().collect();
        self.withdrawn.iter().copied().filter(|it| *it != 0 && !added.contains(it)).collect()
    }
}

impl EntrySink for Merge {
    fn push(&mut self, entry: FeedEntry) {
        if self.failed.is_none()
            && let Err(error) = self.add(entry)
        {
            self.failed = Some(error);
        }
    }

    fn reject(&mut self, position: u64, reason: RejectReason, text: &str) {
        self.rejects.add(position, reason, text);
    }
}
