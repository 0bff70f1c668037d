//! Values of the formats: names, confidences, protocols, indicator addresses and MITRE ATT&CK.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::base::protocol::Protocol;

/// Maximum number of names of a remote address in one document.
const NAMES_MAX: usize = 64;

/// Parses the JSON array of a column of names, up to [`NAMES_MAX`].
pub(super) fn names(array: &str) -> Vec<String> {
    let all: Vec<String> = serde_json::from_str(array).unwrap_or_default();
    all.into_iter().filter(|name| !name.is_empty()).take(NAMES_MAX).collect()
}

/// Confidence of a source on the low-medium-high scale of STIX 2.1 (appendix A): `Low` up to 29,
/// `Medium` up to 69, `High`. Returns the word of ECS and the id of OCSF.
pub(super) fn confidence(score: f64) -> (&'static str, u8) {
    if score < 30.0 {
        ("Low", 1)
    } else if score < 70.0 {
        ("Medium", 2)
    } else {
        ("High", 3)
    }
}

/// IANA protocol number.
pub(super) fn protocol_number(protocol: &str) -> Option<u8> {
    Protocol::from_column(protocol).map(Protocol::number)
}

/// 4 or 6.
pub(super) const fn ip_version(address: IpAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 6 }
}

/// Id and name of a MITRE ATT&CK tactic, which the rule's column names in one word.
pub(super) fn tactic(tactic: &str) -> (Option<&'static str>, &str) {
    match tactic {
        "CommandAndControl" => (Some("TA0011"), "Command and Control"),
        other => (None, other),
    }
}

/// Name of a MITRE ATT&CK technique.
pub(super) fn technique(id: &str) -> Option<&'static str> {
    (id == "T1071").then_some("Application Layer Protocol")
}

/// ECS type of an indicator that is an address or a network.
pub(super) fn address_type(prefix: &str) -> Option<&'static str> {
    network(prefix).map(|it| if it.addr().is_ipv4() { "ipv4-addr" } else { "ipv6-addr" })
}

/// Address of a prefix that contains only one: ECS has no field for a network.
pub(super) fn single_address(prefix: &str) -> Option<IpAddr> {
    network(prefix).filter(|it| it.prefix_len() == it.max_prefix_len()).map(|it| it.addr())
}

fn network(prefix: &str) -> Option<IpNet> {
    prefix.parse().ok().or_else(|| prefix.parse::<IpAddr>().ok().map(IpNet::from))
}
