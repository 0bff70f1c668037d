//! The tables beside `VMConnection`, and notices.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::facts::protocol_number;
use super::{DEVICE, LISTEN, MINUTE, NOTICE, PROCESS, base, device, set};
use crate::schema::BoundPortRow;
use crate::schema::ComputerRow;
use crate::schema::ProcessRow;
use crate::schema::agent_event::AgentEvent;
use crate::schema::health::HealthState;

pub(super) fn of_bound_port(row: &BoundPortRow) -> Value {
    let mut event = base(&LISTEN, row.time_generated, 1, &row.id());
    let start = row.time_generated.as_millisecond();
    let address = row.ip.parse::<IpAddr>().ok();
    let version = address.map_or(0, |address| if address.is_ipv4() { 4 } else { 6 });
    with_profile(&mut event);
    for (key, value) in [
        ("start_time", json!(start)),
        ("end_time", json!(start.saturating_add(MINUTE))),
        ("duration", json!(MINUTE)),
        ("device", device(&row.computer, &row.machine)),
        (
            "connection_info",
            json!({
                "uid": row.port_id,
                "direction_id": 1,
                "direction": "Inbound",
                "protocol_name": row.protocol,
                "protocol_num": protocol_number(&row.protocol),
                "protocol_ver_id": version,
            }),
        ),
        ("dst_endpoint", json!({ "ip": address, "port": row.port })),
        (
            "traffic",
            json!({
                "bytes": row.bytes_sent.saturating_add(row.bytes_received),
                "bytes_out": row.bytes_received,
                "bytes_in": row.bytes_sent,
            }),
        ),
        ("actor", json!({ "process": { "uid": row.process, "name": row.process_name } })),
        (
            "unmapped",
            json!({
                "is_wildcard_bind": row.is_wildcard_bind,
                "network_namespace": row.network_namespace,
                "links_established": row.links_established,
                "links_terminated": row.links_terminated,
                "links_live": row.links_live,
                "responses": row.responses,
                "container_id": row.container_id,
            }),
        ),
    ] {
        set(&mut event, key, value);
    }
    event
}

pub(super) fn of_process(row: &ProcessRow) -> Value {
    let mut event = base(&PROCESS, row.time_generated, 1, &row.id());
    with_profile(&mut event);
    let process = json!({
        "uid": row.process,
        "pid": row.first_pid,
        "name": row.executable_name,
        "path": row.executable_path,
        "cmd_line": row.command_line,
        "working_directory": row.working_directory,
        "created_time": row.start_time.map(Timestamp::as_millisecond),
        "user": { "name": row.user_name },
    });
    for (key, value) in [
        ("device", device(&row.computer, &row.machine)),
        ("query_result_id", json!(1)),
        ("query_result", json!("Exists")),
        ("process", process),
        ("unmapped", json!({ "role": row.role, "container_id": row.container_id })),
    ] {
        set(&mut event, key, value);
    }
    event
}

pub(super) fn of_computer(row: &ComputerRow) -> Value {
    let mut event = base(&DEVICE, row.time_generated, 1, &row.id());
    let mut device = device(&row.computer, &row.machine);
    let addresses: Vec<&String> = row.ipv4_addresses.iter().chain(&row.ipv6_addresses).collect();
    let is_virtual = row.virtualization_state == "virtual";
    for (key, value) in [
        // The schema's word for a guest.
        ("type_id", json!(if is_virtual { 6 } else { 0 })),
        ("type", json!(if is_virtual { "Virtual" } else { "Unknown" })),
        ("ip", json!(addresses.first())),
        ("mac", json!(row.mac_addresses.first())),
        ("boot_time", json!(row.boot_time.map(Timestamp::as_millisecond))),
        ("region", json!(row.azure.azure_location)),
        ("instance_uid", json!(row.azure.azure_vm_id)),
        ("hypervisor", json!(row.hypervisor_type)),
        ("os", json!({ "type_id": 200, "type": "Linux", "name": row.operating_system_full_name })),
    ] {
        set(&mut device, key, value);
    }
    set(&mut event, "device", device);
    set(
        &mut event,
        "unmapped",
        json!({
            "addresses": addresses,
            "mac_addresses": row.mac_addresses,
            "dns_names": row.dns_names,
            "cpus": row.cpus,
            "physical_memory_mb": row.physical_memory_mb,
            "virtualization_state": row.virtualization_state,
            "virtual_machine_type": row.virtual_machine_type,
            "resource_id": row.resource_id,
        }),
    );
    event
}

pub(super) fn of_notice(notice: &AgentEvent) -> Value {
    // Something to look at, or that is well again.
    let severity = match notice {
        AgentEvent::Health(change) if change.state == HealthState::Ok => 1,
        AgentEvent::Loss(_) | AgentEvent::Health(_) => 2,
    };
    let mut event = base(&NOTICE, notice.time_generated(), severity, &notice.id());
    with_profile(&mut event);
    let (computer, message, unmapped) = match notice {
        AgentEvent::Loss(loss) => {
            for (key, value) in [
                ("start_time", json!(loss.first_seen.as_millisecond())),
                ("end_time", json!(loss.last_seen.as_millisecond())),
                ("count", json!(loss.count)),
            ] {
                set(&mut event, key, value);
            }
            (
                &loss.computer,
                format!("lost {} {}: {}", loss.count, loss.kind, loss.reason),
                json!({ "notice": "loss", "reason": loss.reason, "kind": loss.kind,
                        "agent_id": loss.agent_id }),
            )
        }
        AgentEvent::Health(change) => (
            &change.computer,
            format!("{} is {}", change.component, change.state),
            json!({ "notice": "health", "component": change.component, "state": change.state,
                    "reason": change.reason, "agent_state": change.agent_state,
                    "agent_id": change.agent_id }),
        ),
    };
    for (key, value) in
        [("message", json!(message)), ("device", device(computer, "")), ("unmapped", unmapped)]
    {
        set(&mut event, key, value);
    }
    event
}

/// `device` is of the profile `host` in these classes.
fn with_profile(event: &mut Value) {
    if let Some(metadata) = event.get_mut("metadata") {
        set(metadata, "profiles", json!(["host"]));
    }
}
