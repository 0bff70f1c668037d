//! Facts of an alert.

use serde_json::{Value, json};

use super::FactWriter;
use super::connection::ConnectionFacts;
use super::vocabulary::{confidence, tactic, technique};
use crate::deliver::format::console_line;
use crate::pipeline::dedup::{Alert, AlertKind};

/// Values of the Traffic Light Protocol that ECS permits.
const TLP: [&str; 6] = ["WHITE", "CLEAR", "GREEN", "AMBER", "AMBER+STRICT", "RED"];

/// Writes the time from the first to the last connection.
pub(super) fn write_interval(alert: &Alert, out: &mut FactWriter<'_>) {
    let length = alert.last_seen.duration_since(alert.first_seen).as_nanos();
    facts! { out;
        out.time(alert.first_seen) => "start", "event.start",
            "start_time finding_info.first_seen_time";
        out.time(alert.last_seen) => "end", "event.end threat.enrichments.0.matched.occurred",
            "end_time finding_info.last_seen_time";
        u64::try_from(length).unwrap_or(0) => "", "event.duration", "";
    }
}

pub(super) fn write(alert: &Alert, out: &mut FactWriter<'_>) {
    let connection = ConnectionFacts::from_alert(alert);
    let is_aggregated = alert.alert_kind == AlertKind::Summary;
    facts! { out;
        if is_aggregated { "1" } else { "0" } => "type", "", "";
        alert.tactics.join(",") => "cat", "", "";
        if connection.is_inbound { "0" } else { "1" } => "deviceDirection", "", "";
    }
    connection.write(out, "evidences.0.");
    facts! { out;
        &alert.community_id => "flexString1:CommunityId", "network.community_id",
            "evidences.0.connection_info.community_uid";
    }
    facts! { out;
        alert.connection_count => "cnt",
            "netsensor.connections threat.enrichments.0.indicator.sightings", "count";
        alert.bytes_received => "in", "", "unmapped.bytes_received";
        alert.bytes_sent => "out", "", "unmapped.bytes_sent";
    }
    process(alert, &connection, out);
    indicator(alert, &connection, out);
    finding(alert, out);
    facts! { out;
        console_line(alert) => "", "message", "message";
        "threat-intelligence-match" => "", "event.action", "";
        &alert.via => "", "netsensor.via", "unmapped.via";
        &alert.attribution => "", "netsensor.attribution", "unmapped.attribution";
        &alert.matched_ip => "", "", "unmapped.matched_ip";
        true => "", "", "is_alert";
        1 => "", "", "status_id";
        "New" => "", "", "status";
        observables(alert, &connection) => "", "", "observables";
    }
}

fn process(alert: &Alert, connection: &ConnectionFacts<'_>, out: &mut FactWriter<'_>) {
    let [name, pid, user, remote_host] = if connection.is_inbound {
        ["dproc", "dpid", "duser", "shost"]
    } else {
        ["sproc", "spid", "suser", "dhost"]
    };
    // OCSF has no process without a pid here.
    let has_pid = alert.process_id.is_some();
    let at =
        |path: &str| if has_pid { format!("evidences.0.process.{path}") } else { String::new() };
    facts! { out;
        &alert.process_name => name, "process.name", &at("name");
        alert.process_id => pid, "process.pid", &at("pid");
        &alert.user_name => user, "user.name related.user.0", &at("user.name");
        connection.names.first() => remote_host, "", "";
        &alert.process_path => "filePath", "process.executable", &at("path");
        &alert.command_line => "", "process.command_line", &at("cmd_line");
        &alert.parent_process_name => "", "process.parent.name", "unmapped.parent_process_name";
        &alert.container_id => "", "container.id", "evidences.0.container.uid";
    }
}

