//! Items with a value in every field that a format uses, distinguished by their ids.

use jiff::Timestamp;
use sensor_tests::{sample_alert, sample_row};
use sensor_user::pipeline::dedup::{Alert, AlertKind};
use sensor_user::pipeline::matcher::Via;
use sensor_user::schema::BoundPortRow;
use sensor_user::schema::ProcessRow;
use sensor_user::schema::agent_event::{AgentEvent, HealthChange, Loss};
use sensor_user::schema::health::HealthState;
use sensor_user::schema::{Azure, ComputerRow};
use sensor_user::schema::{ConnectionRow, TableRow};

pub(crate) const AGENT: &str = "5f0c2b9e-0000-4000-8000-000000000001";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// An outbound alert over IPv4, an inbound summary over IPv6, a retro alert over UDP, and a nearly
/// empty alert.
pub(crate) fn alerts() -> Vec<Alert> {
    let at = time("2026-11-24T10:00:00.123456Z");
    let new = Alert {
        vm_connection_time_generated: at,
        timestamp: at,
        description: "beacon | of = \"x\"\nsecond line".to_owned(),
        activity_group_names: "Group 1".to_owned(),
        url: "https://c2.example/a?b=c".to_owned(),
        tlp_level: "Amber".to_owned(),
        expiration_date_time: Some(time("2026-12-24T00:00:00Z")),
        first_seen: time("2026-11-24T09:59:59Z"),
        last_seen: at,
        bytes_sent: 10,
        bytes_received: 20,
        container_id: "0123456789ab".to_owned(),
        remote_dns_questions: "[\"c2.example\",\"www.c2.example\"]".to_owned(),
        ..sample_alert("alert-new")
    };
    let summary = Alert {
        alert_kind: AlertKind::Summary,
        direction: "inbound".to_owned(),
        source_ip: "2001:db8::7".to_owned(),
        destination_ip: "2001:db8::5".to_owned(),
        remote_ip: "2001:db8::7".to_owned(),
        matched_ip: "2001:db8::7".to_owned(),
        matched_prefix: "2001:db8::/32".to_owned(),
        ti_ip_entity: "2001:db8::/32".to_owned(),
        severity: "High".to_owned(),
        connection_count: 12,
        community_id: "1:gf0R1rcJUS0oUaQiEjVn9w3YR4c=".to_owned(),
        ..Alert { alert_id: "alert-summary".to_owned(), ..new.clone() }
    };
    let retro = Alert {
        alert_kind: AlertKind::Retro,
        protocol: "udp".to_owned(),
        community_id: "1:gm+/EsueKVtWzCVmSbX9hqbYi54=".to_owned(),
        via: Via::Nat64,
        severity: "Low".to_owned(),
        confidence_score: Some(10.0),
        ..Alert { alert_id: "alert-retro".to_owned(), ..new.clone() }
    };
    let mut bare = sample_alert("alert-bare");
    bare.severity = "Informational".into();
    bare.confidence_score = None;
    bare.process_id = None;
    bare.source_port = None;
    for text in [
        &mut bare.process_name,
        &mut bare.process_path,
        &mut bare.command_line,
        &mut bare.user_name,
        &mut bare.parent_process_name,
        &mut bare.threat_type,
        &mut bare.community_id,
    ] {
        text.clear();
    }
    vec![new, summary, retro, bare]
}

/// A row of each table, and a connection row with its mandatory columns only.
pub(crate) fn rows() -> Vec<TableRow> {
    let at = time("2026-11-24T10:01:00Z");
    let TableRow::Connection(bare) = sample_row("row-bare") else { panic!("a connection") };
    let full = ConnectionRow {
        time_generated: at,
        agent_id: AGENT.to_owned(),
        machine: format!("m-{AGENT}"),
        process: "p-1".to_owned(),
        connection_id: "row-full".to_owned(),
        links_terminated: 2,
        links_failed: 3,
        bytes_sent: 1000,
        bytes_received: 2000,
        responses: Some(4),
        response_time_min: Some(1),
        response_time_max: Some(9),
        response_time_sum: Some(20),
        remote_dns_questions: "[\"c2.example\"]".to_owned(),
        remote_dns_canonical_names: "[\"edge.example\"]".to_owned(),
        remote_country: "Norway".to_owned(),
        remote_latitude: Some(59.9),
        remote_longitude: Some(10.7),
        malicious_ip: "203.0.113.7".to_owned(),
        indicator_threat_type: "C2".to_owned(),
        description: "beacon".to_owned(),
        confidence: "80".to_owned(),
        first_reported_date_time: "2026-11-01T00:00:00Z".to_owned(),
        process_id: Some(4711),
        process_path: "/usr/bin/curl".to_owned(),
        command_line: "curl https://c2.example/".to_owned(),
        user_name: "root".to_owned(),
        parent_process_name: "bash".to_owned(),
        container_id: "0123456789ab".to_owned(),
        rtt_min_us: Some(100),
        rtt_max_us: Some(300),
        ..(*bare).clone()
    };
    vec![
        TableRow::Connection(bare),
        TableRow::Connection(Box::new(full)),
        TableRow::BoundPort(Box::new(bound_port(at))),
        TableRow::Process(Box::new(process(at))),
        TableRow::Computer(Box::new(computer(at))),
    ]
}

