//! MISP: replies of `restSearch`, and event files.
//!
//! An attribute is an entry, whatever event it is in. Its event may say what it is about after its
//! attributes, so those of one event wait for its end.

mod tags;
#[cfg(test)]
mod tests;

use std::io::BufRead;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};
use serde_json::value::RawValue;

use super::columns::loose_time;
use super::endpoint::Endpoint;
use super::entry::{Content, Entries, Entry, ReadFault, ReadPolicy};
use super::json::{Each, Loose, Members, Objects, document, not_a_list};
use crate::base::lines::json_fault;
use crate::intel::indicator::Indicator;
use crate::intel::rejects::Reason;
use tags::{confidence, groups, tlp};

/// Attributes that wait for the end of their event; further ones go without its title and tags.
const WAITING_MAX: usize = 100_000;
const WHAT: &str = "a reply or an event of MISP";

/// Reads attributes; gives their number, those of types without address included.
pub fn read_misp(
    input: impl BufRead,
    policy: &ReadPolicy,
    first_place: u64,
    entries: &mut dyn Entries,
) -> Result<u64, ReadFault> {
    let mut reader = Reader { policy, entries, place: first_place, is_known: false };
    let mut event = Event::new(&mut reader);
    let objects = document(input, Objects(&mut event), WHAT)?;
    let sample = std::mem::take(&mut event.sample);
    if objects > 0 && !reader.is_known {
        return Err(not_a_list(WHAT, &sample));
    }
    Ok(reader.place.saturating_sub(first_place))
}

struct Reader<'r> {
    policy: &'r ReadPolicy,
    entries: &'r mut dyn Entries,
    place: u64,
    /// Whether anything was seen that belongs to MISP.
    is_known: bool,
}

/// An object that may be an event, or the reply around events or attributes.
struct Event<'e, 'r> {
    reader: &'e mut Reader<'r>,
    uuid: String,
    info: String,
    tags: Vec<String>,
    is_deleted: bool,
    waiting: Vec<Entry>,
    /// How many of them do not say themselves which event they are of.
    orphans: usize,
    sample: String,
}

impl<'e, 'r> Event<'e, 'r> {
    fn new(reader: &'e mut Reader<'r>) -> Self {
        Self {
            reader,
            uuid: String::new(),
            info: String::new(),
            tags: Vec::new(),
            is_deleted: false,
            waiting: Vec::new(),
            orphans: 0,
            sample: String::new(),
        }
    }

    fn attribute(&mut self, text: &str) {
        self.reader.is_known = true;
        let place = self.reader.place;
        self.reader.place += 1;
        match serde_json::from_str::<Attribute<'_>>(text) {
            Ok(attribute) => match attribute.entry(place, self.reader.policy) {
                Some(entry) if entry.id.is_empty() => {
                    let reason = Reason::Malformed("an attribute without id".to_owned());
                    self.reader.entries.reject(place, reason, text);
                }
                Some(entry) => {
                    self.orphans += usize::from(entry.group.is_empty());
                    self.waiting.push(entry);
                }
                None => {}
            },
            Err(error) => {
                let reason = Reason::Malformed(json_fault(&error));
                self.reader.entries.reject(place, reason, text);
            }
        }
        if self.waiting.len() >= WAITING_MAX {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let tlp = tlp(&self.tags);
        let groups = groups(&self.tags);
        self.orphans = 0;
        for mut entry in self.waiting.drain(..) {
            if entry.group.is_empty() {
                entry.group.clone_from(&self.uuid);
            }
            if self.is_deleted {
                entry.content = Content::Gone(Reason::Withdrawn);
            }
            if let Content::Indicators(indicators) = &mut entry.content {
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
            self.reader.entries.take(entry);
        }
    }
}

impl Members for Event<'_, '_> {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "response" | "Event" => {
                self.reader.is_known = true;
                map.next_value_seed(Objects(&mut Event::new(self.reader)))?;
            }
            "Attribute" => {
                self.reader.is_known = true;
                map.next_value_seed(Each(|text: &str| self.attribute(text)))?;
                // Those of a reply name their events themselves.
                if self.orphans == 0 {
                    self.flush();
                }
            }
            "Object" => {
                let mut object =
                    Object { start: self.waiting.len(), event: self, is_deleted: false };
                map.next_value_seed(Objects(&mut object))?;
            }
            "uuid" => self.uuid = map.next_value::<Loose<'_>>()?.text(),
            "info" => self.info = map.next_value::<Loose<'_>>()?.text(),
            "deleted" => self.is_deleted = map.next_value::<Loose<'_>>()?.flag() == Some(true),
            "Tag" => {
                map.next_value_seed(Each(|text: &str| self.tags.extend(tag(text))))?;
            }
            "message" | "name" | "errors" | "error" => {
                self.sample = format!("{key}: {}", map.next_value::<Loose<'_>>()?.as_str());
            }
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }

    fn end(&mut self) {
        self.flush();
        self.tags.clear();
        (self.uuid, self.info, self.is_deleted) = (String::new(), String::new(), false);
    }
}

/// An object of an event: attributes that belong together.
struct Object<'o, 'e, 'r> {
    event: &'o mut Event<'e, 'r>,
    /// Where its attributes begin among those that wait.
    start: usize,
    is_deleted: bool,
}

