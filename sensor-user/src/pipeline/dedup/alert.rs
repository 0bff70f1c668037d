//! `Alert`: the output of the pipeline for the sinks. Its serde names are a contract: first the 25
//! columns of the original rule, in the order of the rule, then the columns of this agent.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::sighting::Sighting;
use crate::pipeline::aggregate::Tally;
use crate::pipeline::matcher::{Hit, Via};

/// Id of the Microsoft Sentinel rule that this agent re-creates.
pub const RULE_ID: &str = "9713e3c0-1410-468d-b79e-383448434b2d";
/// Name of that rule.
pub const RULE_NAME: &str = "TI Map IP Entity to VMConnection";

/// Reason for an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertKind {
    /// First hit of a key in a window.
    New,
    /// Further hits of a window, raised at its end.
    Summary,
    /// Connections that are older than the indicator.
    Retro,
}

impl AlertKind {
    /// Value of the `AlertKind` column.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Summary => "summary",
            Self::Retro => "retro",
        }
    }
}

/// Entity of an alert, named as in the entity mappings of the rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "Type", rename_all = "lowercase")]
pub enum Entity {
    /// Host that raised the alert.
    Host {
        /// Part of `Computer` before its first dot.
        #[serde(rename = "HostName")]
        host_name: String,
        /// Part of `Computer` after its first dot.
        #[serde(rename = "DnsDomain")]
        dns_domain: String,
    },
    /// Remote address of the connection.
    Ip {
        /// Address in canonical text form.
        #[serde(rename = "Address")]
        address: String,
    },
    /// URL of the indicator.
    Url {
        /// URL as the feed has it.
        #[serde(rename = "Url")]
        url: String,
    },
}

