//! `Row`: what the columns of one entry say, and what that makes of it.

use std::borrow::Cow;

use super::format::{Field, ListFormat};
use crate::intel::formats::columns::loose_time;
use crate::intel::formats::endpoint::Endpoint;
use crate::intel::formats::entry::{Content, Entries, Entry, ReadPolicy};
use crate::intel::indicator::Indicator;
use crate::intel::rejects::Reason;

/// Columns of one entry, by field.
#[derive(Debug, Default, Clone)]
pub(super) struct Row<'a> {
    values: [Cow<'a, str>; Field::COUNT],
}

impl<'a> Row<'a> {
    /// What a column says; "" where it is absent, or a word that stands for it.
    pub(super) fn get(&self, field: Field) -> &str {
        let text = self.values.get(field as usize).map_or("", |value| value.trim());
        if ["None", "null", "-", "N/A"].contains(&text) { "" } else { text }
    }

    /// Sets what a column says.
    pub(super) fn set(&mut self, field: Field, value: Cow<'a, str>) {
        if let Some(place) = self.values.get_mut(field as usize) {
            *place = value;
        }
    }

    /// The row, and of `outer` what is not said here.
    pub(super) fn within(mut self, outer: &Self) -> Self {
        for (value, around) in self.values.iter_mut().zip(&outer.values) {
            if value.trim().is_empty() {
                value.clone_from(around);
            }
        }
        self
    }
}

/// What rows are judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge<'p> {
    pub(super) format: &'p ListFormat,
    pub(super) policy: &'p ReadPolicy,
}

impl Judge<'_> {
    /// Gives what a row says to `entries`.
    pub(super) fn give(&self, row: &Row<'_>, place: u64, entries: &mut dyn Entries) {
        let own_id = row.get(Field::Id);
        let outcome = self.indicator(row);
        let content = match outcome {
            Ok(indicator) => {
                let id = indicator.id.clone();
                return entries.take(Entry {
                    id,
                    group: String::new(),
                    version: None,
                    place,
                    content: Content::Indicators(vec![indicator]),
                });
            }
            // What has no id of its own cannot end what another row said of the same address.
            Err((reason, _)) if !own_id.is_empty() && !reason.is_malformed() => {
                Content::Gone(reason)
            }
            Err((reason, text)) => return entries.reject(place, reason, &text),
        };
        let id = own_id.to_owned();
        entries.take(Entry { id, group: String::new(), version: None, place, content });
    }

    fn indicator(&self, row: &Row<'_>) -> Result<Indicator, (Reason, String)> {
        let address = row.get(Field::Address);
        let failed = |reason| (reason, address.to_owned());
        let malformed = |field: Field| {
            let text = row.get(field);
            (Reason::Malformed(format!("no {} in it", field.name())), text.to_owned())
        };
        let kind = row.get(Field::Kind);
        if !kind.is_empty() && !self.format.kinds.is_empty() {
            let is_known = |known: &String| known.eq_ignore_ascii_case(kind);
            if !self.format.kinds.iter().any(is_known) {
                return Err((Reason::NotAnIndicator, kind.to_owned()));
            }
        }
        if address.is_empty() {
            return Err((Reason::NoAddress, row.get(Field::Id).to_owned()));
        }
        let mut endpoint = Endpoint::parse(address).map_err(failed)?;
        match row.get(Field::PrefixLen) {
            "" => {}
            length => {
                let whole = endpoint.with_length(length);
                endpoint = whole.ok_or_else(|| malformed(Field::PrefixLen))?;
            }
        }
        let port = match row.get(Field::Port) {
            "" => endpoint.port,
            text => Some(text.parse().map_err(|_cause| malformed(Field::Port))?),
        };
        if let Some(exclusion) = self.policy.prefixes.exclusion(&endpoint.prefix) {
            return Err(failed(Reason::Excluded(exclusion)));
        }
        let expires = match row.get(Field::Expires) {
            "" => None,
            text => Some(loose_time(text).ok_or_else(|| malformed(Field::Expires))?),
        };
        if expires.is_some_and(|expires| expires <= self.policy.now) {
            return Err(failed(Reason::Expired));
        }
        let confidence = confidence(row.get(Field::Confidence));
        if self.policy.is_low(confidence) {
            return Err(failed(Reason::LowConfidence));
        }
        let named = endpoint.indicator(port, self.policy);
        let or = |field, default: &str| match row.get(field) {
            "" => default.to_owned(),
            text => text.to_owned(),
        };
        Ok(Indicator {
            id: or(Field::Id, &named.id),
            expires,
            confidence,
            threat_type: or(Field::ThreatType, &self.format.threat_type),
            description: or(Field::Description, &self.format.description),
            url: self.url(row.get(Field::Url)),
            tlp_level: row.get(Field::Tlp).to_lowercase(),
            first_reported: loose_time(row.get(Field::FirstSeen)),
            additional_information: additional(row),
            ..named
        })
    }

    fn url(&self, text: &str) -> String {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:-_".contains(&byte);
        match self.format.url.split_once("{}") {
            Some((before, after)) if !text.is_empty() && text.bytes().all(is_plain) => {
                format!("{before}{text}{after}")
            }
            Some(_) => String::new(),
            None if text.is_empty() => self.format.url.clone(),
            None => text.to_owned(),
        }
    }
}

fn additional(row: &Row<'_>) -> String {
    let mut parts = Vec::new();
    for (field, word) in [(Field::Tags, "tags"), (Field::LastSeen, "last seen")] {
        match row.get(field) {
            "" => {}
            text => parts.push(format!("{word}: {text}")),
        }
    }
    parts.join("; ")
}

fn confidence(text: &str) -> Option<f64> {
    let value = text.trim_end_matches('%').parse::<f64>().ok()?;
    (0.0..=100.0).contains(&value).then_some(value)
}
