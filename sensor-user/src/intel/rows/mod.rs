//! Rows of `ThreatIntelligenceIndicator` as JSON lines.
//!
//! The table is append-only: an indicator has many rows, and which one decides follows the
//! original rule. A row older than the look-back is ignored. Then a row without a usable address
//! is ignored, *before* the newest row of an `IndicatorId` is chosen, so that an older good row
//! outlives a newer one that lost its address. The newest (equal times: the later in input)
//! decides whether the indicator is live: active, not deleted, not revoked, and with an expiry
//! after now. A row without `IndicatorId` has the id "", as in the rule.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, BufRead};
use std::sync::Arc;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::address::{PrefixPolicy, parse_prefix};
use super::columns::{self, Text};
use super::indicator::Indicator;
use super::list::Parsed;
use super::rejects::{Reason, Rejects};
use crate::lines::{Lines, json_fault};

/// One row; columns that are not used are skipped.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct IndicatorRow<'a> {
    #[serde(borrow)]
    indicator_id: Text<'a>,
    #[serde(deserialize_with = "columns::time")]
    time_generated: Option<Timestamp>,
    #[serde(deserialize_with = "columns::time")]
    expiration_date_time: Option<Timestamp>,
    #[serde(alias = "IsActive", deserialize_with = "columns::flag")]
    active: Option<bool>,
    #[serde(alias = "Deleted", deserialize_with = "columns::flag")]
    is_deleted: Option<bool>,
    #[serde(alias = "IsRevoked", deserialize_with = "columns::flag")]
    revoked: Option<bool>,
    #[serde(borrow)]
    description: Text<'a>,
    #[serde(borrow)]
    activity_group_names: Text<'a>,
    #[serde(borrow)]
    threat_type: Text<'a>,
    #[serde(borrow)]
    url: Text<'a>,
    #[serde(deserialize_with = "columns::number")]
    confidence_score: Option<f64>,
    #[serde(deserialize_with = "columns::integer")]
    threat_severity: Option<u8>,
    #[serde(borrow)]
    traffic_light_protocol_level: Text<'a>,
    #[serde(borrow, rename = "NetworkIP")]
    network_ip: Text<'a>,
    #[serde(borrow, rename = "NetworkDestinationIP")]
    network_destination_ip: Text<'a>,
    #[serde(borrow, rename = "NetworkSourceIP")]
    network_source_ip: Text<'a>,
    #[serde(borrow)]
    email_source_ip_address: Text<'a>,
    #[serde(borrow)]
    additional_information: Text<'a>,
    #[serde(borrow)]
    network_cidr_block: Text<'a>,
    #[serde(borrow)]
    network_destination_cidr_block: Text<'a>,
    #[serde(borrow)]
    network_source_cidr_block: Text<'a>,
}

impl IndicatorRow<'_> {
    /// The first column that is not empty: addresses first, then networks.
    fn entity(&self) -> Option<&str> {
        [
            &self.network_ip,
            &self.network_destination_ip,
            &self.network_source_ip,
            &self.email_source_ip_address,
            &self.network_cidr_block,
            &self.network_destination_cidr_block,
            &self.network_source_cidr_block,
        ]
        .into_iter()
        .map(Text::as_str)
        .find(|text| !text.is_empty())
    }
}

/// The row that decides so far.
#[derive(Debug)]
struct Candidate {
    line: u64,
    time_generated: Timestamp,
    state: State,
    indicator: Indicator,
}

#[derive(Debug, Clone, Copy)]
struct State {
    active: bool,
    withdrawn: bool,
}

/// Reads rows of one or more files as one table.
#[derive(Debug)]
pub struct RowReader {
    feed: Arc<str>,
    policy: PrefixPolicy,
    oldest: Timestamp,
    /// One an id, in the order in which the ids came.
    candidates: Vec<Candidate>,
    /// Where in `candidates` an id is.
    places: HashMap<String, usize>,
    rejects: Rejects,
}

impl RowReader {
    /// Rows before `now - lookback` are ignored.
    pub fn new(
        feed: Arc<str>,
        policy: PrefixPolicy,
        now: Timestamp,
        lookback: SignedDuration,
    ) -> Self {
        let oldest = now.checked_sub(lookback).unwrap_or(Timestamp::MIN);
        Self {
            feed,
            policy,
            oldest,
            candidates: Vec::new(),
            places: HashMap::new(),
            rejects: Rejects::default(),
        }
    }

