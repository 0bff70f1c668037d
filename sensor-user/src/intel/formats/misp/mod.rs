//! MISP: responses of `restSearch`, and event files.
//!
//! Each attribute is an entry. The title and tags of an event may follow its attributes, so the
//! attributes of one event are held until its end.

mod elements;
mod tags;
#[cfg(test)]
mod tests;

use std::io::BufRead;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};
use serde_json::value::RawValue;

use super::addresses::usable_endpoints;
use super::columns::lenient_time;
use super::endpoint::Endpoint;
use super::entry::{EntryContent, EntrySink, FeedEntry, ReadError, ReadPolicy};
use super::json::{
    EachElement, EachObject, LenientStr, ObjectVisitor, parse_document, unexpected_document,
};
use crate::intel::indicator::Indicator;
use crate::intel::rejects::RejectReason;
use elements::{elements, tag_name};
use tags::{confidence, groups, tlp};

/// Maximum number of attributes that are held until the end of their event; when it is reached,
/// they are passed on without the title and tags that follow.
const PENDING_MAX: usize = 100_000;
const EXPECTED: &str = "a response or an event of MISP";

/// Reads attributes; returns their number, including those of types without an address.
pub fn read_misp(
    input: impl BufRead,
    policy: &ReadPolicy,
    first_position: u64,
    entries: &mut dyn EntrySink,
) -> Result<u64, ReadError> {
    let mut reader =
        MispReader { policy, entries, position: first_position, is_known: false, has_other: false };
    let mut event = EventVisitor::new(&mut reader);
    let objects = parse_document(input, EachObject(&mut event), EXPECTED)?;
    let sample = std::mem::take(&mut event.sample);
    let is_empty = reader.position == first_position;
    let is_other = !reader.is_known || (reader.has_other && is_empty);
    if objects.is_none_or(|objects| objects > 0) && is_other {
        return Err(unexpected_document(EXPECTED, &sample));
    }
    Ok(reader.position.saturating_sub(first_position))
}

struct MispReader<'r> {
    policy: &'r ReadPolicy,
    entries: &'r mut dyn EntrySink,
    position: u64,
    /// True once a member of MISP documents was read.
    is_known: bool,
    /// True once such a member was something else than it should be.
    has_other: bool,
}

/// Visitor of an event, or of a response with events or attributes.
struct EventVisitor<'e, 'r> {
    reader: &'e mut MispReader<'r>,
    uuid: String,
    info: String,
    tags: Vec<String>,
    is_deleted: bool,
    /// Entries that are held until the end of the event.
    pending: Vec<FeedEntry>,
    /// Number of them without an event UUID of their own.
    without_event: usize,
    sample: String,
}

impl<'e, 'r> EventVisitor<'e, 'r> {
    fn new(reader: &'e mut MispReader<'r>) -> Self {
        Self {
            reader,
            uuid: String::new(),
            info: String::new(),
            tags: Vec::new(),
            is_deleted: false,
            pending: Vec::new(),
            without_event: 0,
            sample: String::new(),
        }
    }

    fn attribute(&mut self, text: &str) {
        self.reader.is_known = true;
        let position = self.reader.position;
        self.reader.position += 1;
        match serde_json::from_str::<MispAttribute<'_>>(text) {
            Ok(attribute) if attribute.kind.as_str().is_empty() => {
                let reason = RejectReason::Malformed("an attribute without type".to_owned());
                self.reader.entries.reject(position, reason, text);
            }
            Ok(attribute) => match attribute.entry(position, self.reader.policy) {
                Some(entry) if entry.id.is_empty() => {
                    let reason = RejectReason::Malformed("an attribute without id".to_owned());
                    self.reader.entries.reject(position, reason, text);
                }
                Some(entry) => {
                    self.without_event += usize::from(entry.group.is_empty());
                    self.pending.push(entry);
                }
                None => {}
            },
            Err(error) => {
                let reason = RejectReason::from_json(&error);
                self.reader.entries.reject(position, reason, text);
            }
        }
        if self.pending.len() >= PENDING_MAX {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let tlp = tlp(&self.tags);
        let groups = groups(&self.tags);
        self.without_event = 0;
        for mut entry in self.pending.drain(..) {
            if entry.group.is_empty() {
                entry.group.clone_from(&self.uuid);
            }
            if self.is_deleted {
                entry.content = EntryContent::Removed(RejectReason::Withdrawn);
            }
            if let EntryContent::Indicators(indicators) = &mut entry.content {
                for indicator in indicators {
                    for (text, of_event) in [
                        (&mut indicator.description, &self.info),
                        (&mut indicator.additional_information, &self.info),
                        (&mut indicator.tlp_level, &tlp),
                        (&mut indicator.activity_group_names, &groups),
                    ] {
                        if text.is_empty() {
                            text.clone_from(of_event);
                        }
                    }
                }
            }
            self.reader.entries.push(entry);
        }
    }
}

