//! The splunk sink against Tenzir's HTTP Event Collector, and against a fake that acknowledges,
//! fails and refuses single events as Splunk does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sensor_tests::servers::Tenzir;
use sensor_tests::{
    Collector, RecordedRequest, ScriptedResponse, captured_logs, sample_alert, sample_row,
    skip_unless,
};
use sensor_user::deliver::{ServerConfig, SinkConfig, SinkKind, SplunkConfig};
use sensor_user::http::{Login, Secret};
use sensor_user::pipeline::dedup::Alert;
use sensor_user::schema::{ConnectionRow, TableRow};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{sink, start, wait_until};

pub(crate) fn token(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, text).unwrap();
    (folder, file)
}

pub(crate) fn config(
    name: &str,
    url: &str,
    token: &Path,
    acknowledge: Option<Duration>,
) -> SinkConfig {
    let mut server = ServerConfig::new(true);
    server.access.login = Login::Token {
        header: "Authorization".to_owned(),
        scheme: "Splunk".to_owned(),
        token: Secret::File(token.to_owned()),
    };
    let config = SplunkConfig {
        url: url.parse().unwrap(),
        index: None,
        source: SplunkConfig::SOURCE.to_owned(),
        sourcetype: None,
        acknowledge,
        server,
    };
    sink(name, SinkKind::Splunk(Box::new(config)))
}

#[test]
fn a_collector_receives_unchanged_alerts_and_rows() {
    let tenzir =
        Tenzir::start(|address| format!("accept_splunk \"{address}\", hec_token=\"s3cret\""));
    if skip_unless(tenzir.is_some(), "tenzir is not installed") {
        return;
    }
    let tenzir = tenzir.unwrap();
    let (_folder, file) = token("wrong");
    let running = start(config("hec", &tenzir.url(), &file, None));
    running.alerts(&["a0"]);
    wait_until("refused", || running.value("deliveries_retried") > 0);
    std::fs::write(&file, "s3cret").unwrap();
    running.alerts(&["a1", "a2"]);
    running.rows(&["r0", "r1"]);
    wait_until("events", || tenzir.received_events().len() >= 5);
    let (value, left) = running.drain();
    assert_eq!((value("alerts_delivered"), value("rows_delivered")), (3, 2));
    assert_eq!((value("alerts_discarded_rejected"), left.len()), (0, 0));
    let received = tenzir.received_events();
    let of = |sourcetype: &str| -> Vec<Value> {
        received.iter().filter(|event| event["sourcetype"] == sourcetype).cloned().collect()
    };
    let alerts: Vec<Alert> = of("netsensor:alert").iter().map(event).collect();
    assert_eq!(alerts, ["a0", "a1", "a2"].map(sample_alert));
    let rows: Vec<ConnectionRow> = of("netsensor:vmconnection").iter().map(event).collect();
    let raised = ["r0", "r1"].map(|id| match sample_row(id) {
        TableRow::Connection(row) => *row,
        other => panic!("{other:?}"),
    });
    assert_eq!(rows, raised);
    assert_eq!(received[0]["source"], "netsensor");
    let log = captured_logs("sink=\"hec\"").join("\n");
    assert!(log.contains("403: ") && log.contains("check token"), "{log}");
    assert!(!log.contains("s3cret"), "{log}");
}

/// The event as the sink sent it: Tenzir keeps or omits nulls.
fn event<T: serde::de::DeserializeOwned>(received: &Value) -> T {
    serde_json::from_value(received["event"].clone()).unwrap()
}

/// A collector that acknowledges accepted events at the n-th query.
fn acknowledging(queries: usize) -> Collector {
    let (mut accepted, mut queried) = (0, 0);
    Collector::start(move |_, request: &RecordedRequest| {
        if request.path == "/services/collector/ack" {
            queried += 1;
            let id = &serde_json::from_str::<Value>(&request.body).unwrap()["acks"][0];
            let acks = json!({ id.to_string(): queried >= queries });
            return ScriptedResponse::Status(200, vec![], json!({ "acks": acks }).to_string());
        }
        accepted += 1;
        let text = json!({ "text": "Success", "code": 0, "ackId": accepted - 1 }).to_string();
        ScriptedResponse::Status(200, vec![], text)
    })
}

#[test]
fn a_batch_is_delivered_once_the_indexer_acknowledges_it() {
    let collector = acknowledging(2);
    let url = format!("http://{}/", collector.address());
    let (_folder, file) = token("t");
    let limit = Some(Duration::from_secs(20));
    let running = start(config("ack", &url, &file, limit));
    running.alerts(&["a0"]);
    collector.wait_for_requests(2);
    assert_eq!(running.value("alerts_delivered"), 0);
    let requests = collector.wait_for_requests(3);
    let (value, left) = running.drain();
    let counts = (value("alerts_delivered"), value("deliveries_retried"), left.len());
    assert_eq!(counts, (1, 0, 0));
    let channel = requests[0].header("x-splunk-request-channel");
    assert_eq!(channel.len(), 36);
    assert!(requests.iter().all(|it| it.header("x-splunk-request-channel") == channel));
    assert!(requests.iter().all(|it| it.header("authorization") == "Splunk t"));
}

#[test]
fn an_unacknowledged_batch_is_sent_again() {
    let collector = acknowledging(4);
    let url = format!("http://{}/", collector.address());
    let (_folder, file) = token("t");
    let limit = Some(Duration::from_secs(1));
    let running = start(config("slow", &url, &file, limit));
    running.alerts(&["a0"]);
    wait_until("delivered", || running.value("alerts_delivered") == 1);
    let sent = collector.requests();
    let events: Vec<&RecordedRequest> =
        sent.iter().filter(|request| request.path == "/services/collector/event").collect();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].body, events[1].body);
    let (value, _) = running.drain();
    assert_eq!(value("deliveries_retried"), 1);
}

