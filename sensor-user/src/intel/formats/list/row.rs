//! `ListRow`: columns of one entry, and the conversion of a row to an entry.

use std::borrow::Cow;

use ipnet::IpNet;

use super::format::{ListField, ListFormat};
use crate::intel::formats::addresses::parse_value;
use crate::intel::formats::columns::{is_absent, lenient_time};
use crate::intel::formats::endpoint::Endpoint;
use crate::intel::formats::entry::{EntryContent, EntrySink, FeedEntry, ReadPolicy};
use crate::intel::indicator::Indicator;
use crate::intel::rejects::RejectReason;

/// Column values of one entry, by field.
#[derive(Debug, Default, Clone)]
pub(super) struct ListRow<'a> {
    values: [Cow<'a, str>; ListField::COUNT],
    /// Further addresses, of a value that is an array.
    more: Vec<Cow<'a, str>>,
}

impl<'a> ListRow<'a> {
    /// Returns the value of a field; "" if it is absent, or a word for an absent value.
    pub(super) fn get(&self, field: ListField) -> &str {
        let text = self.values.get(field as usize).map_or("", |value| value.trim());
        if is_absent(text) { "" } else { text }
    }

    /// Sets the value of a field.
    pub(super) fn set(&mut self, field: ListField, value: Cow<'a, str>) {
        if let Some(slot) = self.values.get_mut(field as usize) {
            *slot = value;
        }
    }

    /// Sets the addresses.
    pub(super) fn set_addresses(&mut self, addresses: Vec<Cow<'a, str>>) {
        let mut addresses = addresses.into_iter();
        self.set(ListField::Address, addresses.next().unwrap_or_default());
        self.more = addresses.collect();
    }

    /// Fills empty fields from `outer`, the enclosing objects.
    pub(super) fn fill_from(&mut self, outer: &Self) {
        for (value, outer) in self.values.iter_mut().zip(&outer.values) {
            if value.trim().is_empty() {
                value.clone_from(outer);
            }
        }
    }

    fn addresses(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.get(ListField::Address)).chain(self.more.iter().map(|it| it.trim()))
    }
}

/// Conversion of rows to entries by a format and a policy.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowConverter<'p> {
    pub(super) format: &'p ListFormat,
    pub(super) policy: &'p ReadPolicy,
}

/// A network of a row, and its port.
type RowEndpoint<'a> = (Endpoint<'a>, Option<u16>);

/// Why a row, or one of its addresses, is not used, and the invalid text.
type RowReject = (RejectReason, String);

