//! `ListRow`: columns of one entry, and the conversion of a row to an entry.

use std::borrow::Cow;

use super::format::{ListField, ListFormat};
use crate::intel::formats::columns::lenient_time;
use crate::intel::formats::endpoint::Endpoint;
use crate::intel::formats::entry::{EntryContent, EntrySink, FeedEntry, ReadPolicy};
use crate::intel::indicator::Indicator;
use crate::intel::rejects::RejectReason;

/// Column values of one entry, by field.
#[derive(Debug, Default, Clone)]
pub(super) struct ListRow<'a> {
    values: [Cow<'a, str>; ListField::COUNT],
}

impl<'a> ListRow<'a> {
    /// Returns the value of a field; "" if it is absent, or a word for an absent value.
    pub(super) fn get(&self, field: ListField) -> &str {
        let text = self.values.get(field as usize).map_or("", |value| value.trim());
        if ["None", "null", "-", "N/A"].contains(&text) { "" } else { text }
    }

    /// Sets the value of a field.
    pub(super) fn set(&mut self, field: ListField, value: Cow<'a, str>) {
        if let Some(slot) = self.values.get_mut(field as usize) {
            *slot = value;
        }
    }

    /// Fills empty fields from `outer`, the enclosing objects.
    pub(super) fn filled_from(mut self, outer: &Self) -> Self {
        for (value, outer) in self.values.iter_mut().zip(&outer.values) {
            if value.trim().is_empty() {
                value.clone_from(outer);
            }
        }
        self
    }
}

/// Conversion of rows to entries by a format and a policy.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowConverter<'p> {
    pub(super) format: &'p ListFormat,
    pub(super) policy: &'p ReadPolicy,
}

impl RowConverter<'_> {
    /// Passes the entry of a row, or its reject, to `entries`.
    pub(super) fn push_row(&self, row: &ListRow<'_>, position: u64, entries: &mut dyn EntrySink) {
        let own_id = row.get(ListField::Id);
        let (id, content) = match self.indicator(row) {
            Ok(indicator) => (indicator.id.clone(), EntryContent::Indicators(vec![indicator])),
            // A row without its own id must not remove another row's indicator of the same address.
            Err((reason, _)) if !own_id.is_empty() && !reason.is_malformed() => {
                (own_id.to_owned(), EntryContent::Removed(reason))
            }
            Err((reason, text)) => return entries.reject(position, reason, &text),
        };
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
        self.policy.accept(endpoint.prefix).map_err(failed)?;
        let expires = match row.get(ListField::Expires) {
            "" => None,
            text => Some(lenient_time(text).ok_or_else(|| malformed(ListField::Expires))?),
        };
        if self.policy.is_expired(expires) {
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