/// Tenzir returns acknowledgement ids and then never acknowledges.
#[test]
fn accepted_events_without_acknowledgement_are_not_delivered() {
    let tenzir = Tenzir::start(|address| {
        format!("accept_splunk \"{address}\", hec_token=\"s3cret\", ack=true")
    });
    if skip_unless(tenzir.is_some(), "tenzir is not installed") {
        return;
    }
    let tenzir = tenzir.unwrap();
    let (_folder, file) = token("s3cret");
    let limit = Some(Duration::from_secs(1));
    let running = start(config("hec-ack", &tenzir.url(), &file, limit));
    running.alerts(&["a0"]);
    wait_until("sent again", || tenzir.received_events().len() >= 2);
    assert_eq!(running.value("alerts_delivered"), 0);
    assert!(tenzir.received_events().iter().all(|it| event::<Alert>(it) == sample_alert("a0")));
    let log = captured_logs("sink=\"hec-ack\"").join("\n");
    assert!(log.contains("no acknowledgement within 1s"), "{log}");
    let (value, _left) = running.drain();
    assert_eq!(value("alerts_delivered"), 0);
}

#[test]
fn a_truncated_response_is_retried_and_a_success_without_ack_id_suffices() {
    let responses = ["{\"text\":\"Succ", "{\"text\":\"Success\",\"code\":0}"];
    let collector = Collector::start(move |number, _: &RecordedRequest| {
        ScriptedResponse::Status(200, vec![], responses[number.min(1)].to_owned())
    });
    let url = format!("http://{}/", collector.address());
    let (_folder, file) = token("t");
    let limit = Some(Duration::from_secs(1));
    let running = start(config("no-id", &url, &file, limit));
    running.alerts(&["a0"]);
    collector.wait_for_requests(2);
    let (value, left) = running.drain();
    let counts = (value("alerts_delivered"), value("deliveries_retried"), left.len());
    assert_eq!(counts, (1, 1, 0));
    assert_eq!(captured_logs("the token has no indexer acknowledgement").len(), 1);
}

/// A collector behind a gateway that does not know the collector's state; both recover after
/// `failures` requests for events.
fn failing(failures: usize, events: (u16, &'static str), health: (u16, &'static str)) -> Collector {
    let mut requests = 0;
    Collector::start(move |_, request: &RecordedRequest| {
        let (status, text) = if request.path == "/services/collector/health" {
            health
        } else {
            requests += 1;
            if requests <= failures { events } else { (200, "{\"text\":\"Success\",\"code\":0}") }
        };
        ScriptedResponse::Status(status, vec![], text.to_owned())
    })
}

#[test]
fn collector_errors_are_reported_and_retried() {
    let healthy = (200, "{\"text\":\"HEC is healthy\",\"code\":17}");
    let full = (503, "{\"text\":\"HEC is unhealthy, queues are full\",\"code\":18}");
    let html = (503, "<html>no server is available</html>");
    let busy = (503, "{\"text\":\"Server is busy\",\"code\":9}");
    let invalid = (403, "{\"text\":\"Invalid token\",\"code\":4}");
    for (name, events, health, error, checks_health) in [
        ("busy", busy, full, "the server is busy: its queues are full", false),
        ("gateway", html, full, "queues are full…; the collector is unhealthy", true),
        ("gateway-only", html, healthy, "503: <html>no server is available</html>", true),
        ("token", invalid, healthy, "Invalid token…; check token", false),
    ] {
        let collector = failing(4, events, health);
        let url = format!("http://{}/", collector.address());
        let (_folder, file) = token("t");
        let running = start(config(name, &url, &file, None));
        running.alerts(&["a0"]);
        wait_until("delivered", || running.value("alerts_delivered") == 1);
        let report = running.outbox.sinks().remove(0);
        let parts: Vec<&str> = error.split('…').collect();
        let is_reported = parts.iter().all(|part| report.last_error.contains(part));
        assert!(is_reported && report.error.is_empty(), "{report:?}");
        assert_eq!((report.failures, running.value("alerts_discarded_rejected")), (4, 0));
        let sent = collector.requests();
        let health_checks =
            sent.iter().filter(|it| it.path == "/services/collector/health").count();
        assert_eq!(health_checks > 0, checks_health, "{name}");
        assert_eq!(running.drain().1, []);
    }
}

#[test]
fn collector_health_is_reported_when_it_does_not_acknowledge() {
    let collector = Collector::start(|_, request: &RecordedRequest| {
        let (status, text) = match request.path.as_str() {
            "/services/collector/event" => (200, "{\"text\":\"Success\",\"code\":0,\"ackId\":0}"),
            "/services/collector/ack" => (200, "{\"acks\":{\"0\":false}}"),
            _ => (503, "{\"text\":\"HEC is unhealthy, ack service unavailable\",\"code\":19}"),
        };
        ScriptedResponse::Status(status, vec![], text.to_owned())
    });
    let url = format!("http://{}/", collector.address());
    let (_folder, file) = token("t");
    let running = start(config("no-acks", &url, &file, Some(Duration::from_secs(1))));
    running.alerts(&["a0"]);
    let log = || captured_logs("sink=\"no-acks\"").join("\n");
    wait_until("the error", || log().contains("ack service unavailable"));
    assert!(log().contains("; is the indexer behind?"), "{}", log());
    assert_eq!(running.value("alerts_delivered"), 0);
}