/// One alert. An absent string is "", an absent time or number is null.
///
/// `alert_id` is a hash of the agent, the key of the window (feed, indicator, remote address,
/// executable, container, direction), the time at which the window opened, and the kind of the
/// alert. The same input gives the same id, so a sink can drop an alert that it receives twice.
///
/// ```
/// # use std::sync::Arc;
/// # use jiff::{SignedDuration, Timestamp};
/// # use sensor_user::intel::{Indicator, parse_prefix};
/// # use sensor_user::pipeline::aggregate::{Attribution, Direction, Flow, Phase};
/// # use sensor_user::base::protocol::Protocol;
/// # use sensor_user::pipeline::dedup::{Alert, AlertKind, Dedup};
/// # use sensor_user::pipeline::matcher::{Hit, Via};
/// let opened: Timestamp = "2026-03-01T12:00:00Z".parse()?;
/// # let flow = Flow {
/// #     time: opened,
/// #     phase: Phase::Opened,
/// #     computer: "web01.example.com".into(),
/// #     direction: Direction::Outbound,
/// #     protocol: Protocol::Tcp,
/// #     local: [192, 0, 2, 1].into(),
/// #     local_port: Some(40_000),
/// #     remote: [203, 0, 113, 7].into(),
/// #     remote_port: Some(443),
/// #     process: Arc::default(),
/// #     attribution: Attribution::Connect,
/// #     connections: 1,
/// #     preexisting: false,
/// #     translated: None,
/// #     bytes_sent: 0,
/// #     bytes_received: 0,
/// # };
/// # let blank = Indicator::blank(parse_prefix("203.0.113.0/24").unwrap());
/// # let indicator = Arc::new(Indicator { id: "indicator--1".to_owned(), ..blank });
/// let hit = Hit { indicator, via: Via::Direct, address: flow.remote };
///
/// let window = SignedDuration::from_hours(1);
/// let mut dedup = Dedup::new("agent-1".to_owned(), window, 1000, Arc::default());
/// let mut alerts = Vec::new();
/// // The first hit opens a window and raises an alert; a repeat inside the window is counted.
/// dedup.admit(&hit, &flow, &mut alerts);
/// dedup.admit(&hit, &Flow { time: "2026-03-01T12:20:00Z".parse()?, ..flow }, &mut alerts);
/// // At its end the window raises a summary of the repeats.
/// dedup.expire("2026-03-01T13:00:00Z".parse()?, &mut alerts);
///
/// let [new, summary] = alerts.as_slice() else { panic!("{} alerts", alerts.len()) };
/// assert_eq!((new.alert_kind, new.connection_count), (AlertKind::New, 1));
/// assert_eq!((summary.alert_kind, summary.connection_count), (AlertKind::Summary, 1));
/// assert_ne!(new.alert_id, summary.alert_id);
///
/// let json = serde_json::to_value(new)?;
/// assert_eq!(json["VMConnection_TimeGenerated"], "2026-03-01T12:00:00Z");
/// assert_eq!(json["RemoteIp"], "203.0.113.7");
/// assert_eq!(json["MatchedPrefix"], "203.0.113.0/24");
/// assert_eq!(json["AlertKind"], "new");
/// assert_eq!(serde_json::from_value::<Alert>(json)?, *new);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Alert {
    /// Time of the latest connection of the alert.
    #[serde(rename = "VMConnection_TimeGenerated")]
    pub vm_connection_time_generated: Timestamp,
    /// Description of the indicator.
    pub description: String,
    /// Activity groups of the indicator.
    pub activity_group_names: String,
    /// Id of the indicator.
    pub indicator_id: String,
    /// Threat type of the indicator.
    pub threat_type: String,
    /// URL of the indicator.
    pub url: String,
    /// First instant at which the indicator is no longer valid.
    pub expiration_date_time: Option<Timestamp>,
    /// Confidence in the indicator, 0 to 100.
    pub confidence_score: Option<f64>,
    /// Address or network of the indicator, as the feed has it.
    #[serde(rename = "TI_ipEntity")]
    pub ti_ip_entity: String,
    /// Fully qualified name of the host.
    pub computer: String,
    /// Direction: `inbound` or `outbound`.
    pub direction: String,
    /// File name of the executable.
    pub process_name: String,
    /// Address of the end that initiated the connection.
    pub source_ip: String,
    /// Address of the end that accepted the connection.
    pub destination_ip: String,
    /// Remote address, canonical (RFC 5952; IPv4-mapped as IPv4).
    pub remote_ip: String,
    /// Transport protocol: `tcp` or `udp`.
    pub protocol: String,
    /// Port of the end that accepted the connection.
    pub destination_port: Option<u16>,
    /// Column of the same name of the indicator.
    #[serde(rename = "NetworkIP")]
    pub network_ip: String,
    /// Column of the same name of the indicator.
    #[serde(rename = "NetworkDestinationIP")]
    pub network_destination_ip: String,
    /// Column of the same name of the indicator.
    #[serde(rename = "NetworkSourceIP")]
    pub network_source_ip: String,
    /// Column of the same name of the indicator.
    pub email_source_ip_address: String,
    /// Name of the table: always `ThreatIntelligenceIndicator`.
    pub r#type: String,
    /// Same value as `VMConnection_TimeGenerated`.
    #[serde(rename = "timestamp")]
    pub timestamp: Timestamp,
    /// Part of `Computer` before its first dot.
    pub host_name: String,
    /// Part of `Computer` after its first dot.
    pub dns_domain: String,

    /// Stable id: the same hit has the same id at every sink and on every retry.
    pub alert_id: String,
    /// Reason for the alert: `new`, `summary` or `retro`.
    pub alert_kind: AlertKind,
    /// Id of the rule.
    pub rule_id: String,
    /// Name of the rule.
    pub rule_name: String,
    /// Severity: `Informational`, `Low`, `Medium` or `High`.
    pub severity: String,
    /// MITRE ATT&CK tactics: `["CommandAndControl"]`.
    pub tactics: Vec<String>,
    /// MITRE ATT&CK techniques: `["T1071"]`.
    pub techniques: Vec<String>,
    /// Entities: host, IP address, and the URL if there is one.
    pub entities: Vec<Entity>,
    /// Canonical prefix of the indicator that covers the address.
    pub matched_prefix: String,
    /// Name of the feed of the indicator.
    pub feed: String,
    /// Traffic Light Protocol level, as the feed has it.
    #[serde(rename = "TLPLevel")]
    pub tlp_level: String,
    /// Time of the first connection that the alert counts.
    pub first_seen: Timestamp,
    /// Time of the last connection that the alert counts.
    pub last_seen: Timestamp,
    /// Number of connections that the alert counts.
    pub connection_count: u64,
    /// Payload bytes sent by them, as far as known.
    pub bytes_sent: u64,
    /// Payload bytes received by them, as far as known.
    pub bytes_received: u64,
    /// Process id, if known.
    pub process_id: Option<u32>,
    /// Absolute path of the executable.
    pub process_path: String,
    /// Arguments of the process, joined by spaces.
    pub command_line: String,
    /// User name of the process.
    pub user_name: String,
    /// File name of the executable of the parent process.
    pub parent_process_name: String,
    /// Container id of the process.
    pub container_id: String,
    /// Port of the end that initiated the connection.
    pub source_port: Option<u16>,
    /// Source of the process: `connect`, `accept`, `first_io`, `listener` (a guess), `scan` or
    /// `unknown`; "" if a replayed row has no such column.
    pub attribution: String,
    /// Relation of the covered address to the remote end: `direct` (`RemoteIp` itself), `nat64` or
    /// `6to4` (the IPv4 address embedded in it), `conntrack` (the address behind NAT).
    #[serde(default)]
    pub via: Via,
    /// Covered address: `RemoteIp` if `Via` is `direct`.
    #[serde(default)]
    pub matched_ip: String,
    /// JSON array as text: names that this host queried and that resolved to the remote address,
    /// latest first; "" for none.
    #[serde(default)]
    pub remote_dns_questions: String,
    /// Community ID of the latest connection (version 1, seed 0), of the addresses and ports that its
    /// socket has; "" if a port is unknown.
    #[serde(default)]
    pub community_id: String,
}