    /// The rows that are read from here on come from `feed`; they are rows of the same table.
    pub fn set_feed(&mut self, feed: Arc<str>) {
        self.feed = feed;
    }

    /// What was not used since the last call, so that a file's lines can be told from another's.
    pub fn take_rejects(&mut self) -> Rejects {
        std::mem::take(&mut self.rejects)
    }

    /// Reads all rows of an input.
    pub fn read(&mut self, reader: impl BufRead) -> io::Result<()> {
        let mut lines = Lines::new(reader);
        while let Some(line) = lines.next_line()? {
            let Some(bytes) = line.bytes else {
                self.rejects.add(line.number, Reason::LineTooLong, "");
                continue;
            };
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if let Err((reason, text)) = self.row(line.number, bytes) {
                self.rejects.add(line.number, reason, &text);
            }
        }
        Ok(())
    }

    fn row<'a>(&mut self, line: u64, bytes: &'a [u8]) -> Result<(), (Reason, Cow<'a, str>)> {
        let row: IndicatorRow<'_> = serde_json::from_slice(bytes).map_err(|error| {
            (Reason::Malformed(json_fault(&error)), String::from_utf8_lossy(bytes))
        })?;
        let Some(time_generated) = row.time_generated else {
            let reason = Reason::Malformed("TimeGenerated is missing".to_owned());
            return Err((reason, String::from_utf8_lossy(bytes)));
        };
        let id = row.indicator_id.as_str();
        if time_generated < self.oldest {
            return Err((Reason::TooOld, Cow::Owned(id.to_owned())));
        }
        let Some(entity) = row.entity() else {
            return Err((Reason::NoAddress, Cow::Owned(id.to_owned())));
        };
        let prefix =
            parse_prefix(entity).ok_or_else(|| (Reason::NotAnAddress, entity.to_owned().into()))?;
        if let Some(exclusion) = self.policy.exclusion(&prefix) {
            return Err((Reason::Excluded(exclusion), entity.to_owned().into()));
        }
        let candidate = Candidate {
            line,
            time_generated,
            state: State {
                active: row.active == Some(true),
                withdrawn: row.is_deleted == Some(true) || row.revoked == Some(true),
            },
            indicator: indicator(&self.feed, prefix, time_generated, &row),
        };
        self.decide(id, candidate);
        Ok(())
    }

    fn decide(&mut self, id: &str, mut candidate: Candidate) {
        let known = self.places.get(id).and_then(|place| self.candidates.get_mut(*place));
        let first = |it: &Candidate| it.indicator.first_reported;
        let oldest = known.iter().filter_map(|known| first(known)).chain(first(&candidate)).min();
        let superseded = match known {
            None => {
                self.places.insert(id.to_owned(), self.candidates.len());
                self.candidates.push(candidate);
                return;
            }
            Some(known) if candidate.time_generated >= known.time_generated => {
                candidate.indicator.first_reported = oldest;
                std::mem::replace(known, candidate).line
            }
            Some(known) => {
                known.indicator.first_reported = oldest;
                candidate.line
            }
        };
        self.rejects.add(superseded, Reason::Superseded, id);
    }

    /// The indicators that are live at `now`, in the order in which their ids first came.
    pub fn finish(mut self, now: Timestamp) -> Parsed {
        drop(self.places);
        let mut indicators = Vec::with_capacity(self.candidates.len());
        for Candidate { line, state, indicator, .. } in self.candidates {
            let reason = match indicator.expires {
                _ if !state.active => Reason::NotActive,
                _ if state.withdrawn => Reason::Withdrawn,
                None => Reason::NoExpiry,
                Some(expires) if expires <= now => Reason::Expired,
                Some(_) => {
                    indicators.push(indicator);
                    continue;
                }
            };
            self.rejects.add(line, reason, &indicator.id);
        }
        Parsed { indicators, rejects: self.rejects }
    }
}

