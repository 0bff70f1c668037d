//! Facts of the rows of each table.

use std::net::IpAddr;

use jiff::Timestamp;

use super::FactWriter;
use super::connection::ConnectionFacts;
use super::vocabulary::{confidence, ip_version, names, protocol_number};
use crate::schema::{BoundPortRow, ComputerRow, ConnectionRow, ProcessRow};

/// Length of the interval of a row, milliseconds.
const MINUTE: i64 = 60_000;

/// The minute of an activity, in OCSF.
fn minute(out: &mut FactWriter<'_>, start: Timestamp) {
    let start = start.as_millisecond();
    facts! { out;
        start => "", "", "start_time";
        start.saturating_add(MINUTE) => "", "", "end_time";
        MINUTE => "", "", "duration";
    }
}

pub(super) fn connection(row: &ConnectionRow, out: &mut FactWriter<'_>) {
    let connection = ConnectionFacts::from_row(row);
    minute(out, row.time_generated);
    connection.write(out, "");
    let coordinates = row.remote_latitude.zip(row.remote_longitude);
    let [ecs, ocsf] = if connection.is_inbound {
        ["source.geo", "src_endpoint.location"]
    } else {
        ["destination.geo", "dst_endpoint.location"]
    };
    facts! { out;
        &row.machine => "", "netsensor.machine", "device.uid";
        row.time_generated => "", "event.start", "";
        MINUTE * 1_000_000 => "", "event.duration", "";
        &row.remote_country => "", &format!("{ecs}.country_name"), &format!("{ocsf}.desc");
        coordinates.map(|it| it.0) => "", &format!("{ecs}.location.lat"), &format!("{ocsf}.lat");
        coordinates.map(|it| it.1) => "", &format!("{ecs}.location.lon"), &format!("{ocsf}.long");
        connection.bytes() => "", "", "traffic.bytes";
        connection.source.bytes_sent => "", "", "traffic.bytes_out";
        connection.destination.bytes_sent => "", "", "traffic.bytes_in";
        row.links_established.saturating_add(row.links_failed).max(1) => "", "", "count";
        &row.process => "", "process.entity_id", "actor.process.uid";
        row.process_id => "", "process.pid", "actor.process.pid";
        &row.process_name => "", "process.name", "actor.process.name";
        &row.process_path => "", "process.executable", "actor.process.path";
        &row.command_line => "", "process.command_line", "actor.process.cmd_line";
        &row.parent_process_name => "", "process.parent.name", "unmapped.parent_process_name";
        &row.user_name => "", "user.name related.user.0", "actor.process.user.name";
        &row.container_id => "", "container.id", "unmapped.container_id";
        row.links_established => "", "netsensor.links.established", "unmapped.links_established";
        row.links_terminated => "", "netsensor.links.terminated", "unmapped.links_terminated";
        row.links_failed => "", "netsensor.links.failed", "unmapped.links_failed";
        row.links_live => "", "netsensor.links.live", "unmapped.links_live";
        row.responses => "", "netsensor.responses", "unmapped.responses";
        row.response_time_min => "", "netsensor.response_time_ms.min", "unmapped.response_time_min";
        row.response_time_max => "", "netsensor.response_time_ms.max", "unmapped.response_time_max";
        row.response_time_sum => "", "netsensor.response_time_ms.sum", "unmapped.response_time_sum";
        row.rtt_min_us => "", "netsensor.rtt_us.min", "unmapped.rtt_min_us";
        row.rtt_max_us => "", "netsensor.rtt_us.max", "unmapped.rtt_max_us";
        names(&row.remote_dns_canonical_names) => "", "netsensor.canonical_names", "";
        &row.remote_dns_canonical_names => "", "", "unmapped.remote_dns_canonical_names";
        &row.malicious_ip => "", "", "unmapped.malicious_ip";
        &row.indicator_threat_type => "", "", "unmapped.indicator_threat_type";
        &row.description => "", "", "unmapped.indicator_description";
        &row.confidence => "", "", "unmapped.indicator_confidence";
        &row.tlp_level => "", "", "unmapped.tlp_level";
    }
    if !row.malicious_ip.is_empty() {
        indicator(row, &connection, out);
    }
}

/// The malicious columns of a row, in ECS.
fn indicator(row: &ConnectionRow, connection: &ConnectionFacts<'_>, out: &mut FactWriter<'_>) {
    let confidence = row.confidence.parse().ok().map(|score| confidence(score).0);
    let date = |text: &str| text.parse::<Timestamp>().ok();
    facts! { out;
        &row.description => "", "threat.enrichments.0.indicator.description", "";
        confidence => "", "threat.enrichments.0.indicator.confidence", "";
        date(&row.first_reported_date_time) => "", "threat.enrichments.0.indicator.first_seen", "";
        date(&row.last_reported_date_time) => "", "threat.enrichments.0.indicator.last_seen", "";
        &row.report_reference_link => "", "threat.enrichments.0.indicator.reference", "";
        row.time_generated => "", "threat.enrichments.0.matched.occurred", "";
    }
    connection.write_match(out, &row.malicious_ip, &row.malicious_ip);
}

