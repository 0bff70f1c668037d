//! `ConnectionFacts`: the two ends of a connection, which alerts and connection rows share.

use std::net::IpAddr;

use super::FactWriter;
use super::vocabulary::{address_type, ip_version, names, protocol_number, single_address};
use crate::pipeline::dedup::Alert;
use crate::schema::ConnectionRow;

/// Facts of a connection.
pub(super) struct ConnectionFacts<'i> {
    /// `inbound` or `outbound`; may be "" in a recording.
    direction: &'i str,
    protocol: &'i str,
    /// End that initiated the connection, and end that accepted it.
    pub(super) source: Endpoint,
    pub(super) destination: Endpoint,
    /// Names that resolved to the remote address, the latest first.
    pub(super) names: Vec<String>,
    pub(super) is_inbound: bool,
}

/// One end of a connection.
pub(super) struct Endpoint {
    pub(super) ip: Option<IpAddr>,
    port: Option<u16>,
    pub(super) bytes_sent: u64,
}

impl Endpoint {
    fn new(ip: &str, port: Option<u16>, bytes_sent: u64) -> Self {
        Self { ip: ip.parse().ok(), port, bytes_sent }
    }
}

impl<'i> ConnectionFacts<'i> {
    pub(super) fn from_alert(alert: &'i Alert) -> Self {
        let source = Endpoint::new(&alert.source_ip, alert.source_port, alert.bytes_sent);
        let destination =
            Endpoint::new(&alert.destination_ip, alert.destination_port, alert.bytes_received);
        let names = names(&alert.remote_dns_questions);
        Self::new(&alert.direction, &alert.protocol, source, destination, names)
    }

    pub(super) fn from_row(row: &'i ConnectionRow) -> Self {
        // Connections of one row differ in the source port.
        let source = Endpoint::new(&row.source_ip, None, row.bytes_sent);
        let port = Some(row.destination_port);
        let destination = Endpoint::new(&row.destination_ip, port, row.bytes_received);
        let names = names(&row.remote_dns_questions);
        Self::new(&row.direction, &row.protocol, source, destination, names)
    }

    /// The byte counts of the ends are those of an outbound connection.
    fn new(
        direction: &'i str,
        protocol: &'i str,
        mut source: Endpoint,
        mut destination: Endpoint,
        names: Vec<String>,
    ) -> Self {
        let is_inbound = direction == "inbound";
        if is_inbound {
            std::mem::swap(&mut source.bytes_sent, &mut destination.bytes_sent);
        }
        Self { direction, protocol, source, destination, names, is_inbound }
    }

    /// Bytes in both directions.
    pub(super) const fn bytes(&self) -> u64 {
        self.source.bytes_sent.saturating_add(self.destination.bytes_sent)
    }

    /// Writes the connection; `prefix` precedes its OCSF paths.
    pub(super) fn write(&self, out: &mut FactWriter<'_>, prefix: &str) {
        let at = |path: &str| format!("{prefix}{path}");
        let Self { source, destination, names, is_inbound, .. } = self;
        let number = protocol_number(self.protocol);
        let version = destination.ip.or(source.ip).map(ip_version);
        let (ecs_direction, direction_id, direction) = match self.direction {
            "inbound" => ("ingress", 1, "Inbound"),
            "outbound" => ("egress", 2, "Outbound"),
            _ => ("unknown", 0, "Unknown"),
        };
        // The keys `src` and `dst` of CEF take IPv4 only.
        let is_ipv6 = |end: &Endpoint| end.ip.is_some_and(|ip| ip.is_ipv6());
        let src = if is_ipv6(source) { "c6a2:Source IPv6 Address" } else { "src" };
        let dst = if is_ipv6(destination) { "c6a3:Destination IPv6 Address" } else { "dst" };
        let source_name = names.first().filter(|_| *is_inbound);
        let destination_name = names.first().filter(|_| !is_inbound);
        let addresses: Vec<IpAddr> = source.ip.into_iter().chain(destination.ip).collect();
        facts! { out;
            self.protocol.to_ascii_uppercase() => "proto", "", "";
            self.protocol => "", "network.transport", &at("connection_info.protocol_name");
            number => "", "", &at("connection_info.protocol_num");
            number.map(|it| it.to_string()) => "", "network.iana_number", "";
            version.map(|it| format!("ipv{it}")) => "", "network.type", "";
            version.unwrap_or(0) => "", "", &at("connection_info.protocol_ver_id");
            ecs_direction => "", "network.direction", "";
            direction_id => "", "", &at("connection_info.direction_id");
            direction => "", "", &at("connection_info.direction");
            self.bytes() => "", "network.bytes", "";
            source.ip => src, "source.ip", &at("src_endpoint.ip");
            source.port => "spt", "source.port", &at("src_endpoint.port");
            source_name => "", "source.domain", &at("src_endpoint.hostname");
            source.bytes_sent => "", "source.bytes", "";
            destination.ip => dst, "destination.ip", &at("dst_endpoint.ip");
            destination.port => "dpt", "destination.port", &at("dst_endpoint.port");
            destination_name => "", "destination.domain", &at("dst_endpoint.hostname");
            destination.bytes_sent => "", "destination.bytes", "";
            addresses => "", "related.ip", "";
            names => "", "related.hosts", "";
        }
    }

    /// Writes the match of the remote address with an indicator, which only ECS has. `indicator` is
    /// an address or a prefix, `matched` the address that it matched.
    pub(super) fn write_match(&self, out: &mut FactWriter<'_>, indicator: &str, matched: &str) {
        let field = if self.is_inbound { "source.ip" } else { "destination.ip" };
        facts! { out;
            address_type(indicator) => "", "threat.enrichments.0.indicator.type", "";
            single_address(indicator) => "", "threat.enrichments.0.indicator.ip", "";
            matched => "", "threat.enrichments.0.matched.atomic", "";
            field => "", "threat.enrichments.0.matched.field", "";
            "indicator_match_rule" => "", "threat.enrichments.0.matched.type", "";
        }
    }
}
