//! `Indicator`: one indicator of compromise with its validity, from any feed.

use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;

use serde::{Deserialize, Serialize};

use crate::base::serde_time;

thread_local! {
    /// Shared by the indicators of a thread whose feed is not set yet. (Threads that parse side by side
    /// would wait for each other at one reference count.)
    static NO_FEED: Arc<str> = Arc::from("");
}

/// An address or a network of a feed, with its metadata and validity.
///
/// Text fields are as given by the feed, "" if absent. They are hostile input: code that prints
/// them escapes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Indicator {
    /// `IndicatorId` of a row; `<feed>:<prefix>` for list feeds. Unique within a feed.
    pub id: String,
    /// Name of its feed.
    #[serde(skip, default = "no_feed")]
    pub feed: Arc<str>,
    /// The address (/32, /128) or network, canonical: host bits zero, IPv4-mapped as IPv4.
    pub prefix: IpNet,
    /// The prefix as the feed writes it (`TI_ipEntity`).
    pub entity: String,
    /// First instant at which it is not valid any more; `None` for no expiry (never for legacy
    /// rows).
    #[serde(with = "serde_time::optional")]
    pub expires: Option<Timestamp>,
    /// Creation time of the row (`TimeGenerated`), or the time of the pull.
    #[serde(with = "serde_time::required")]
    pub time_generated: Timestamp,
    /// `Description`.
    pub description: String,
    /// `ActivityGroupNames`.
    pub activity_group_names: String,
    /// `ThreatType`.
    pub threat_type: String,
    /// `Url`.
    pub url: String,
    /// `ConfidenceScore`, 0 to 100.
    pub confidence: Option<f64>,
    /// `ThreatSeverity`, 0 to 5.
    pub threat_severity: Option<u8>,
    /// `TrafficLightProtocolLevel`, as given.
    pub tlp_level: String,
    /// `NetworkIP`.
    pub network_ip: String,
    /// `NetworkDestinationIP`.
    pub network_destination_ip: String,
    /// `NetworkSourceIP`.
    pub network_source_ip: String,
    /// `EmailSourceIpAddress`.
    pub email_source_ip_address: String,
    /// `AdditionalInformation`.
    pub additional_information: String,
    /// `TimeGenerated` of its oldest row within the lookback; `None` for lists.
    #[serde(with = "serde_time::optional")]
    pub first_reported: Option<Timestamp>,
    /// Time of its last change at the source (`modified`, `timestamp`); `None` for lists.
    #[serde(with = "serde_time::optional")]
    pub version: Option<Timestamp>,
    /// First instant at which it is valid; `None` for immediately.
    #[serde(with = "serde_time::optional")]
    pub valid_from: Option<Timestamp>,
    /// Ports that a connection must also have.
    pub ports: Ports,
}

fn no_feed() -> Arc<str> {
    NO_FEED.with(Arc::clone)
}

/// Ports that qualify an address. An empty list allows every port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ports {
    /// Ports of the remote end, which has the indicator's address.
    pub remote: Vec<PortRange>,
    /// Ports of the local end.
    pub local: Vec<PortRange>,
}

/// Range of ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    /// Lowest port of the range.
    pub first: u16,
    /// Highest port of the range, not below the first.
    pub last: u16,
}

impl Ports {
    /// True if every port is allowed.
    pub const fn is_any(&self) -> bool {
        self.remote.is_empty() && self.local.is_empty()
    }

    /// True if a connection with these ports matches. An unknown port (`None`, or 0 before the
    /// kernel has chosen one) is in no range.
    pub fn allow(&self, remote: Option<u16>, local: Option<u16>) -> bool {
        let allows = |ranges: &[PortRange], port: Option<u16>| {
            let is_in = |port| ranges.iter().any(|it| it.first <= port && port <= it.last);
            ranges.is_empty() || port.is_some_and(|port| port != 0 && is_in(port))
        };
        allows(&self.remote, remote) && allows(&self.local, local)
    }
}

impl Indicator {
    /// True if a connection at `time` is a hit when it is matched at `now`. Connections from before
    /// the indicator was valid or known are hits; connections at or after its expiry are not.
    pub fn counts(&self, now: Timestamp, time: Timestamp) -> bool {
        self.valid_from.is_none_or(|from| from <= now)
            && self.expires.is_none_or(|expires| time < expires)
    }

    /// An indicator of `prefix` with all other fields empty: no text, no expiry.
    pub fn blank(prefix: IpNet) -> Self {
        Self {
            id: String::new(),
            feed: no_feed(),
            prefix,
            entity: String::new(),
            expires: None,
            time_generated: Timestamp::UNIX_EPOCH,
            description: String::new(),
            activity_group_names: String::new(),
            threat_type: String::new(),
            url: String::new(),
            confidence: None,
            threat_severity: None,
            tlp_level: String::new(),
            network_ip: String::new(),
            network_destination_ip: String::new(),
            network_source_ip: String::new(),
            email_source_ip_address: String::new(),
            additional_information: String::new(),
            first_reported: None,
            version: None,
            valid_from: None,
            ports: Ports::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_port_is_in_no_range() {
        let range = |first, last| vec![PortRange { first, last }];
        let remote = Ports { remote: range(0, 443), local: Vec::new() };
        let both = Ports { remote: range(443, 443), local: range(1, 65535) };
        for (ports, remote, local, is_match) in [
            (&Ports::default(), None, None, true),
            (&remote, Some(443), None, true),
            (&remote, Some(444), None, false),
            (&remote, None, Some(443), false),
            (&remote, Some(0), None, false),
            (&both, Some(443), Some(9), true),
            (&both, Some(443), None, false),
            (&both, Some(443), Some(0), false),
            (&both, None, Some(9), false),
        ] {
            assert_eq!(ports.allow(remote, local), is_match, "{ports:?} {remote:?} {local:?}");
        }
    }
}
