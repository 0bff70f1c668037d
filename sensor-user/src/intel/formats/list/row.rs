//! `ListRow`: what the columns of one entry say, and what that makes of it.

use std::borrow::Cow;

use super::format::{ListField, ListFormat};
use crate::intel::formats::columns::lenient_time;
use crate::intel::formats::endpoint::Endpoint;
use crate::intel::formats::entry::{EntryContent, EntrySink, FeedEntry, ReadPolicy};
use crate::intel::indicator::Indicator;
use crate::intel::rejects::RejectReason;

/// Columns of one entry, by field.
#[derive(Debug, Default, Clone)]
pub(super) struct ListRow<'a> {
    values: [Cow<'a, str>; ListField::COUNT],
}

impl<'a> ListRow<'a> {
    /// What a column says; "" where it is absent, or a word that stands for it.
    pub(super) fn get(&self, field: ListField) -> &str {
        let text = self.values.get(field as usize).map_or("", |value| value.trim());
        if ["None", "null", "-", "N/A"].contains(&text) { "" } else { text }
    }

    /// Sets what a column says.
    pub(super) fn set(&mut self, field: ListField, value: Cow<'a, str>) {
        if let Some(position) = self.values.get_mut(field as usize) {
            *position = value;
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
pub(super) struct ListRules<'p> {
    pub(super) format: &'p ListFormat,
    pub(super) policy: &'p ReadPolicy,
}

impl ListRules<'_> {
    /// Gives what a row says to `entries`.
    pub(super) fn give(&self, row: &ListRow<'_>, position: u64, entries: &mut dyn EntrySink) {
        let own_id = row.get(ListField::Id);
        let outcome = self.indicator(row);
        let content = match outcome {
            Ok(indicator) => {
                let id = indicator.id.clone();
                return entries.push(FeedEntry {
                    id,
                    group: String::new(),
                    version: None,
                    position,
                    content: EntryContent::Indicators(vec![indicator]),
                });
            }
            // What has no id of its own cannot end what another row said of the same address.
            Err((reason, _)) if !own_id.is_empty() && !reason.is_malformed() => {
                EntryContent::Removed(reason)
            }
            Err((reason, text)) => return entries.reject(position, reason, &text),
        };
        let id = own_id.to_owned();
        entries.push(FeedEntry { id, group: String::new(), version: None, position, content });
    }

    fn indicator(&self, row: &ListRow<'_>) -> Result<Indicator, (RejectReason, String)> {
        let address = row.get(ListField::Address);
        let failed = |reason| (reason, address.to_owned());
        let malformed = |field: ListField| {
            let text = row.get(field);
            (RejectReason::Malformed(format!("no {} in it", field.name())), text.to_owned())
        };
        let kind = row.get(ListField::Kind);
        if !kind.is_empty() && !self.format.kinds.is_empty() {
            let is_known = |known: &String| known.eq_ignore_ascii_case(kind);
            if !self.format.kinds.iter().any(is_known) {
                return Err((RejectReason::NotAnIndicator, kind.to_owned()));
            }
        }
        if address.is_empty() {
            return Err((RejectReason::NoAddress, row.get(ListField::Id).to_owned()));
        }
        let mut endpoint = Endpoint::parse(address).map_err(failed)?;
        match row.get(ListField::PrefixLen) {
            "" => {}
            length => {
                let whole = endpoint.with_length(length);
                endpoint = whole.ok_or_else(|| malformed(ListField::PrefixLen))?;
            }
        }
        let port = match row.get(ListField::Port) {
            "" => endpoint.port,
            text => Some(text.parse().map_err(|_cause| malformed(ListField::Port))?),
        };
        if let Some(exclusion) = self.policy.prefixes.exclusion(&endpoint.prefix) {
            return Err(failed(RejectReason::Excluded(exclusion)));
        }
        let expires = match row.get(ListField::Expires) {
            "" => None,
            text => Some(lenient_time(text).ok_or_else(|| malformed(ListField::Expires))?),
        };
        if expires.is_some_and(|expires| expires <= self.policy.now) {
            return Err(failed(RejectReason::Expired));
        }
        let confidence = confidence(row.get(ListField::Confidence));
        if self.policy.is_low(confidence) {
            return Err(failed(RejectReason::LowConfidence));
        }
        let named = endpoint.indicator(port, self.policy);
        let or = |field, default: &str| match row.get(field) {
            "" => default.to_owned(),
            text => text.to_owned(),
        };
        Ok(Indicator {
            id: or(ListField::Id, &named.id),
            expires,
            confidence,
            threat_type: or(ListField::ThreatType, &self.format.threat_type),
            description: or(ListField::Description, &self.format.description),
            url: self.url(row.get(ListField::Url)),
            tlp_level: row.get(ListField::Tlp).to_lowercase(),
            first_reported: lenient_time(row.get(ListField::FirstSeen)),
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

fn additional(row: &ListRow<'_>) -> String {
    let mut parts = Vec::new();
    for (field, word) in [(ListField::Tags, "tags"), (ListField::LastSeen, "last seen")] {
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