fn indicator(
    feed: &Arc<str>,
    prefix: IpNet,
    time_generated: Timestamp,
    row: &IndicatorRow<'_>,
) -> Indicator {
    let text = |column: &Text<'_>| column.as_str().to_owned();
    Indicator {
        id: text(&row.indicator_id),
        feed: Arc::clone(feed),
        prefix,
        entity: row.entity().unwrap_or_default().to_owned(),
        expires: row.expiration_date_time,
        time_generated,
        description: text(&row.description),
        activity_group_names: text(&row.activity_group_names),
        threat_type: text(&row.threat_type),
        url: text(&row.url),
        confidence: row.confidence_score,
        threat_severity: row.threat_severity,
        tlp_level: text(&row.traffic_light_protocol_level),
        network_ip: text(&row.network_ip),
        network_destination_ip: text(&row.network_destination_ip),
        network_source_ip: text(&row.network_source_ip),
        email_source_ip_address: text(&row.email_source_ip_address),
        additional_information: text(&row.additional_information),
        first_reported: Some(time_generated),
        version: Some(time_generated),
        ..Indicator::blank(prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-24T12:00:00Z";

    fn parse(text: &str) -> Parsed {
        let now = NOW.parse().unwrap();
        let lookback = SignedDuration::from_hours(24 * 14);
        let mut reader = RowReader::new("ti".into(), PrefixPolicy::default(), now, lookback);
        reader.read(text.as_bytes()).unwrap();
        reader.finish(now)
    }

    #[test]
    fn every_row_that_is_not_used_has_a_reason_and_a_line() {
        let row = |id: &str, rest: &str| {
            format!(
                "{{\"IndicatorId\":\"{id}\",\"TimeGenerated\":\"2026-11-24T00:00:00Z\",\
                 \"ExpirationDateTime\":\"2026-12-24T00:00:00Z\",\"Active\":true{rest}}}\n"
            )
        };
        let text = [
            row("good", ",\"NetworkIP\":\"203.0.113.7\""),
            "not json\n".to_owned(),
            row("none", ""),
            row("bad", ",\"NetworkIP\":\"host.example\""),
            row("private", ",\"NetworkIP\":\"10.0.0.1\""),
            row("gone", ",\"NetworkIP\":\"203.0.113.8\",\"Revoked\":\"True\""),
            row("wide", ",\"NetworkCidrBlock\":\"0.0.0.0/1\""),
            row("net", ",\"NetworkIP\":null,\"NetworkCidrBlock\":\"198.51.100.9/24\""),
            "\n".to_owned(),
            row("late", ",\"NetworkIP\":\"203.0.113.9\"").replace("-24T00", "-01T00"),
            row("type", ",\"NetworkIP\":7"),
        ];
        let parsed = parse(&text.concat());
        let ids: Vec<&str> = parsed.indicators.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, ["good", "net"]);
        assert_eq!(parsed.indicators[1].prefix, "198.51.100.0/24".parse().unwrap());
        let reasons: Vec<(u64, &str)> =
            parsed.rejects.kept().iter().map(|it| (it.place, it.reason.name())).collect();
        assert_eq!(
            reasons,
            [
                (2, "malformed"),
                (3, "no address"),
                (4, "not an address"),
                (5, "private or special range"),
                (7, "prefix too short"),
                (10, "older than the look-back"),
                (11, "malformed"),
                (6, "deleted or revoked"),
            ]
        );
    }

    #[test]
    fn an_indicator_is_first_reported_by_its_oldest_row() {
        let row = |day: u32| {
            format!(
                "{{\"IndicatorId\":\"a\",\"TimeGenerated\":\"2026-11-{day}T00:00:00Z\",\"Active\":\
                 true,\"ExpirationDateTime\":\"2026-12-24T00:00:00Z\",\"NetworkIP\":\
                 \"203.0.113.7\",\"AdditionalInformation\":\"of {day}\"}}\n"
            )
        };
        for days in [[20, 18, 22], [18, 22, 20], [22, 20, 18]] {
            let parsed = parse(&days.map(row).concat());
            let [indicator] = parsed.indicators.as_slice() else { panic!("{parsed:?}") };
            assert_eq!(indicator.first_reported, "2026-11-18T00:00:00Z".parse().ok());
            assert_eq!(indicator.additional_information, "of 22");
        }
    }

    #[test]
    fn flags_and_numbers_may_be_text() {
        let parsed = parse(
            "{\"IndicatorId\":\"a\",\"TimeGenerated\":\"2026-11-24 00:00:00.1234567\",\
             \"ExpirationDateTime\":\"2026-12-24T00:00:00+02:00\",\"IsActive\":\"True\",\
             \"NetworkIP\":\"203.0.113.7\",\"ConfidenceScore\":\"85\",\"ThreatSeverity\":\"4\"}",
        );
        let [indicator] = parsed.indicators.as_slice() else { panic!("{parsed:?}") };
        assert_eq!((indicator.confidence, indicator.threat_severity), (Some(85.0), Some(4)));
        assert_eq!(indicator.expires, "2026-12-23T22:00:00Z".parse().ok());
    }
}
