//! Sample alerts and rows that differ only in their ids.

use jiff::Timestamp;
use sensor_user::pipeline::dedup::{Alert, AlertKind, RULE_ID, RULE_NAME};
use sensor_user::pipeline::matcher::Via;
use sensor_user::schema::{ConnectionRow, TableRow};

/// Sample alert with this `AlertId`.
pub fn sample_alert(id: &str) -> Alert {
    let time = Timestamp::UNIX_EPOCH;
    let address = || "203.0.113.7".to_owned();
    Alert {
        vm_connection_time_generated: time,
        description: String::new(),
        activity_group_names: String::new(),
        indicator_id: "example:203.0.113.7/32".to_owned(),
        threat_type: "C2".to_owned(),
        url: String::new(),
        expiration_date_time: None,
        confidence_score: Some(80.0),
        ti_ip_entity: address(),
        computer: "web01.example.net".to_owned(),
        direction: "outbound".to_owned(),
        process_name: "curl".to_owned(),
        source_ip: "10.0.0.5".to_owned(),
        destination_ip: address(),
        remote_ip: address(),
        protocol: "tcp".to_owned(),
        destination_port: Some(443),
        network_ip: address(),
        network_destination_ip: String::new(),
        network_source_ip: String::new(),
        email_source_ip_address: String::new(),
        r#type: "ThreatIntelligenceIndicator".to_owned(),
        timestamp: time,
        host_name: "web01".to_owned(),
        dns_domain: "example.net".to_owned(),
        alert_id: id.to_owned(),
        alert_kind: AlertKind::New,
        rule_id: RULE_ID.to_owned(),
        rule_name: RULE_NAME.to_owned(),
        severity: "Medium".to_owned(),
        tactics: vec!["CommandAndControl".to_owned()],
        techniques: vec!["T1071".to_owned()],
        entities: Vec::new(),
        matched_prefix: "203.0.113.7/32".to_owned(),
        feed: "example".to_owned(),
        tlp_level: String::new(),
        first_seen: time,
        last_seen: time,
        connection_count: 1,
        bytes_sent: 0,
        bytes_received: 0,
        process_id: Some(4711),
        process_path: "/usr/bin/curl".to_owned(),
        command_line: "curl https://203.0.113.7/".to_owned(),
        user_name: "root".to_owned(),
        parent_process_name: "bash".to_owned(),
        container_id: String::new(),
        source_port: Some(43210),
        attribution: "connect".to_owned(),
        via: Via::Direct,
        matched_ip: address(),
        remote_dns_questions: String::new(),
        community_id: "1:0cKznvP9e8C1RSnoacJIZIUq1vU=".to_owned(),
    }
}

/// Sample row with this `ConnectionId`.
pub fn sample_row(id: &str) -> TableRow {
    TableRow::Connection(Box::new(ConnectionRow {
        time_generated: Timestamp::UNIX_EPOCH,
        computer: "web01.example.net".to_owned(),
        process_name: "curl".to_owned(),
        connection_id: id.to_owned(),
        direction: "outbound".to_owned(),
        protocol: "tcp".to_owned(),
        source_ip: "10.0.0.5".to_owned(),
        destination_ip: "203.0.113.7".to_owned(),
        destination_port: 443,
        remote_ip: "203.0.113.7".to_owned(),
        links_established: 1,
        links_live: 1,
        r#type: ConnectionRow::TABLE.name.to_owned(),
        ..ConnectionRow::default()
    }))
}
