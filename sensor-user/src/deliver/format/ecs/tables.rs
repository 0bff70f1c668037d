//! The tables beside `VMConnection`, and notices.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::super::facts::protocol_number;
use super::{base, event, set};
use crate::schema::BoundPortRow;
use crate::schema::ComputerRow;
use crate::schema::ProcessRow;
use crate::schema::agent_event::AgentEvent;

pub(super) fn of_bound_port(row: &BoundPortRow) -> Value {
    let mut document = base(row.time_generated, &row.computer, &row.agent_id);
    set(&mut document, "event", event(&row.id(), "bound_port", &["host"], &["info"]));
    let address = row.ip.parse::<IpAddr>().ok();
    set(
        &mut document,
        "server",
        json!({ "ip": address, "port": row.port, "bytes": row.bytes_sent }),
    );
    set(&mut document, "client", json!({ "bytes": row.bytes_received }));
    set(
        &mut document,
        "network",
        json!({
            "transport": row.protocol,
            "iana_number": protocol_number(&row.protocol).map(|number| number.to_string()),
            "bytes": row.bytes_sent.saturating_add(row.bytes_received),
        }),
    );
    set(&mut document, "process", json!({ "entity_id": row.process, "name": row.process_name }));
    set(&mut document, "container", json!({ "id": row.container_id }));
    set(
        &mut document,
        "netsensor",
        json!({
            "machine": row.machine,
            "port_id": row.port_id,
            "is_wildcard_bind": row.is_wildcard_bind,
            "network_namespace": row.network_namespace,
            "links": {
                "established": row.links_established,
                "terminated": row.links_terminated,
                "live": row.links_live,
            },
            "responses": row.responses,
        }),
    );
    document
}

pub(super) fn of_process(row: &ProcessRow) -> Value {
    let mut document = base(row.time_generated, &row.computer, &row.agent_id);
    set(&mut document, "event", event(&row.id(), "process", &["process"], &["info"]));
    set(
        &mut document,
        "process",
        json!({
            "entity_id": row.process,
            "pid": row.first_pid,
            "name": row.executable_name,
            "executable": row.executable_path,
            "command_line": row.command_line,
            "working_directory": row.working_directory,
            "start": row.start_time,
        }),
    );
    set(&mut document, "user", json!({ "name": row.user_name }));
    set(&mut document, "container", json!({ "id": row.container_id }));
    set(&mut document, "netsensor", json!({ "machine": row.machine, "role": row.role }));
    document
}

pub(super) fn of_computer(row: &ComputerRow) -> Value {
    let mut document = base(row.time_generated, &row.computer, &row.agent_id);
    set(&mut document, "event", event(&row.id(), "computer", &["host"], &["info"]));
    if let Some(host) = document.get_mut("host") {
        let addresses = row.ipv4_addresses.iter().chain(&row.ipv6_addresses);
        let addresses: Vec<IpAddr> = addresses.filter_map(|text| text.parse().ok()).collect();
        // The schema writes hardware addresses with dashes, in capitals (RFC 7042).
        let hardware = row.mac_addresses.iter();
        let hardware: Vec<_> =
            hardware.map(|text| text.to_ascii_uppercase().replace(':', "-")).collect();
        set(host, "ip", json!(addresses));
        set(host, "mac", json!(hardware));
        set(
            host,
            "os",
            json!({
                "type": row.operating_system_family,
                "full": row.operating_system_full_name,
            }),
        );
    }
    let azure = &row.azure;
    let provider = (!azure.azure_vm_id.is_empty()).then_some("azure");
    set(
        &mut document,
        "cloud",
        json!({
            "provider": provider,
            "account": { "id": azure.azure_subscription_id },
            "region": azure.azure_location,
            "instance": { "id": azure.azure_vm_id, "name": azure.azure_resource_name },
            "machine": { "type": azure.azure_size },
        }),
    );
    set(
        &mut document,
        "netsensor",
        json!({
            "machine": row.machine,
            "boot_time": row.boot_time,
            "cpus": row.cpus,
            "physical_memory_mb": row.physical_memory_mb,
            "virtualization_state": row.virtualization_state,
            "resource_id": row.resource_id,
        }),
    );
    document
}

pub(super) fn of_notice(notice: &AgentEvent) -> Value {
    let id = notice.id();
    let (mut document, message) = match notice {
        AgentEvent::Loss(loss) => {
            let mut document = base(loss.time_generated, &loss.computer, &loss.agent_id);
            set(&mut document, "event", event(&id, "loss", &[], &["error"]));
            if let Some(event) = document.get_mut("event") {
                set(event, "start", json!(loss.first_seen));
                set(event, "end", json!(loss.last_seen));
                set(event, "reason", json!(loss.reason));
            }
            let lost = json!({ "kind": loss.kind, "count": loss.count });
            set(&mut document, "netsensor", json!({ "loss": lost }));
            (document, format!("lost {} {}: {}", loss.count, loss.kind, loss.reason))
        }
        AgentEvent::Health(change) => {
            let mut document = base(change.time_generated, &change.computer, &change.agent_id);
            set(&mut document, "event", event(&id, "health", &[], &["change"]));
            if let Some(event) = document.get_mut("event") {
                set(event, "reason", json!(change.reason));
            }
            let health = json!({
                "component": change.component,
                "state": change.state,
                "agent_state": change.agent_state,
            });
            set(&mut document, "netsensor", json!({ "health": health }));
            (document, format!("{} is {}", change.component, change.state))
        }
    };
    set(&mut document, "message", json!(message));
    document
}
