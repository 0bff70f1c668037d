//! `Alert`: what is posted upstream. The serde names are the columns of the original rule (25,
//! in its order) and then our own; they are a contract.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::sighting::Sighting;
use crate::pipeline::aggregate::Tally;
use crate::pipeline::matcher::{Hit, Via};

/// The rule that this product re-creates.
pub const RULE_ID: &str = "9713e3c0-1410-468d-b79e-383448434b2d";
/// Its name.
pub const RULE_NAME: &str = "TI Map IP Entity to VMConnection";

/// Why an alert was raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertKind {
    /// First hit of its key in a window.
    New,
    /// The further hits of a window that has ended.
    Summary,
    /// The connection was before the indicator.
    Retro,
}

impl AlertKind {
    /// The word of the `AlertKind` column.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Summary => "summary",
            Self::Retro => "retro",
        }
    }
}

/// An entity of an alert, as the rule's entity mappings name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "Type", rename_all = "lowercase")]
pub enum Entity {
    /// The host that alerts.
    Host {
        /// Before the first dot of `Computer`.
        #[serde(rename = "HostName")]
        host_name: String,
        /// After it.
        #[serde(rename = "DnsDomain")]
        dns_domain: String,
    },
    /// The remote address.
    Ip {
        /// Canonical text.
        #[serde(rename = "Address")]
        address: String,
    },
    /// The indicator's URL.
    Url {
        /// As given.
        #[serde(rename = "Url")]
        url: String,
    },
}

/// One alert. Absent strings are "", absent times and numbers null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Alert {
    /// Time of the latest connection.
    #[serde(rename = "VMConnection_TimeGenerated")]
    pub vm_connection_time_generated: Timestamp,
    /// The indicator's description.
    pub description: String,
    /// The indicator's activity groups.
    pub activity_group_names: String,
    /// The indicator's id.
    pub indicator_id: String,
    /// The indicator's threat type.
    pub threat_type: String,
    /// The indicator's URL.
    pub url: String,
    /// First instant at which the indicator is no longer valid.
    pub expiration_date_time: Option<Timestamp>,
    /// 0 to 100.
    pub confidence_score: Option<f64>,
    /// The indicator's address or network, as given.
    #[serde(rename = "TI_ipEntity")]
    pub ti_ip_entity: String,
    /// Full name of the host.
    pub computer: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// File name of the executable.
    pub process_name: String,
    /// The end that began.
    pub source_ip: String,
    /// The end that was called.
    pub destination_ip: String,
    /// The remote address, canonical (RFC 5952; IPv4-mapped as IPv4).
    pub remote_ip: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Port of the end that was called.
    pub destination_port: Option<u16>,
    /// The indicator's column of that name.
    #[serde(rename = "NetworkIP")]
    pub network_ip: String,
    /// The indicator's column of that name.
    #[serde(rename = "NetworkDestinationIP")]
    pub network_destination_ip: String,
    /// The indicator's column of that name.
    #[serde(rename = "NetworkSourceIP")]
    pub network_source_ip: String,
    /// The indicator's column of that name.
    pub email_source_ip_address: String,
    /// Always `ThreatIntelligenceIndicator`.
    pub r#type: String,
    /// Same as `VMConnection_TimeGenerated`.
    #[serde(rename = "timestamp")]
    pub timestamp: Timestamp,
    /// Before the first dot of `Computer`.
    pub host_name: String,
    /// After the first dot of `Computer`.
    pub dns_domain: String,

    /// Stable: the same hit gives the same id wherever and however often it is sent.
    pub alert_id: String,
    /// `new`, `summary` or `retro`.
    pub alert_kind: AlertKind,
    /// The rule's id.
    pub rule_id: String,
    /// The rule's name.
    pub rule_name: String,
    /// `Informational`, `Low`, `Medium` or `High`.
    pub severity: String,
    /// `["CommandAndControl"]`.
    pub tactics: Vec<String>,
    /// `["T1071"]`.
    pub techniques: Vec<String>,
    /// Host, IP and (where there is one) URL.
    pub entities: Vec<Entity>,
    /// The prefix that covered the address, canonical.
    pub matched_prefix: String,
    /// Name of the feed.
    pub feed: String,
    /// Traffic light level, as given.
    #[serde(rename = "TLPLevel")]
    pub tlp_level: String,
    /// First connection counted here.
    pub first_seen: Timestamp,
    /// Last connection counted here.
    pub last_seen: Timestamp,
    /// Connections counted here.
    pub connection_count: u64,
    /// Payload bytes sent by them, as far as known.
    pub bytes_sent: u64,
    /// Payload bytes received by them, as far as known.
    pub bytes_received: u64,
    /// Process id.
    pub process_id: Option<u32>,
    /// Absolute path of the executable.
    pub process_path: String,
    /// Arguments joined by spaces.
    pub command_line: String,
    /// User of the process.
    pub user_name: String,
    /// File name of the parent's executable.
    pub parent_process_name: String,
    /// Container id.
    pub container_id: String,
    /// Port of the end that began.
    pub source_port: Option<u16>,
    /// How the process is known: `connect`, `accept`, `first_io`, `listener` (a guess) or
    /// `unknown`; "" where a replayed row does not say.
    pub attribution: String,
    /// By which of the remote end's addresses the indicator covers it: `direct` (`RemoteIp`
    /// itself), `nat64` or `6to4` (the IPv4 address inside it), `conntrack` (behind a translation).
    #[serde(default)]
    pub via: Via,
    /// That address: `RemoteIp`, unless `Via` says otherwise.
    #[serde(default)]
    pub matched_ip: String,
    /// JSON array as text: names that this host asked for and that led to the remote address, the
    /// latest first; "" for none.
    #[serde(default)]
    pub remote_dns_questions: String,
}

impl Alert {
    /// The alert that `hit` raises on a connection seen as `sighting`.
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
        }
    }
}

/// The rule's severity, `Medium`, unless `ThreatSeverity` (0 to 5, 5 worst) says otherwise.
const fn severity(threat_severity: Option<u8>) -> &'static str {
    match threat_severity {
        Some(0) => "Informational",
        Some(1 | 2) => "Low",
        Some(4..) => "High",
        None | Some(3) => "Medium",
    }
}

/// The rule's entity mappings.
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

/// `HostName` and `DnsDomain` of a `Computer`: before and after its first dot.
///
/// As in the rule (KQL `split` and `array_slice`): `web01` gives (`web01`, ""), `host.` gives
/// (`host`, "").
pub fn split_computer(computer: &str) -> (&str, &str) {
    computer.split_once('.').unwrap_or((computer, ""))
}

#[cfg(test)]
impl Alert {
    /// An alert of every day.
    pub(crate) fn sample() -> Self {
        serde_json::from_str(include_str!("sample_alert.json")).unwrap()
    }
}
