//! `Indicator`: one indicator of compromise with its validity, whatever feed it came from.

use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;

/// An indicator that names an address or a network.
///
/// Text fields are as given by the feed, "" where absent; they are hostile input and are escaped
/// by whoever prints them.
#[derive(Debug, Clone, PartialEq)]
pub struct Indicator {
    /// `IndicatorId` of a row; `<feed>:<prefix>` for list feeds. Unique within a feed.
    pub id: String,
    /// Name of the feed.
    pub feed: Arc<str>,
    /// The address (/32, /128) or network, canonical: host bits zero, IPv4-mapped as IPv4.
    pub prefix: IpNet,
    /// The text that named it (`TI_ipEntity`).
    pub entity: String,
    /// First instant at which it is no longer valid; `None` means never (not for legacy rows).
    pub expires: Option<Timestamp>,
    /// When the row was made (`TimeGenerated`), or the time of the pull.
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
    pub first_reported: Option<Timestamp>,
}

impl Indicator {
    /// An indicator of `prefix` of which nothing else is known: no text, no expiry.
    pub fn blank(prefix: IpNet) -> Self {
        Self {
            id: String::new(),
            feed: Arc::from(""),
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
        }
    }
}
