//! `PackedIndicator`: compact form of an indicator, for the time that its table is read.

use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::intel::indicator::{Indicator, Ports};

const TEXTS: usize = 12;

/// An [`Indicator`] without its feed, with its texts in one allocation.
#[derive(Debug)]
pub(super) struct PackedIndicator {
    text: Box<str>,
    /// End of each text in `text`.
    ends: [u32; TEXTS],
    prefix: IpNet,
    expires: Option<Timestamp>,
    time_generated: Timestamp,
    first_reported: Option<Timestamp>,
    valid_from: Option<Timestamp>,
    confidence: Option<f64>,
    threat_severity: Option<u8>,
    ports: Option<Box<Ports>>,
}

impl PackedIndicator {
    pub(super) fn new(indicator: &Indicator) -> Self {
        let texts = [
            &indicator.id,
            &indicator.entity,
            &indicator.description,
            &indicator.activity_group_names,
            &indicator.threat_type,
            &indicator.url,
            &indicator.tlp_level,
            &indicator.network_ip,
            &indicator.network_destination_ip,
            &indicator.network_source_ip,
            &indicator.email_source_ip_address,
            &indicator.additional_information,
        ];
        let mut text = String::with_capacity(texts.iter().map(|it| it.len()).sum());
        // A line is far shorter than 4 GiB, and so are its texts together.
        let ends = texts.map(|it| {
            text.push_str(it);
            u32::try_from(text.len()).unwrap_or(u32::MAX)
        });
        Self {
            text: text.into_boxed_str(),
            ends,
            prefix: indicator.prefix,
            expires: indicator.expires,
            time_generated: indicator.time_generated,
            first_reported: indicator.first_reported,
            valid_from: indicator.valid_from,
            confidence: indicator.confidence,
            threat_severity: indicator.threat_severity,
            ports: (!indicator.ports.is_any()).then(|| Box::new(indicator.ports.clone())),
        }
    }

    pub(super) fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    pub(super) fn confidence(&self) -> Option<f64> {
        self.confidence
    }

    pub(super) fn first_reported(&self) -> Option<Timestamp> {
        self.first_reported
    }

    pub(super) fn set_first_reported(&mut self, time: Option<Timestamp>) {
        self.first_reported = time;
    }

    pub(super) fn id(&self) -> &str {
        let end = self.ends.first().map_or(0, |end| *end as usize);
        self.text.get(..end).unwrap_or_default()
    }

    pub(super) fn unpack(self, feed: &Arc<str>) -> Indicator {
        let mut start = 0;
        let mut next = self.ends.into_iter().map(|end| {
            let text = self.text.get(start..end as usize).unwrap_or_default();
            start = end as usize;
            text.to_owned()
        });
        let mut text = || next.next().unwrap_or_default();
        Indicator {
            id: text(),
            entity: text(),
            description: text(),
            activity_group_names: text(),
            threat_type: text(),
            url: text(),
            tlp_level: text(),
            network_ip: text(),
            network_destination_ip: text(),
            network_source_ip: text(),
            email_source_ip_address: text(),
            additional_information: text(),
            feed: Arc::clone(feed),
            prefix: self.prefix,
            expires: self.expires,
            time_generated: self.time_generated,
            first_reported: self.first_reported,
            version: Some(self.time_generated),
            valid_from: self.valid_from,
            confidence: self.confidence,
            threat_severity: self.threat_severity,
            ports: self.ports.map(|ports| *ports).unwrap_or_default(),
        }
    }
}