fn indicator(alert: &Alert, connection: &ConnectionFacts<'_>, out: &mut FactWriter<'_>) {
    let score = alert.confidence_score;
    let word = match score {
        None => "Not Specified",
        Some(0.0) => "None",
        Some(score) => confidence(score).0,
    };
    let confidence_id = score.map_or(0, |score| confidence(score).1);
    let tlp = alert.tlp_level.to_ascii_uppercase();
    let known_tlp = TLP.contains(&&*tlp).then_some(&tlp);
    let expires = alert.expiration_date_time.map(|time| out.time(time));
    facts! { out;
        &alert.url => "request", "threat.enrichments.0.indicator.url.full", "osint.0.src_url";
        &alert.description => "msg", "threat.enrichments.0.indicator.description",
            "osint.0.desc finding_info.desc";
        &alert.threat_type => "reason", "netsensor.threat_type",
            "osint.0.category finding_info.types.0";
        &alert.indicator_id => "cs1:IndicatorId", "threat.enrichments.0.matched.id",
            "osint.0.external_uid";
        &alert.matched_prefix => "cs2:MatchedPrefix", "netsensor.matched_prefix",
            "osint.0.value osint.0.subnet";
        &alert.feed => "cs3:Feed", "threat.feed.name threat.enrichments.0.indicator.provider",
            "osint.0.vendor_name finding_info.data_sources.0";
        alert.alert_kind => "cs4:AlertKind", "netsensor.alert_kind", "unmapped.alert_kind";
        &alert.command_line => "cs5:CommandLine", "", "";
        &alert.container_id => "cs6:ContainerId", "", "";
        score.map(|score| score.round().to_string()) => "cn1:Confidence", "", "";
        score.map(f64::round).map(whole) => "", "", "confidence_score";
        confidence_id => "", "", "confidence_id osint.0.confidence_id";
        word => "", "threat.enrichments.0.indicator.confidence", "";
        known_tlp => "", "threat.enrichments.0.indicator.marking.tlp", "";
        tlp => "", "", "osint.0.tlp";
        1 => "", "", "osint.0.type_id";
        "IP Address" => "", "", "osint.0.type";
        &alert.ti_ip_entity => "", "threat.enrichments.0.indicator.name", "osint.0.name";
        &alert.activity_group_names => "", "netsensor.activity_groups", "osint.0.intrusion_sets.0";
        expires => "", "netsensor.indicator_expires", "osint.0.expiration_time";
    }
    connection.write_match(out, &alert.matched_prefix, &alert.matched_ip);
}

/// The rule, and the MITRE ATT&CK tactics and techniques.
fn finding(alert: &Alert, out: &mut FactWriter<'_>) {
    let (ids, names): (Vec<_>, Vec<_>) = alert.tactics.iter().map(|it| tactic(it)).unzip();
    let techniques: Vec<_> = alert.techniques.iter().map(|id| technique(id)).collect();
    let attacks = ids.iter().zip(&names).enumerate().map(|(index, (id, name))| {
        json!({
            "tactic": { "uid": id, "name": name },
            "technique": { "uid": alert.techniques.get(index), "name": techniques.get(index) },
        })
    });
    facts! { out;
        &alert.alert_id => "", "", "finding_info.uid";
        &alert.rule_id => "", "rule.id", "finding_info.analytic.uid";
        &alert.rule_name => "", "rule.name", "finding_info.analytic.name finding_info.title";
        1 => "", "", "finding_info.analytic.type_id";
        "Rule" => "", "", "finding_info.analytic.type";
        attacks.collect::<Value>() => "", "", "finding_info.attacks";
        "MITRE ATT&CK" => "", "threat.framework", "";
        ids => "", "threat.tactic.id", "";
        names => "", "threat.tactic.name", "";
        &alert.techniques => "", "threat.technique.id", "";
        techniques => "", "threat.technique.name", "";
    }
}

/// OCSF observables: the remote address, the own one, the remote name and the host.
fn observables(alert: &Alert, connection: &ConnectionFacts<'_>) -> Value {
    let mut ends =
        [("dst_endpoint", &connection.destination), ("src_endpoint", &connection.source)];
    if connection.is_inbound {
        ends.reverse();
    }
    let observable = |name: String, type_id: u8, value: Value| {
        let text = if type_id == 1 { "Hostname" } else { "IP Address" };
        json!({ "name": name, "type_id": type_id, "type": text, "value": value })
    };
    let addresses = ends.iter().filter_map(|(end, facts)| {
        Some(observable(format!("evidences[0].{end}.ip"), 2, json!(facts.ip?)))
    });
    let remote = connection.names.first();
    let [(remote_end, _), _] = ends;
    let remote = remote
        .map(|name| observable(format!("evidences[0].{remote_end}.hostname"), 1, json!(name)));
    let host = Some(&alert.computer).filter(|name| !name.is_empty());
    let host = host.map(|name| observable("device.hostname".to_owned(), 1, json!(name)));
    addresses.chain(remote).chain(host).collect()
}

/// A rounded score, 0 to 100.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float saturates, and scores are 0 to 100"
)]
const fn whole(score: f64) -> u8 {
    score as u8
}