impl Members for Object<'_, '_, '_> {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "Attribute" => {
                map.next_value_seed(Each(|text: &str| self.event.attribute(text)))?;
            }
            "deleted" => self.is_deleted = map.next_value::<Loose<'_>>()?.flag() == Some(true),
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.is_deleted) {
            for entry in self.event.waiting.iter_mut().skip(self.start) {
                entry.content = Content::Gone(Reason::Withdrawn);
            }
        }
        self.start = self.event.waiting.len();
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Attribute<'a> {
    #[serde(borrow)]
    uuid: Loose<'a>,
    #[serde(borrow)]
    id: Loose<'a>,
    #[serde(borrow, rename = "type")]
    kind: Loose<'a>,
    #[serde(borrow)]
    category: Loose<'a>,
    #[serde(borrow)]
    value: Loose<'a>,
    #[serde(borrow)]
    comment: Loose<'a>,
    #[serde(borrow)]
    to_ids: Loose<'a>,
    #[serde(borrow)]
    deleted: Loose<'a>,
    #[serde(borrow)]
    timestamp: Loose<'a>,
    #[serde(borrow)]
    first_seen: Loose<'a>,
    #[serde(borrow, rename = "Tag")]
    tags: Option<&'a RawValue>,
    #[serde(borrow)]
    decay_score: Option<&'a RawValue>,
    #[serde(borrow, rename = "Event")]
    event: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Around<'a> {
    #[serde(borrow)]
    uuid: Loose<'a>,
    #[serde(borrow)]
    info: Loose<'a>,
    #[serde(borrow, rename = "Tag")]
    tags: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Decay {
    #[serde(default)]
    decayed: bool,
}

impl Attribute<'_> {
    /// `None` where no address can be in it.
    fn entry(&self, place: u64, policy: &ReadPolicy) -> Option<Entry> {
        let value = self.value.as_str();
        let address = match self.kind.as_str() {
            "ip-src" | "ip-dst" => value.to_owned(),
            // `address|port`; of old versions `address:port`.
            "ip-src|port" | "ip-dst|port" => match value.rsplit_once('|') {
                Some((address, port)) if address.contains(':') => format!("[{address}]:{port}"),
                Some((address, port)) => format!("{address}:{port}"),
                None => value.to_owned(),
            },
            "domain|ip" => value.rsplit_once('|').map_or(value, |(_, address)| address).to_owned(),
            _ => return None,
        };
        let around: Around<'_> =
            self.event.and_then(|it| serde_json::from_str(it.get()).ok()).unwrap_or_default();
        let version = loose_time(self.timestamp.as_str());
        let content = match self.indicator(&address, version, policy) {
            Ok(indicator) => Content::Indicators(vec![around.complete(indicator)]),
            Err(reason) => Content::Gone(reason),
        };
        let id = self.name();
        Some(Entry { id, group: around.uuid.text(), version, place, content })
    }

    fn name(&self) -> String {
        let names = [&self.uuid, &self.id, &self.value].map(Loose::as_str);
        names.into_iter().find(|it| !it.is_empty()).unwrap_or_default().to_owned()
    }

    fn indicator(
        &self,
        address: &str,
        version: Option<Timestamp>,
        policy: &ReadPolicy,
    ) -> Result<Indicator, Reason> {
        if self.deleted.flag() == Some(true) {
            return Err(Reason::Withdrawn);
        }
        if self.to_ids.flag() == Some(false) {
            return Err(Reason::NotActionable);
        }
        let endpoint = Endpoint::parse(address.trim())?;
        if let Some(exclusion) = policy.prefixes.exclusion(&endpoint.prefix) {
            return Err(Reason::Excluded(exclusion));
        }
        let decay: Vec<Decay> = elements(self.decay_score);
        if !decay.is_empty() && decay.iter().all(|model| model.decayed) {
            return Err(Reason::Expired);
        }
        let tags = tags(self.tags);
        let confidence = tags.iter().find_map(|tag| confidence(tag));
        if policy.is_low(confidence) {
            return Err(Reason::LowConfidence);
        }
        let indicator = endpoint.indicator(endpoint.port, policy);
        Ok(Indicator {
            id: self.name(),
            time_generated: version.unwrap_or(policy.now),
            version,
            description: self.comment.text(),
            threat_type: self.category.text(),
            confidence,
            tlp_level: tlp(&tags),
            activity_group_names: groups(&tags),
            first_reported: loose_time(self.first_seen.as_str()),
            ..indicator
        })
    }
}

impl Around<'_> {
    /// An indicator with what its event says, where the reply tells that.
    fn complete(&self, mut indicator: Indicator) -> Indicator {
        let tags = tags(self.tags);
        indicator.additional_information = self.info.text();
        if indicator.description.is_empty() {
            indicator.description = self.info.text();
        }
        if indicator.tlp_level.is_empty() {
            indicator.tlp_level = tlp(&tags);
        }
        indicator
    }
}

/// The elements of an array that are as they should be.
fn elements<T: for<'a> Deserialize<'a>>(list: Option<&RawValue>) -> Vec<T> {
    let mut found = Vec::new();
    let each = Each(|text: &str| found.extend(serde_json::from_str(text).ok()));
    let Some(list) = list else { return Vec::new() };
    let walked = document(list.get().as_bytes(), each, WHAT);
    walked.map(|_is_list| found).unwrap_or_default()
}

fn tag(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Tag<'a> {
        #[serde(borrow)]
        name: Loose<'a>,
    }
    serde_json::from_str::<Tag<'_>>(text).ok().map(|tag| tag.name.text())
}

fn tags(list: Option<&RawValue>) -> Vec<String> {
    let Some(list) = list else { return Vec::new() };
    let mut found = Vec::new();
    let each = Each(|text: &str| found.extend(tag(text)));
    let walked = document(list.get().as_bytes(), each, WHAT);
    walked.map(|_is_list| found).unwrap_or_default()
}