fn bound_port(at: Timestamp) -> BoundPortRow {
    BoundPortRow {
        time_generated: at,
        computer: "web01.example.net".to_owned(),
        agent_id: AGENT.to_owned(),
        machine: format!("m-{AGENT}"),
        process: "p-2".to_owned(),
        process_name: "nginx".to_owned(),
        ip: "0.0.0.0".to_owned(),
        port: 443,
        protocol: "tcp".to_owned(),
        port_id: "b-1".to_owned(),
        is_wildcard_bind: Some(true),
        bytes_sent: 5,
        bytes_received: 6,
        ..BoundPortRow::default()
    }
}

fn process(at: Timestamp) -> ProcessRow {
    ProcessRow {
        time_generated: at,
        computer: "web01.example.net".to_owned(),
        agent_id: AGENT.to_owned(),
        machine: format!("m-{AGENT}"),
        process: "p-2".to_owned(),
        executable_name: "nginx".to_owned(),
        executable_path: "/usr/sbin/nginx".to_owned(),
        command_line: "nginx -g daemon".to_owned(),
        working_directory: "/".to_owned(),
        role: "WebServer".to_owned(),
        start_time: Some(at),
        first_pid: Some(80),
        user_name: "www-data".to_owned(),
        container_id: "0123456789ab".to_owned(),
        ..ProcessRow::default()
    }
}

fn computer(at: Timestamp) -> ComputerRow {
    let azure = Azure {
        azure_vm_id: "vm-1".into(),
        azure_location: "westeurope".into(),
        azure_subscription_id: "sub-1".into(),
        azure_size: "Standard_D4s_v5".into(),
        ..Azure::default()
    };
    ComputerRow {
        time_generated: at,
        computer: "web01.example.net".to_owned(),
        agent_id: AGENT.to_owned(),
        machine: format!("m-{AGENT}"),
        boot_time: Some(at),
        operating_system_family: "linux".to_owned(),
        operating_system_full_name: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        cpus: Some(2),
        physical_memory_mb: Some(4096),
        ipv4_addresses: vec!["10.0.0.5".to_owned()],
        ipv6_addresses: vec!["2001:db8::5".to_owned()],
        mac_addresses: vec!["00:0d:3a:12:34:56".to_owned()],
        virtualization_state: "virtual".to_owned(),
        azure,
        ..ComputerRow::default()
    }
}

pub(crate) fn events() -> Vec<AgentEvent> {
    let at = time("2026-11-24T10:02:00Z");
    let (computer, agent_id) = ("web01.example.net".to_owned(), AGENT.to_owned());
    let health = |state, reason: &str| {
        AgentEvent::Health(HealthChange {
            time_generated: at,
            computer: computer.clone(),
            agent_id: agent_id.clone(),
            component: "feed siem".to_owned(),
            state,
            reason: reason.to_owned(),
            agent_state: state,
        })
    };
    let loss = Loss {
        time_generated: at,
        computer: computer.clone(),
        agent_id: agent_id.clone(),
        first_seen: at,
        last_seen: at,
        reason: "ring_full".to_owned(),
        kind: "tcp".to_owned(),
        count: 7,
    };
    vec![
        AgentEvent::Loss(loss),
        health(HealthState::Degraded, "no answer"),
        health(HealthState::Ok, ""),
    ]
}

/// The number of items.
pub(crate) fn total() -> usize {
    alerts().len() + rows().len() + events().len()
}
