//! `Indicator`: one indicator of compromise with its validity, whatever feed it came from.

use std::sync::{Arc, LazyLock};

use ipnet::IpNet;
use jiff::Timestamp;

use serde::{Deserialize, Serialize};

use crate::base::serde_time;

/// Shared by all that have no feed yet.
static NO_FEED: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));

/// An indicator that names an address or a network.
///
/// Text fields are as given by the feed, "" where absent; they are hostile input and are escaped
/// by whoever prints them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Indicator {
    /// `IndicatorId` of a row; `<feed>:<prefix>` for list feeds. Unique within a feed.
    pub id: String,
    /// Name of the feed.
    #[serde(skip, default = "no_feed")]
    pub feed: Arc<str>,
    /// The address (/32, /128) or network, canonical: host bits zero, IPv4-mapped as IPv4.
    pub prefix: IpNet,
    /// The text that named it (`TI_ipEntity`).
    pub entity: String,
    /// First instant at which it is no longer valid; `None` means never (not for legacy rows).
    #[serde(with = "serde_time::optional")]
    pub expires: Option<Timestamp>,
    /// When the row was made (`TimeGenerated`), or the time of the pull.
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
    /// `TimeGenerated` of its oldest row within the look-back; `None` for lists.
    #[serde(with = "serde_time::optional")]
    pub first_reported: Option<Timestamp>,
    /// Version: when it was last changed at its source (`modified`, `timestamp`); `None` for lists.
    #[serde(with = "serde_time::optional")]
    pub version: Option<Timestamp>,
    /// First instant at which it counts; `None` for at once.
    #[serde(with = "serde_time::optional")]
    pub valid_from: Option<Timestamp>,
    /// Ports that a connection must have besides.
    pub ports: Ports,
}

fn no_feed() -> Arc<str> {
    Arc::from("")
}

/// Ports as qualifiers of an address. An empty list allows every port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Of the end that the indicator names, which is the remote one.
    pub remote: Vec<PortRange>,
    /// Of the other end, which is this host's.
    pub local: Vec<PortRange>,
}

/// Ports from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    /// First.
    pub first: u16,
    /// Last; not below the first.
    pub last: u16,
}

impl Ports {
    /// Whether every port is allowed.
    pub const fn is_any(&self) -> bool {
        self.remote.is_empty() && self.local.is_empty()
    }

    /// Whether a connection with these ports is meant. One that is not known (`None`, or 0, as
    /// before the kernel has chosen one) is in no range.
    pub fn allow(&self, remote: Option<u16>, local: Option<u16>) -> bool {
        let allows = |ranges: &[PortRange], port: Option<u16>| {
            let is_in = |port| ranges.iter().any(|it| it.first <= port && port <= it.last);
            ranges.is_empty() || port.is_some_and(|port| port != 0 && is_in(port))
        };
        allows(&self.remote, remote) && allows(&self.local, local)
    }
}

impl Indicator {
    /// Whether it makes a hit, when it is asked `now`, of a connection at `time`. A connection
    /// before the indicator was valid, or known, is one; one at or after its expiry is none.
    pub fn counts(&self, now: Timestamp, time: Timestamp) -> bool {
        self.valid_from.is_none_or(|from| from <= now)
            && self.expires.is_none_or(|expires| time < expires)
    }

    /// An indicator of `prefix` of which nothing else is known: no text, no expiry.
    pub fn blank(prefix: IpNet) -> Self {
        Self {
            id: String::new(),
            feed: Arc::clone(&NO_FEED),
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
    fn a_port_that_is_not_known_is_in_no_range() {
        let range = |first, last| vec![PortRange { first, last }];
        let remote = Ports { remote: range(0, 443), local: Vec::new() };
        let both = Ports { remote: range(443, 443), local: range(1, 65535) };
        for (ports, remote, local, is_meant) in [
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
            assert_eq!(ports.allow(remote, local), is_meant, "{ports:?} {remote:?} {local:?}");
        }
    }
}
