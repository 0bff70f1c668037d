//! `Merge`: the documents of a pull and the set that is there become the next set.
//!
//! Of the versions of an id the newest decides; of equal ones the later in input. In a snapshot
//! what is not in it has left; in changes all else stays, until it expires. Records are written as
//! they come, so that memory holds a few numbers an indicator and never the text.

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
    Encoded, Fact, Identity, Meta, OpenSet, RECORD_MAX, Writer, seconds, ticks,
};
use crate::intel::set::ttl::Ttl;

/// Ids that are gone and are still known, so that an old version does not bring them back. Those of
/// the oldest versions are forgotten first.
const GONE_MAX: usize = 1 << 20;

/// Bytes of an id at most. The longest that a feed gives, a URL, is far shorter.
const ID_MAX: usize = 8192;

/// By the hash of the id.
type Ids = FastIndexMap<u128, DecidingVersion>;

/// A merge under way.
#[derive(Debug)]
pub struct Merge {
    out: Writer,
    /// Whether each record still counts.
    kept: Vec<bool>,
    ids: Ids,
    before: Option<OpenSet>,
    extent: Extent,
    now: Timestamp,
    /// Addresses of this host.
    own: HashSet<IpNet>,
    rejects: Rejects,
    entries: u64,
    failed: Option<io::Error>,
    encoded: Encoded,
}

/// The version of an id that decides so far: an [`Identity`], and where it stands.
#[derive(Debug, Clone, Copy, Default)]
struct DecidingVersion {
    version: i64,
    group: u64,
    position: u64,
    first: u32,
    count: u32,
}

impl DecidingVersion {
    const fn identity(self, id: u128) -> Identity {
        let Self { version, group, first, count, .. } = self;
        Identity { id, version, group, first, count }
    }
}

/// What a merge made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeSummary {
    /// Indicators in the new set.
    pub indicators: u32,
    /// Indicators of the set before that would be live now.
    pub before: u32,
    /// Entries in the documents.
    pub entries: u64,
}

impl Merge {
    /// Writes to the empty file `out`, at `now`; `before` is the set to merge into.
    pub fn new(out: File, before: Option<OpenSet>, extent: Extent, now: Timestamp) -> Self {
        Self {
            out: Writer::new(out),
            kept: Vec::new(),
            ids: Ids::default(),
            before,
            extent,
            now,
            own: HashSet::new(),
            rejects: Rejects::default(),
            entries: 0,
            failed: None,
            encoded: Encoded::default(),
        }
    }

    /// Makes room for so many ids, so that it need not be made again and again.
    pub fn expect(&mut self, ids: usize) {
        self.ids.reserve(ids);
    }

    /// The same, which leaves out what names exactly one of `own`, the addresses of this host.
    #[must_use]
    pub fn without(self, own: &[IpAddr]) -> Self {
        Self { own: own.iter().map(|address| host(*address)).collect(), ..self }
    }