impl Alert {
    /// Builds the alert of `hit` on the connections counted in `tally`, the latest of which is
    /// `sighting`.
    pub fn new(
        kind: AlertKind,
        alert_id: String,
        hit: &Hit,
        sighting: Sighting,
        tally: Tally,
    ) -> Self {
        let indicator = &hit.indicator;
        let (host_name, dns_domain) = split_computer(&sighting.computer);
        let (host_name, dns_domain) = (host_name.to_owned(), dns_domain.to_owned());
        let community_id = sighting.community_id();
        Self {
            vm_connection_time_generated: sighting.time,
            description: indicator.description.clone(),
            activity_group_names: indicator.activity_group_names.clone(),
            indicator_id: indicator.id.clone(),
            threat_type: indicator.threat_type.clone(),
            url: indicator.url.clone(),
            expiration_date_time: indicator.expires,
            confidence_score: indicator.confidence,
            ti_ip_entity: indicator.entity.clone(),
            direction: sighting.direction,
            process_name: sighting.process_name,
            source_ip: sighting.source_ip,
            destination_ip: sighting.destination_ip,
            protocol: sighting.protocol,
            destination_port: sighting.destination_port,
            network_ip: indicator.network_ip.clone(),
            network_destination_ip: indicator.network_destination_ip.clone(),
            network_source_ip: indicator.network_source_ip.clone(),
            email_source_ip_address: indicator.email_source_ip_address.clone(),
            r#type: "ThreatIntelligenceIndicator".to_owned(),
            timestamp: sighting.time,
            entities: entities(&host_name, &dns_domain, &sighting.remote_ip, &indicator.url),
            computer: sighting.computer,
            remote_ip: sighting.remote_ip,
            host_name,
            dns_domain,
            alert_id,
            alert_kind: kind,
            rule_id: RULE_ID.to_owned(),
            rule_name: RULE_NAME.to_owned(),
            severity: severity(indicator.threat_severity).to_owned(),
            tactics: vec!["CommandAndControl".to_owned()],
            techniques: vec!["T1071".to_owned()],
            matched_prefix: indicator.prefix.to_string(),
            feed: indicator.feed.to_string(),
            tlp_level: indicator.tlp_level.clone(),
            first_seen: tally.first_seen,
            last_seen: tally.last_seen,
            connection_count: tally.connections,
            bytes_sent: tally.bytes_sent,
            bytes_received: tally.bytes_received,
            process_id: sighting.process_id,
            process_path: sighting.process_path,
            command_line: sighting.command_line,
            user_name: sighting.user_name,
            parent_process_name: sighting.parent_process_name,
            container_id: sighting.container_id,
            source_port: sighting.source_port,
            attribution: sighting.attribution,
            via: hit.via,
            matched_ip: hit.address.to_string(),
            remote_dns_questions: sighting.remote_dns_questions,
            community_id,
        }
    }
}

/// Severity by `ThreatSeverity` (0 to 5, 5 is worst); `Medium`, the severity of the rule, without
/// one.
const fn severity(threat_severity: Option<u8>) -> &'static str {
    match threat_severity {
        Some(0) => "Informational",
        Some(1 | 2) => "Low",
        Some(4..) => "High",
        None | Some(3) => "Medium",
    }
}

fn entities(host_name: &str, dns_domain: &str, address: &str, url: &str) -> Vec<Entity> {
    let mut entities = vec![
        Entity::Host { host_name: host_name.to_owned(), dns_domain: dns_domain.to_owned() },
        Entity::Ip { address: address.to_owned() },
    ];
    if !url.is_empty() {
        entities.push(Entity::Url { url: url.to_owned() });
    }
    entities
}

/// Splits a `Computer` at its first dot into `HostName` and `DnsDomain`.
///
/// The result is that of the rule (KQL `split` and `array_slice`): `web01` gives (`web01`, ""),
/// `host.` gives (`host`, "").
pub fn split_computer(computer: &str) -> (&str, &str) {
    computer.split_once('.').unwrap_or((computer, ""))
}

#[cfg(test)]
impl Alert {
    /// Ordinary alert for tests.
    pub(crate) fn sample() -> Self {
        serde_json::from_str(include_str!("sample_alert.json")).unwrap()
    }
}
