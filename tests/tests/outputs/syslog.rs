//! Syslog to rsyslog, over TCP and TLS and in both framings: it receives every raised item, also
//! after an outage of the server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use sensor_tests::servers::{Rsyslog, TlsFiles};
use sensor_tests::{certificates, sample_alert, skip_unless};
use sensor_user::deliver::{Format, Framing, SinkConfig, SinkKind, SyslogConfig};
use sensor_user::http::{Certificate, TlsConfig};
use serde_json::Value;

use super::{items, raise_all, sink_for_all, start, wait_until, written};

fn is_missing() -> bool {
    skip_unless(Rsyslog::is_installed(), "rsyslog is missing; as root: apt-get install rsyslog")
}

fn sink(config: SyslogConfig, format: Format) -> SinkConfig {
    sink_for_all("syslog", SinkKind::Syslog(config), format)
}

/// The value of parameter `name` in structured data without escapes.
fn parameter(message: &Value, name: &str) -> String {
    let data = message["data"].as_str().unwrap();
    let (_, rest) = data.split_once(&format!(" {name}=\"")).unwrap_or_else(|| panic!("{data}"));
    rest.split_once('"').unwrap().0.to_owned()
}

/// Asserts that `rsyslog` has received the same items as a file, each exactly once.
fn assert_received_all(rsyslog: &Rsyslog, format: Format) {
    let (_folder, lines) = written(format);
    wait_until("all messages", || rsyslog.messages().len() >= items::total());
    let messages = rsyslog.messages();
    let received: BTreeSet<String> =
        messages.iter().map(|it| it["message"].as_str().unwrap().to_owned()).collect();
    assert_eq!((messages.len(), received.len()), (items::total(), items::total()));
    for text in &received {
        let value: Value = serde_json::from_str(text).unwrap();
        assert!(lines.contains(&value), "{text}");
    }
}

#[test]
fn every_item_arrives_in_either_framing() {
    if is_missing() {
        return;
    }
    for (framing, format) in [(Framing::Octets, Format::Native), (Framing::Newline, Format::Ocsf)] {
        let rsyslog = Rsyslog::start(None);
        let config = SyslogConfig { framing, ..SyslogConfig::new(rsyslog.address()) };
        let running = start(&[sink(config, format)]);
        raise_all(&running);
        assert_received_all(&rsyslog, format);
        assert_eq!(running.drain().1, []);
    }
}

#[test]
fn header_and_structured_data_describe_the_alert() {
    if is_missing() {
        return;
    }
    let rsyslog = Rsyslog::start(None);
    let kind = SinkKind::Syslog(SyslogConfig::new(rsyslog.address()));
    let sink = SinkConfig { format: Format::Cef, ..SinkConfig::new("syslog".to_owned(), kind) };
    let running = start(&[sink]);
    running.outbox.alerts(items::alerts(), None);
    wait_until("all alerts", || rsyslog.messages().len() == items::alerts().len());
    assert_eq!(running.drain().1, []);
    let messages: BTreeMap<String, Value> =
        rsyslog.messages().into_iter().map(|it| (parameter(&it, "id"), it)).collect();
    for alert in items::alerts() {
        let message = &messages[&alert.alert_id];
        let severity = match alert.severity.as_str() {
            "High" => "2",
            "Medium" => "4",
            "Low" => "5",
            _ => "6",
        };
        for (field, value) in [
            ("host", "web01.example.net"),
            ("app", "netsensor"),
            ("msgid", "alert"),
            ("facility", "local0"),
            ("severity", severity),
        ] {
            assert_eq!(message[field], value, "{field} of {message}");
        }
        let time: jiff::Timestamp = message["time"].as_str().unwrap().parse().unwrap();
        assert_eq!(time, alert.vm_connection_time_generated);
        for (name, value) in [
            ("kind", alert.alert_kind.as_str()),
            ("severity", &alert.severity),
            ("remote", &alert.remote_ip),
            ("prefix", &alert.matched_prefix),
            ("feed", &alert.feed),
        ] {
            assert_eq!(parameter(message, name), value, "{message}");
        }
        let text = message["message"].as_str().unwrap();
        assert!(text.starts_with("CEF:0|netsensor|"), "{text}");
        assert!(text.contains(&format!("externalId={}", alert.alert_id)), "{text}");
    }
}

fn over_tls(rsyslog: &Rsyslog, folder: &Path, with_certificate: bool, name: &str) -> SyslogConfig {
    let certificate = with_certificate
        .then(|| Certificate { chain: folder.join("client"), key: folder.join("client.key") });
    SyslogConfig {
        tls: Some(TlsConfig { ca_file: Some(folder.join("ca")), certificate }),
        server_name: Some(name.to_owned()),
        ..SyslogConfig::new(rsyslog.address())
    }
}

#[test]
fn over_tls_both_sides_are_authenticated() {
    let reason = "rsyslog-gnutls is missing; as root: apt-get install rsyslog rsyslog-gnutls";
    if skip_unless(Rsyslog::supports_tls(), reason) {
        return;
    }
    let folder = certificates();
    let path = |name: &str| folder.path().join(name);
    let files =
        TlsFiles { authority: path("ca"), certificate: path("server"), key: path("server.key") };
    let rsyslog = Rsyslog::start(Some(&files));
    // A server with another name receives nothing.
    let other = over_tls(&rsyslog, folder.path(), true, "other.example.net");
    let running = start(&[sink(other, Format::Native)]);
    running.outbox.alerts(vec![sample_alert("a0")], None);
    wait_until("an error", || running.stats.deliveries_retried.value() > 2);
    assert!(!running.drain().1.is_empty());
    assert_eq!(rsyslog.messages(), Vec::<Value>::new());
    let right = over_tls(&rsyslog, folder.path(), true, "logs.example.net");
    let running = start(&[sink(right, Format::Native)]);
    raise_all(&running);
    assert_received_all(&rsyslog, Format::Native);
    assert_eq!(running.drain().1, []);
}

#[test]
fn alerts_raised_during_a_syslog_outage_arrive_afterwards() {
    if is_missing() {
        return;
    }
    let mut rsyslog = Rsyslog::start(None);
    let config =
        SyslogConfig { timeout: Duration::from_secs(2), ..SyslogConfig::new(rsyslog.address()) };
    let running = start(&[sink(config, Format::Native)]);
    let raise = |name: &str| {
        for number in 0..20 {
            running.outbox.alerts(vec![sample_alert(&format!("{name}-{number}"))], None);
        }
    };
    let ids = |rsyslog: &Rsyslog| -> BTreeSet<String> {
        rsyslog.messages().iter().map(|it| parameter(it, "id")).collect()
    };
    raise("before");
    wait_until("the first twenty", || ids(&rsyslog).len() == 20);
    rsyslog.stop();
    raise("away");
    wait_until("an error", || running.stats.deliveries_retried.value() > 0);
    rsyslog.restart();
    raise("after");
    wait_until("all sixty", || ids(&rsyslog).len() == 60);
    // The last batch before the outage may be sent twice.
    assert!(rsyslog.messages().len() <= 80, "{}", rsyslog.messages().len());
    assert_eq!(running.drain().1, []);
}
