//! The line of the console sink: an alert for human readers.

use std::fmt::Write as _;

use jiff::fmt::temporal::DateTimePrinter;

use crate::base::escape::escaped;
use crate::pipeline::aggregate::Attribution;
use crate::pipeline::dedup::{Alert, AlertKind};
use crate::pipeline::matcher::Via;

/// Returns the alert as one line of bounded length; untrusted text is escaped and truncated.
///
/// `2026-11-24T10:00:00.123Z ALERT outbound curl[4711] 10.0.0.5:43210 -> 203.0.113.7:443 tcp
/// matches 203.0.113.0/24 (feed example: C2, confidence 80) path /usr/bin/curl cmd "curl …"`
pub fn console_line(alert: &Alert) -> String {
    let mut line = String::with_capacity(256);
    let mut time = String::new();
    let _infallible = MILLISECONDS.print_timestamp(&alert.vm_connection_time_generated, &mut time);
    let word = match alert.alert_kind {
        AlertKind::New => "ALERT",
        AlertKind::Summary => "ALERT-SUMMARY",
        AlertKind::Retro => "ALERT-RETRO",
    };
    let name = escaped(or_dash(&alert.process_name), 64);
    let _infallible = write!(line, "{time} {word} {} {name}", escaped(&alert.direction, 16));
    if let Some(pid) = alert.process_id {
        let _infallible = write!(line, "[{pid}]");
    }
    if alert.attribution == Attribution::Listener.as_str() {
        line.push_str(" (listens there)");
    }
    let source = endpoint(&alert.source_ip, alert.source_port);
    let destination = endpoint(&alert.destination_ip, alert.destination_port);
    let protocol = escaped(&alert.protocol, 16);
    let _infallible = write!(line, " {source} -> {destination} {protocol}");
    let prefix = escaped(&alert.matched_prefix, 64);
    let _infallible = write!(line, " matches {prefix}");
    if alert.via != Via::Direct {
        let address = escaped(&alert.matched_ip, 64);
        let _infallible = write!(line, " via {} {address}", alert.via.as_str());
    }
    let _infallible = write!(line, " (feed {}{})", escaped(&alert.feed, 64), threat(alert));
    if alert.connection_count > 1 {
        let _infallible = write!(line, " {} connections", alert.connection_count);
    }
    for (label, text, max) in [
        ("names", &alert.remote_dns_questions, 256),
        ("path", &alert.process_path, 256),
        ("user", &alert.user_name, 64),
        ("container", &alert.container_id, 64),
    ] {
        if !text.is_empty() {
            let _infallible = write!(line, " {label} {}", escaped(text, max));
        }
    }
    if !alert.command_line.is_empty() {
        let _infallible = write!(line, " cmd \"{}\"", escaped(&alert.command_line, 512));
    }
    line
}

/// `: C2, confidence 80`, as far as known.
fn threat(alert: &Alert) -> String {
    let threat = Some(&alert.threat_type).filter(|text| !text.is_empty());
    let threat = threat.map(|text| escaped(text, 64));
    let confidence = alert.confidence_score.map(|score| format!("confidence {score}"));
    let known: Vec<String> = threat.into_iter().chain(confidence).collect();
    if known.is_empty() { String::new() } else { format!(": {}", known.join(", ")) }
}

fn endpoint(address: &str, port: Option<u16>) -> String {
    let address = escaped(or_dash(address), 64);
    match port {
        Some(port) if address.contains(':') => format!("[{address}]:{port}"),
        Some(port) => format!("{address}:{port}"),
        None => address,
    }
}

const fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

const MILLISECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

#[cfg(test)]
mod tests {
    use super::console_line;
    use crate::pipeline::dedup::{Alert, AlertKind};
    use crate::pipeline::matcher::Via;

    #[test]
    fn an_alert_is_one_line() {
        assert_eq!(
            console_line(&Alert::sample()),
            "2026-11-24T10:00:00.123Z ALERT outbound curl[4711] 10.0.0.5:43210 -> \
             203.0.113.7:443 tcp matches 203.0.113.0/24 (feed example: C2, confidence 80) \
             path /usr/bin/curl cmd \"curl http://c2.example/\""
        );
    }

    #[test]
    fn an_embedded_or_mapped_address_is_included() {
        let mut alert = Alert::sample();
        alert.via = Via::Nat64;
        alert.matched_ip = "203.0.113.7".into();
        alert.destination_ip = "64:ff9b::cb00:7107".into();
        let line = console_line(&alert);
        assert!(
            line.contains(
                "-> [64:ff9b::cb00:7107]:443 tcp matches 203.0.113.0/24 via nat64 203.0.113.7 (feed"
            ),
            "{line}"
        );
    }

    #[test]
    fn unknown_facts_are_left_out() {
        let mut alert = Alert::sample();
        alert.alert_kind = AlertKind::Summary;
        alert.connection_count = 12;
        alert.confidence_score = None;
        alert.process_id = None;
        alert.source_port = None;
        alert.source_ip = "2001:db8::5".into();
        alert.destination_ip = "2001:db8::7".into();
        for text in [&mut alert.threat_type, &mut alert.process_name, &mut alert.process_path] {
            text.clear();
        }
        alert.command_line.clear();
        assert_eq!(
            console_line(&alert),
            "2026-11-24T10:00:00.123Z ALERT-SUMMARY outbound - 2001:db8::5 -> [2001:db8::7]:443 \
             tcp matches 203.0.113.0/24 (feed example) 12 connections"
        );
    }

    #[test]
    fn hostile_text_is_escaped_and_bounded() {
        let hostile = "\u{1b}]0;owned\u{7}\r\n\u{202e}\"".repeat(1000);
        let mut alert = Alert::sample();
        for text in [
            &mut alert.process_name,
            &mut alert.process_path,
            &mut alert.command_line,
            &mut alert.user_name,
            &mut alert.container_id,
            &mut alert.threat_type,
            &mut alert.feed,
            &mut alert.source_ip,
            &mut alert.destination_ip,
            &mut alert.direction,
            &mut alert.protocol,
            &mut alert.matched_prefix,
        ] {
            text.clone_from(&hostile);
        }
        let line = console_line(&alert);
        let plain = |c: char| !c.is_control() && c != '\u{202e}';
        assert!(line.chars().all(plain), "{line:?}");
        assert!(line.chars().count() < 12_000, "{}", line.chars().count());
    }
}