pub(super) fn bound_port(row: &BoundPortRow, out: &mut FactWriter<'_>) {
    let address = row.ip.parse::<IpAddr>().ok();
    let number = protocol_number(&row.protocol);
    minute(out, row.time_generated);
    facts! { out;
        &row.machine => "", "netsensor.machine", "device.uid";
        &row.port_id => "", "netsensor.port_id", "connection_info.uid";
        1 => "", "", "connection_info.direction_id";
        "Inbound" => "", "", "connection_info.direction";
        &row.protocol => "", "network.transport", "connection_info.protocol_name";
        number => "", "", "connection_info.protocol_num";
        number.map(|it| it.to_string()) => "", "network.iana_number", "";
        address.map_or(0, ip_version) => "", "", "connection_info.protocol_ver_id";
        address => "", "server.ip", "dst_endpoint.ip";
        row.port => "", "server.port", "dst_endpoint.port";
        row.bytes_sent => "", "server.bytes", "traffic.bytes_in";
        row.bytes_received => "", "client.bytes", "traffic.bytes_out";
        row.bytes_sent.saturating_add(row.bytes_received) => "", "network.bytes", "traffic.bytes";
        &row.process => "", "process.entity_id", "actor.process.uid";
        &row.process_name => "", "process.name", "actor.process.name";
        &row.container_id => "", "container.id", "unmapped.container_id";
        row.is_wildcard_bind => "", "netsensor.is_wildcard_bind", "unmapped.is_wildcard_bind";
        row.network_namespace => "", "netsensor.network_namespace", "unmapped.network_namespace";
        row.links_established => "", "netsensor.links.established", "unmapped.links_established";
        row.links_terminated => "", "netsensor.links.terminated", "unmapped.links_terminated";
        row.links_live => "", "netsensor.links.live", "unmapped.links_live";
        row.responses => "", "netsensor.responses", "unmapped.responses";
    }
}

pub(super) fn process(row: &ProcessRow, out: &mut FactWriter<'_>) {
    facts! { out;
        &row.machine => "", "netsensor.machine", "device.uid";
        &row.process => "", "process.entity_id", "process.uid";
        row.first_pid => "", "process.pid", "process.pid";
        &row.executable_name => "", "process.name", "process.name";
        &row.executable_path => "", "process.executable", "process.path";
        &row.command_line => "", "process.command_line", "process.cmd_line";
        &row.working_directory => "", "process.working_directory", "process.working_directory";
        row.start_time.map(|time| out.time(time)) => "", "process.start", "process.created_time";
        &row.user_name => "", "user.name", "process.user.name";
        &row.container_id => "", "container.id", "unmapped.container_id";
        &row.role => "", "netsensor.role", "unmapped.role";
        1 => "", "", "query_result_id";
        "Exists" => "", "", "query_result";
    }
}

pub(super) fn computer(row: &ComputerRow, out: &mut FactWriter<'_>) {
    let texts: Vec<&String> = row.ipv4_addresses.iter().chain(&row.ipv6_addresses).collect();
    let addresses: Vec<IpAddr> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    // ECS has hardware addresses with dashes, in capitals (RFC 7042).
    let dashed = |text: &String| text.to_ascii_uppercase().replace(':', "-");
    let azure = &row.azure;
    if row.virtualization_state == "virtual" {
        facts! { out;
            6 => "", "", "device.type_id";
            "Virtual" => "", "", "device.type";
        }
    }
    facts! { out;
        &row.machine => "", "netsensor.machine", "device.uid";
        addresses => "", "host.ip", "";
        row.mac_addresses.iter().map(dashed).collect::<Vec<_>>() => "", "host.mac", "";
        &row.operating_system_family => "", "host.os.type", "";
        &row.operating_system_full_name => "", "host.os.full", "device.os.name";
        200 => "", "", "device.os.type_id";
        "Linux" => "", "", "device.os.type";
        texts.first() => "", "", "device.ip";
        row.mac_addresses.first() => "", "", "device.mac";
        row.boot_time.map(|time| out.time(time)) => "", "netsensor.boot_time", "device.boot_time";
        &row.hypervisor_type => "", "", "device.hypervisor";
        (!azure.azure_vm_id.is_empty()).then_some("azure") => "", "cloud.provider", "";
        &azure.azure_subscription_id => "", "cloud.account.id", "";
        &azure.azure_location => "", "cloud.region", "device.region";
        &azure.azure_vm_id => "", "cloud.instance.id", "device.instance_uid";
        &azure.azure_resource_name => "", "cloud.instance.name", "";
        &azure.azure_size => "", "cloud.machine.type", "";
        row.cpus => "", "netsensor.cpus", "unmapped.cpus";
        row.physical_memory_mb => "", "netsensor.physical_memory_mb", "unmapped.physical_memory_mb";
        &row.virtualization_state => "", "netsensor.virtualization_state",
            "unmapped.virtualization_state";
        &row.virtual_machine_type => "", "", "unmapped.virtual_machine_type";
        &row.resource_id => "", "netsensor.resource_id", "unmapped.resource_id";
        texts => "", "", "unmapped.addresses";
        &row.mac_addresses => "", "", "unmapped.mac_addresses";
        &row.dns_names => "", "", "unmapped.dns_names";
    }
}