impl ObjectVisitor for EventVisitor<'_, '_> {
    fn visit_member<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match key {
            "response" | "Event" => {
                let objects =
                    map.next_value_seed(EachObject(&mut EventVisitor::new(self.reader)))?;
                self.reader.is_known |= objects.is_some();
            }
            "Attribute" => {
                let is_list =
                    map.next_value_seed(EachElement(|text: &str| self.attribute(text)))?;
                self.reader.is_known |= is_list;
                self.reader.has_other |= !is_list;
                // Attributes of a response have the UUIDs of their events.
                if self.without_event == 0 {
                    self.flush();
                }
            }
            "Object" => {
                let mut object =
                    MispObject { start: self.pending.len(), event: self, is_deleted: false };
                map.next_value_seed(EachObject(&mut object))?;
            }
            "uuid" => self.uuid = map.next_value::<LenientStr<'_>>()?.to_text(),
            "info" => self.info = map.next_value::<LenientStr<'_>>()?.to_text(),
            "deleted" => {
                self.is_deleted = map.next_value::<LenientStr<'_>>()?.to_flag() == Some(true);
            }
            "Tag" => {
                map.next_value_seed(EachElement(|text: &str| self.tags.extend(tag_name(text))))?;
            }
            "message" | "name" | "errors" | "error" => {
                self.sample = format!("{key}: {}", map.next_value::<LenientStr<'_>>()?.as_str());
            }
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }

    fn end_object(&mut self) {
        self.flush();
        self.tags.clear();
        (self.uuid, self.info, self.is_deleted) = (String::new(), String::new(), false);
    }
}

/// Visitor of an object of an event, which groups attributes.
struct MispObject<'o, 'e, 'r> {
    event: &'o mut EventVisitor<'e, 'r>,
    /// Index of its first attribute in `pending`.
    start: usize,
    is_deleted: bool,
}

impl ObjectVisitor for MispObject<'_, '_, '_> {
    fn visit_member<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match key {
            "Attribute" => {
                map.next_value_seed(EachElement(|text: &str| self.event.attribute(text)))?;
            }
            "deleted" => {
                self.is_deleted = map.next_value::<LenientStr<'_>>()?.to_flag() == Some(true);
            }
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }

    fn end_object(&mut self) {
        if std::mem::take(&mut self.is_deleted) {
            for entry in self.event.pending.iter_mut().skip(self.start) {
                entry.content = EntryContent::Removed(RejectReason::Withdrawn);
            }
        }
        self.start = self.event.pending.len();
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MispAttribute<'a> {
    #[serde(borrow)]
    uuid: LenientStr<'a>,
    #[serde(borrow)]
    id: LenientStr<'a>,
    #[serde(borrow, rename = "type")]
    kind: LenientStr<'a>,
    #[serde(borrow)]
    category: LenientStr<'a>,
    #[serde(borrow)]
    value: LenientStr<'a>,
    #[serde(borrow)]
    comment: LenientStr<'a>,
    #[serde(borrow)]
    to_ids: LenientStr<'a>,
    #[serde(borrow)]
    deleted: LenientStr<'a>,
    #[serde(borrow)]
    timestamp: LenientStr<'a>,
    #[serde(borrow)]
    first_seen: LenientStr<'a>,
    #[serde(borrow, rename = "Tag")]
    tags: Option<&'a RawValue>,
    #[serde(borrow)]
    decay_score: Option<&'a RawValue>,
    #[serde(borrow, rename = "Event")]
    event: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EventContext<'a> {
    #[serde(borrow)]
    uuid: LenientStr<'a>,
    #[serde(borrow)]
    info: LenientStr<'a>,
    #[serde(borrow, rename = "Tag")]
    tags: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct DecayScore<'a> {
    #[serde(borrow, default)]
    decayed: LenientStr<'a>,
}

