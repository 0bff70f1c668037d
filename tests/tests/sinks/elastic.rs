//! The elasticsearch sink against osmem (the API of `OpenSearch`) and Tenzir's listener.

use sensor_tests::servers::{Osmem, Tenzir};
use sensor_tests::{sample_alert, skip_unless};
use sensor_user::deliver::{ElasticsearchConfig, Format, ServerConfig, SinkConfig, SinkKind};
use sensor_user::pipeline::dedup::Alert;
use serde_json::{Value, json};

use crate::{sink, start, wait_until};

pub(crate) fn config(name: &str, url: &str) -> SinkConfig {
    let config = ElasticsearchConfig {
        url: url.parse().unwrap(),
        alerts_index: ElasticsearchConfig::ALERTS_INDEX.to_owned(),
        rows_index: ElasticsearchConfig::ROWS_INDEX.to_owned(),
        health_index: ElasticsearchConfig::HEALTH_INDEX.to_owned(),
        server: ServerConfig::new(true),
    };
    sink(name, SinkKind::Elasticsearch(Box::new(config)))
}

/// The documents of an index, by id.
pub(crate) fn documents(server: &Osmem, index: &str) -> Vec<(String, Value)> {
    server.request("POST", &format!("{index}/_refresh"), None);
    let found = server.request("GET", &format!("{index}/_search?size=100"), None);
    let hits = found["hits"]["hits"].as_array().unwrap().iter();
    let mut all: Vec<(String, Value)> =
        hits.map(|hit| (hit["_id"].as_str().unwrap().to_owned(), hit["_source"].clone())).collect();
    all.sort_by(|left, right| left.0.cmp(&right.0));
    all
}

/// The raised alert of a document.
fn raised(mut document: Value) -> Alert {
    let time = document.as_object_mut().unwrap().remove("@timestamp").unwrap();
    assert_eq!(time, document["VMConnection_TimeGenerated"]);
    serde_json::from_value(document).unwrap()
}

#[test]
fn documents_exist_once_even_if_sent_again() {
    let server = Osmem::start();
    if skip_unless(server.is_some(), "osmem-server is not installed") {
        return;
    }
    let server = server.unwrap();
    for _round in 0..2 {
        let running = start(config("osmem", &server.url()));
        running.alerts(&["a0", "a1"]);
        running.rows(&["r0", "r1", "r2"]);
        running.report_loss();
        let (value, left) = running.drain();
        let counts = (value("alerts_delivered"), value("rows_delivered"), left.len());
        assert_eq!(counts, (2, 4, 0));
        assert_eq!((value("alerts_discarded_rejected"), value("rows_discarded_rejected")), (0, 0));
    }
    let alerts = documents(&server, ElasticsearchConfig::ALERTS_INDEX);
    let ids: Vec<&str> = alerts.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["a0", "a1"]);
    let alerts: Vec<Alert> = alerts.into_iter().map(|(_, document)| raised(document)).collect();
    assert_eq!(alerts, ["a0", "a1"].map(sample_alert));
    let rows = documents(&server, ElasticsearchConfig::ROWS_INDEX);
    let ids: Vec<&str> = rows.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["r0", "r1", "r2"]);
    assert!(rows.iter().all(|(_, row)| row["RemoteIp"] == "203.0.113.7"));
    let health = documents(&server, ElasticsearchConfig::HEALTH_INDEX);
    assert_eq!((health.len(), &health[0].1["Type"]), (1, &json!("NetsensorLoss")));
}

#[test]
fn documents_in_ecs_format_have_the_same_ids() {
    let server = Osmem::start();
    if skip_unless(server.is_some(), "osmem-server is not installed") {
        return;
    }
    let server = server.unwrap();
    let addresses = json!({ "type": "ip" });
    let template = json!({
        "index_patterns": ["logs-*"],
        "template": { "mappings": { "properties": {
            "@timestamp": { "type": "date" },
            "source": { "properties": { "ip": addresses } },
            "destination": { "properties": { "ip": addresses } },
            "related": { "properties": { "ip": addresses } },
        } } },
    });
    server.request("PUT", "_index_template/netsensor", Some(&template));
    for _round in 0..2 {
        let mut sink = config("osmem-ecs", &server.url());
        sink.format = Format::Ecs;
        let running = start(sink);
        running.alerts(&["a0"]);
        running.rows(&["r0"]);
        running.report_loss();
        let (value, left) = running.drain();
        let counts = (value("alerts_delivered"), value("rows_delivered"), left.len());
        assert_eq!(counts, (1, 2, 0));
    }
    let alerts = documents(&server, ElasticsearchConfig::ALERTS_INDEX);
    assert_eq!((alerts.len(), alerts[0].0.as_str()), (1, "a0"));
    assert_eq!(alerts[0].1["event"]["kind"], "alert");
    assert_eq!(alerts[0].1["@timestamp"], "1970-01-01T00:00:00Z");
    assert_eq!(alerts[0].1["destination"]["ip"], "203.0.113.7");
    let rows = documents(&server, ElasticsearchConfig::ROWS_INDEX);
    assert_eq!((rows.len(), rows[0].0.as_str()), (1, "r0"));
    assert_eq!(documents(&server, ElasticsearchConfig::HEALTH_INDEX).len(), 1);
}

#[test]
fn tenzir_accepts_the_documents() {
    let tenzir = Tenzir::start(|address| format!("accept_elasticsearch \"{address}\""));
    if skip_unless(tenzir.is_some(), "tenzir is not installed") {
        return;
    }
    let tenzir = tenzir.unwrap();
    let running = start(config("tenzir", &tenzir.url()));
    running.alerts(&["a0", "a1"]);
    wait_until("documents", || tenzir.received_events().len() >= 2);
    let (value, left) = running.drain();
    assert_eq!((value("alerts_delivered"), left.len()), (2, 0));
    let alerts: Vec<Alert> = tenzir.received_events().into_iter().map(raised).collect();
    assert_eq!(alerts, ["a0", "a1"].map(sample_alert));
}