impl RowConverter<'_> {
    /// Passes the entries of a row, or its rejects, to `entries`: one entry per address, or one for all
    /// if the row has an id.
    pub(super) fn push_row(&self, row: &ListRow<'_>, position: u64, entries: &mut dyn EntrySink) {
        let own_id = row.get(ListField::Id);
        let (indicators, mut rejects) = match self.properties(row, position, entries) {
            Ok(template) => self.indicators(row, template),
            Err(reject) => (Vec::new(), vec![reject]),
        };
        let mut push = |id: String, content| {
            entries.push(FeedEntry { id, group: String::new(), version: None, position, content });
        };
        if own_id.is_empty() {
            for indicator in indicators {
                push(indicator.id.clone(), EntryContent::Indicators(vec![indicator]));
            }
        } else if !indicators.is_empty() {
            push(own_id.to_owned(), EntryContent::Indicators(indicators));
        } else if let [(reason, _)] = rejects.as_slice()
            && !reason.is_malformed()
        {
            // A row without its own id must not remove another row's indicator of the same address.
            push(own_id.to_owned(), EntryContent::Removed(reason.clone()));
            rejects.clear();
        }
        for (reason, text) in rejects {
            entries.reject(position, reason, &text);
        }
    }

    /// Returns what all addresses of a row share, as an indicator without address.
    fn properties(
        &self,
        row: &ListRow<'_>,
        position: u64,
        entries: &mut dyn EntrySink,
    ) -> Result<Indicator, RowReject> {
        let address = row.get(ListField::Address);
        let failed = |reason| (reason, address.to_owned());
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
        // Without a readable expiry the entry may be over.
        let expires = match row.get(ListField::Expires) {
            "" => None,
            text => Some(lenient_time(text).ok_or_else(|| malformed(row, ListField::Expires))?),
        };
        if self.policy.is_expired(expires) {
            return Err(failed(RejectReason::Expired));
        }
        let mut unused = |field: ListField| {
            let reason = RejectReason::PropertyUnused(field.name().to_owned());
            entries.reject(position, reason, row.get(field));
        };
        let confidence = match row.get(ListField::Confidence) {
            "" => None,
            text => confidence(text).or_else(|| {
                unused(ListField::Confidence);
                None
            }),
        };
        if self.policy.is_low(confidence) {
            return Err(failed(RejectReason::LowConfidence));
        }
        let first_reported = match row.get(ListField::FirstSeen) {
            "" => None,
            text => lenient_time(text).or_else(|| {
                unused(ListField::FirstSeen);
                None
            }),
        };
        let or = |field, default: &str| match row.get(field) {
            "" => default.to_owned(),
            text => text.to_owned(),
        };
        Ok(Indicator {
            id: row.get(ListField::Id).to_owned(),
            expires,
            confidence,
            threat_type: or(ListField::ThreatType, &self.format.threat_type),
            description: or(ListField::Description, &self.format.description),
            url: self.url(row.get(ListField::Url)),
            tlp_level: row.get(ListField::Tlp).to_lowercase(),
            first_reported,
            additional_information: additional(row),
            ..Indicator::blank(IpNet::default())
        })
    }

    /// Returns an indicator for each network of each address that can be used, and the reason for each
    /// other one.
    fn indicators(
        &self,
        row: &ListRow<'_>,
        template: Indicator,
    ) -> (Vec<Indicator>, Vec<RowReject>) {
        let (mut used, mut rejects) = (Vec::new(), Vec::new());
        for text in row.addresses() {
            let endpoints = match endpoints(row, text, self.policy) {
                Ok(endpoints) => endpoints,
                Err(reject) => {
                    rejects.push(reject);
                    continue;
                }
            };
            for (endpoint, port) in endpoints {
                if let Err(reason) = self.policy.accept(endpoint.prefix) {
                    rejects.push((reason, endpoint.entity.to_owned()));
                    continue;
                }
                used.push(endpoint.indicator(port, self.policy));
            }
        }
        // Nearly all rows have one address, which takes the template itself.
        let templates = std::iter::repeat_n(template, used.len());
        let indicators = used.into_iter().zip(templates).map(|(named, template)| Indicator {
            id: if template.id.is_empty() { named.id } else { template.id },
            prefix: named.prefix,
            entity: named.entity,
            time_generated: named.time_generated,
            ports: named.ports,
            ..template
        });
        (indicators.collect(), rejects)
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

fn malformed(row: &ListRow<'_>, field: ListField) -> RowReject {
    let reason = RejectReason::Malformed(format!("no {} in it", field.name()));
    (reason, row.get(field).to_owned())
}

/// Returns the networks of one address of a row, each with its port.
fn endpoints<'a>(
    row: &ListRow<'_>,
    text: &'a str,
    policy: &ReadPolicy,
) -> Result<Vec<RowEndpoint<'a>>, RowReject> {
    let mut found = Vec::with_capacity(1);
    for address in parse_value(text).map_err(|reason| (reason, text.to_owned()))? {
        let address = match row.get(ListField::LastAddress) {
            "" => address,
            last => address.up_to(last).ok_or_else(|| malformed(row, ListField::LastAddress))?,
        };
        if let Some(reason) = address.exclusion(policy) {
            return Err((reason, text.to_owned()));
        }
        for endpoint in address.endpoints() {
            let endpoint = match row.get(ListField::PrefixLen) {
                // The networks of a range have their lengths.
                length if !length.is_empty() && !address.is_range() => endpoint
                    .with_length(length)
                    .ok_or_else(|| malformed(row, ListField::PrefixLen))?,
                _ => endpoint,
            };
            // Without its port, the address would match more than is meant.
            let port = match row.get(ListField::Port) {
                "" => endpoint.port,
                port => Some(port.parse().map_err(|_cause| malformed(row, ListField::Port))?),
            };
            found.push((endpoint, port));
        }
    }
    Ok(found)
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