    /// What was not used so far, and how many entries were taken.
    pub const fn rejects(&self) -> (&Rejects, u64) {
        (&self.rejects, self.entries)
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
        // One search for an id that is new, as most are.
        let (index, known) = match self.ids.entry(id) {
            Vacant(vacant) => {
                let index = vacant.index();
                vacant.insert(DecidingVersion::default());
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
        let before = self.before.as_ref().and_then(|before| before.identity(id));
        // In a snapshot an old version is what there is now.
        let is_older = before.is_some_and(|before| before.version > version);
        if is_older && self.extent != Extent::Snapshot {
            if known.is_none() {
                self.ids.pop();
            }
            self.rejects.add(entry.position, RejectReason::Superseded, &entry.id);
            return Ok(());
        }
        let first = self.out.next();
        let (group, position) = (group(&entry.group), entry.position);
        let mut slot = DecidingVersion { version, group, position, first, count: 0 };
        match self.without_own(entry.content, position) {
            EntryContent::Removed(reason) => self.rejects.add(entry.position, reason, &entry.id),
            EntryContent::Indicators(indicators) => {
                for mut indicator in indicators {
                    if indicator.expires.is_some_and(|expires| expires <= self.now) {
                        self.rejects.add(entry.position, RejectReason::Expired, &indicator.id);
                        continue;
                    }
                    if self.write(&mut indicator, before)? {
                        slot.count += 1;
                    } else {
                        let reason = format!("its texts have more than {RECORD_MAX} bytes");
                        let reason = RejectReason::Malformed(reason);
                        self.rejects.add(entry.position, reason, &indicator.id);
                    }
                }
            }
        }
        if let Some((_, known)) = self.ids.get_index_mut(index) {
            *known = slot;
        }
        Ok(())
    }

    /// Every connection has an address of this host at one end: as an indicator it says nothing.
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

    /// Writes a record. Where the set before has the same one, it is as old as that. False where it
    /// is too long to be read again.
    fn write(&mut self, indicator: &mut Indicator, before: Option<Identity>) -> io::Result<bool> {
        if indicator.time_generated == self.now {
            // "Of the pull": the same in every pull.
            indicator.time_generated = Timestamp::MIN;
        }
        self.encoded.encode(indicator)?;
        if self.encoded.len() > RECORD_MAX {
            return Ok(false);
        }
        let crc = self.encoded.crc();
        let pulled = seconds(self.now);
        let same = before.and_then(|identity| {
            let before = self.before.as_ref()?;
            let mut facts = identity.records().filter_map(|number| before.fact(number));
            facts.find(|fact| fact.crc == crc)
        });
        let since = same.map_or(pulled, |fact| fact.since);
        let expires = indicator.expires.map_or(0, seconds);
        let fact = Fact { crc, since, pulled, expires };
        self.out.add(indicator.prefix, &self.encoded, fact)?;
        self.kept.push(true);
        Ok(true)
    }

    /// Writes the rest; `origin`, `cursor` and the time of the pull are in `meta`.
    pub fn finish(mut self, mut meta: Meta, ttl: Ttl) -> io::Result<MergeSummary> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let before = match self.before.take() {
            Some(before) => self.carry(&before, ttl)?,
            None => 0,
        };
        meta.rejects = std::mem::take(&mut self.rejects);
        match self.extent {
            Extent::Snapshot => self.ids.retain(|_, slot| slot.count > 0),
            Extent::Changes { .. } => forget_oldest(&mut self.ids),
        }
        self.ids.sort_unstable_keys();
        let identities = self.ids.iter().map(|(id, slot)| slot.identity(*id));
        let indicators = self.out.finish(&self.kept, identities, &meta)?;
        Ok(MergeSummary { indicators, before, entries: self.entries })
    }

    /// Takes over what stays of the set before. Gives how many of it would be live now.
    fn carry(&mut self, before: &OpenSet, ttl: Ttl) -> io::Result<u32> {
        let now = self.now;
        let live = |number: u32| before.fact(number).filter(|fact| !ttl.is_over(*fact, now));
        let replaced: HashSet<u64> = match &self.extent {
            Extent::Snapshot => {
                let live = before.prefixes().filter(|(_, number)| live(*number).is_some());
                return Ok(u32::try_from(live.count()).unwrap_or(u32::MAX));
            }
            Extent::Changes { replaced } => replaced.iter().map(|it| group(it)).collect(),
        };
        let prefixes = before.prefixes_by_number();
        let mut frames = before.frames();
        let mut count = 0;
        // In the order of the file.
        let mut order: Vec<&Identity> = before.identities.iter().collect();
        order.sort_unstable_by_key(|identity| identity.first);
        for identity in order {
            let stays = !self.ids.contains_key(&identity.id)
                && (identity.group == 0 || !replaced.contains(&identity.group));
            let mut slot = DecidingVersion {
                version: identity.version,
                group: identity.group,
                position: 0,
                first: self.out.next(),
                count: 0,
            };
            for number in identity.records() {
                let prefix = prefixes.get(number as usize).copied().flatten();
                let (Some(prefix), Some(fact)) = (prefix, live(number)) else { continue };
                count += 1;
                if stays && !self.own.contains(&prefix) {
                    self.out.copy(prefix, fact, frames.get(number)?)?;
                    self.kept.push(true);
                    slot.count += 1;
                }
            }
            if stays {
                self.ids.insert(identity.id, slot);
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

/// Of ids that are gone only so many are kept, those of the newest versions.
fn forget_oldest(ids: &mut Ids) {
    let gone = ids.values().filter(|slot| slot.count == 0);
    let mut versions: Vec<i64> = gone.map(|slot| slot.version).collect();
    if versions.len() <= GONE_MAX {
        return;
    }
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let oldest = versions.get(GONE_MAX).copied().unwrap_or(i64::MIN);
    ids.retain(|_, slot| slot.count > 0 || slot.version > oldest);
}

/// Names that meet by chance harm only the feed that sends them; it need not be cryptographic.
fn hash(id: &str) -> u128 {
    XxHash3_128::oneshot(id.as_bytes())
}

/// A group as a number; 0 is none.
fn group(name: &str) -> u64 {
    if name.is_empty() { 0 } else { XxHash3_64::oneshot(name.as_bytes()).max(1) }
}
