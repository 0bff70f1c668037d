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
use twox_hash::{XxHash3_64, XxHash3_128};

use crate::base::collections::FastIndexMap;
use crate::intel::address::host;
use crate::intel::formats::entry::{EntryContent, EntrySink, FeedEntry};
use crate::intel::indicator::Indicator;
use crate::intel::pull::Extent;
use crate::intel::rejects::{RejectReason, Rejects};
use crate::intel::set::store::{
    EncodedIndicator, RECORD_MAX, SetFile, SetMeta, SetWriter, StoredFact, StoredIdentity, seconds,
    ticks,
};
use crate::intel::set::ttl::Ttl;

/// Maximum number of removed ids that are kept, so that an old version does not restore them. Those
/// with the oldest versions are dropped first.
const REMOVED_MAX: usize = 1 << 20;

/// Maximum length of an id in bytes. The longest ids of feeds are URLs, which are far shorter.
const ID_MAX: usize = 8192;

/// Applied versions by the hash of their id.
type Ids = FastIndexMap<u128, AppliedVersion>;

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
    rejects: Rejects,
    entries: u64,
    failed: Option<io::Error>,
    encoded: EncodedIndicator,
}

/// Version of an id that applies so far: a [`StoredIdentity`], and the entry's position.
#[derive(Debug, Clone, Copy, Default)]
struct AppliedVersion {
    version: i64,
    group: u64,
    position: u64,
    first: u32,
    count: u32,
}

impl AppliedVersion {
    const fn identity(self, id: u128) -> StoredIdentity {
        let Self { version, group, first, count, .. } = self;
        StoredIdentity { id, version, group, first, count }
    }
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
        let version = ticks(entry.version);
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
            let position = if older { entry.position } else { known.position };
            self.rejects.add(position, RejectReason::Superseded, &entry.id);
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
        let mut applied = AppliedVersion { version, group, position, first, count: 0 };
        match self.without_own(entry.content, position) {
            EntryContent::Removed(reason) => self.rejects.add(entry.position, reason, &entry.id),
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
        let previous = match self.previous.take() {
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
            Extent::Changes { replaced } => replaced.iter().map(|it| group(it)).collect(),
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

/// Drops removed ids beyond [`REMOVED_MAX`], those with the oldest versions first.
fn drop_oldest_removed(ids: &mut Ids) {
    let gone = ids.values().filter(|slot| slot.count == 0);
    let mut versions: Vec<i64> = gone.map(|slot| slot.version).collect();
    if versions.len() <= REMOVED_MAX {
        return;
    }
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let oldest = versions.get(REMOVED_MAX).copied().unwrap_or(i64::MIN);
    ids.retain(|_, slot| slot.count > 0 || slot.version > oldest);
}

/// A collision harms only the feed that sends both ids, so the hash need not be cryptographic.
fn hash(id: &str) -> u128 {
    XxHash3_128::oneshot(id.as_bytes())
}

/// Returns the hash of a group; 0 for none.
fn group(name: &str) -> u64 {
    if name.is_empty() { 0 } else { XxHash3_64::oneshot(name.as_bytes()).max(1) }
}
