//! The otlp sink against Tenzir's receiver, and against a fake that rejects and fails.

use sensor_tests::servers::Tenzir;
use sensor_tests::{Collector, RecordedRequest, ScriptedResponse, sample_alert, skip_unless};
use sensor_user::deliver::{OtlpConfig, ServerConfig, SinkConfig, SinkKind};
use sensor_user::pipeline::dedup::Alert;
use serde_json::{Value, json};

use crate::{sink, start, wait_until};

fn config(name: &str, url: &str) -> SinkConfig {
    let config = OtlpConfig {
        url: url.parse().unwrap(),
        service_name: OtlpConfig::SERVICE_NAME.to_owned(),
        server: ServerConfig::new(true),
    };
    sink(name, SinkKind::Otlp(Box::new(config)))
}

/// The value of an attribute, in Tenzir's representation.
fn attribute<'r>(record: &'r Value, of: &str, key: &str) -> &'r Value {
    let attributes = record.pointer(of).and_then(Value::as_array).unwrap();
    let found = attributes.iter().find(|it| it["key"] == key);
    let value = &found.unwrap_or_else(|| panic!("{key}: {record}"))["value"];
    let kind = value["kind"].as_str().unwrap();
    &value[format!("{kind}_value")]
}

#[test]
fn a_receiver_gets_unchanged_records() {
    let tenzir = Tenzir::start(|address| format!("accept_otlp \"{address}\", transport=\"http\""));
    if skip_unless(tenzir.is_some(), "tenzir is not installed") {
        return;
    }
    let tenzir = tenzir.unwrap();
    let running = start(config("tenzir-otlp", &tenzir.url()));
    running.alerts(&["a0", "a1"]);
    running.rows(&["r0"]);
    running.report_loss();
    wait_until("records", || tenzir.received_events().len() >= 4);
    let (value, left) = running.drain();
    assert_eq!((value("alerts_delivered"), value("rows_delivered"), left.len()), (2, 2, 0));
    let received = tenzir.received_events();
    let of = |event: &str| -> Vec<&Value> {
        received.iter().filter(|record| record["event_name"] == event).collect()
    };
    let alerts = of("netsensor.alert");
    for (id, record) in ["a0", "a1"].into_iter().zip(&alerts) {
        let body = record["body"]["string_value"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Alert>(body).unwrap(), sample_alert(id));
        assert_eq!(attribute(record, "/attributes", "log.record.uid"), id);
        assert_eq!(attribute(record, "/attributes", "RemoteIp"), "203.0.113.7");
        assert_eq!(attribute(record, "/attributes", "DestinationPort"), &json!(443));
        assert_eq!(attribute(record, "/attributes", "ConfidenceScore"), &json!(80.0));
        assert_eq!(attribute(record, "/resource/attributes", "service.name"), "netsensor");
        let host = attribute(record, "/resource/attributes", "host.name");
        assert_eq!(host, sample_alert(id).computer.as_str());
        assert_eq!(record["severity_text"], sample_alert(id).severity.as_str());
        assert_eq!(record["observed_time"], "2026-11-24T10:00:00Z");
    }
    let loss = of("netsensor.loss");
    assert_eq!((loss.len(), &loss[0]["severity_number"]), (1, &json!(13)));
    assert_eq!(loss[0]["time"], "2026-11-24T09:59:00Z");
    let agent = attribute(loss[0], "/resource/attributes", "service.instance.id");
    assert_eq!(agent, "agent");
    assert_eq!(of("netsensor.vmconnection").len(), 1);
}

#[test]
fn rejected_records_are_counted_and_not_sent_again() {
    let collector = Collector::start(|_, _: &RecordedRequest| {
        let partial = json!({ "rejectedLogRecords": "1", "errorMessage": "too\nold" });
        ScriptedResponse::Status(200, vec![], json!({ "partialSuccess": partial }).to_string())
    });
    let url = format!("http://{}", collector.address());
    let running = start(config("partial", &url));
    running.alerts(&["a0"]);
    let requests = collector.wait_for_requests(1);
    assert_eq!(requests[0].path, "/v1/logs");
    assert_eq!(requests[0].header("content-type"), "application/json");
    let (value, left) = running.drain();
    assert_eq!((value("otlp_records_rejected"), value("alerts_delivered")), (1, 1));
    assert_eq!((value("deliveries_retried"), left.len(), collector.requests().len()), (0, 0, 1));
    let log = sensor_tests::captured_logs("log records rejected").join("\n");
    assert!(log.contains("too\\nold"), "{log}");
}

#[test]
fn only_retryable_status_codes_are_retried() {
    let statuses = [429, 502, 503, 504, 500];
    let collector = Collector::start(move |number, _: &RecordedRequest| {
        ScriptedResponse::status(statuses.get(number).copied().unwrap_or(200))
    });
    let url = format!("http://{}", collector.address());
    let running = start(config("statuses", &url));
    running.alerts(&["a0"]);
    wait_until("given up", || running.value("alerts_discarded_rejected") == 1);
    running.alerts(&["a1"]);
    collector.wait_for_requests(6);
    let (value, left) = running.drain();
    let counts = (value("alerts_delivered"), value("deliveries_retried"), left.len());
    assert_eq!(counts, (1, 4, 0));
}