impl MispAttribute<'_> {
    /// Converts the attribute to an entry; `None` for a type without addresses.
    fn entry(&self, position: u64, policy: &ReadPolicy) -> Option<FeedEntry> {
        let value = self.value.as_str();
        let address = match self.kind.as_str() {
            "ip-src" | "ip-dst" => value.to_owned(),
            // `address|port`; `address:port` in old versions.
            "ip-src|port" | "ip-dst|port" => match value.rsplit_once('|') {
                Some((address, port)) if address.contains(':') => format!("[{address}]:{port}"),
                Some((address, port)) => format!("{address}:{port}"),
                None => value.to_owned(),
            },
            "domain|ip" => value.rsplit_once('|').map_or(value, |(_, address)| address).to_owned(),
            _ => return None,
        };
        let event: EventContext<'_> =
            self.event.and_then(|it| serde_json::from_str(it.get()).ok()).unwrap_or_default();
        let version = lenient_time(self.timestamp.as_str());
        let content = match self.indicators(&address, version, policy) {
            Ok(indicators) => EntryContent::Indicators(
                indicators.into_iter().map(|it| event.complete(it)).collect(),
            ),
            Err(reason) => EntryContent::Removed(reason),
        };
        let id = self.unique_id();
        Some(FeedEntry { id, group: event.uuid.to_text(), version, position, content })
    }

    fn unique_id(&self) -> String {
        let names = [&self.uuid, &self.id, &self.value].map(LenientStr::as_str);
        names.into_iter().find(|it| !it.is_empty()).unwrap_or_default().to_owned()
    }

    fn indicators(
        &self,
        address: &str,
        version: Option<Timestamp>,
        policy: &ReadPolicy,
    ) -> Result<Vec<Indicator>, RejectReason> {
        if self.deleted.to_flag() == Some(true) {
            return Err(RejectReason::Withdrawn);
        }
        if self.to_ids.to_flag() == Some(false) {
            return Err(RejectReason::NotActionable);
        }
        let endpoints = usable_endpoints(address.trim(), policy)?;
        let decay: Vec<DecayScore<'_>> =
            elements(self.decay_score, |text| serde_json::from_str(text).ok());
        if !decay.is_empty() && decay.iter().all(|model| model.decayed.to_flag() == Some(true)) {
            return Err(RejectReason::Expired);
        }
        let tags = elements(self.tags, tag_name);
        // Of several, the lowest, whatever their order.
        let confidence = tags.iter().filter_map(|tag| confidence(tag)).min_by(f64::total_cmp);
        if policy.is_low(confidence) {
            return Err(RejectReason::LowConfidence);
        }
        let indicator = |endpoint: Endpoint<'_>| Indicator {
            id: self.unique_id(),
            time_generated: version.unwrap_or(policy.now),
            version,
            description: self.comment.to_text(),
            threat_type: self.category.to_text(),
            confidence,
            tlp_level: tlp(&tags),
            activity_group_names: groups(&tags),
            first_reported: lenient_time(self.first_seen.as_str()),
            ..endpoint.indicator(endpoint.port, policy)
        };
        Ok(endpoints.into_iter().map(indicator).collect())
    }
}

impl EventContext<'_> {
    /// Fills empty fields of an indicator from its event, if the response includes it.
    fn complete(&self, mut indicator: Indicator) -> Indicator {
        let tags = elements(self.tags, tag_name);
        indicator.additional_information = self.info.to_text();
        if indicator.description.is_empty() {
            indicator.description = self.info.to_text();
        }
        if indicator.tlp_level.is_empty() {
            indicator.tlp_level = tlp(&tags);
        }
        indicator
    }
}
