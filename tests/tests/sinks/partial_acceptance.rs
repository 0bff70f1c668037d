//! Batches that a server accepts partly.

use sensor_tests::servers::Osmem;
use sensor_tests::{Collector, RecordedRequest, ScriptedResponse, sample_alert, skip_unless};
use sensor_user::deliver::ElasticsearchConfig;
use serde_json::{Deserializer, Value, json};

use crate::{elastic, splunk, start};

#[test]
fn a_document_that_violates_the_mapping_is_rejected_alone() {
    let server = Osmem::start();
    if skip_unless(server.is_some(), "osmem-server is not installed") {
        return;
    }
    let server = server.unwrap();
    // An id that is not an address violates the mapping.
    let mappings = json!({ "properties": { "AlertId": { "type": "ip" } } });
    let template = json!({ "index_patterns": ["logs-*"], "template": { "mappings": mappings } });
    server.request("PUT", "_index_template/netsensor", Some(&template));
    let running = start(elastic::config("mapping", &server.url()));
    running.alerts(&["10.0.0.1", "no address", "10.0.0.2"]);
    let (value, left) = running.drain();
    let counts = (value("alerts_delivered"), value("alerts_discarded_rejected"), left.len());
    assert_eq!(counts, (2, 1, 0));
    let documents = elastic::documents(&server, ElasticsearchConfig::ALERTS_INDEX);
    let ids: Vec<&str> = documents.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["10.0.0.1", "10.0.0.2"]);
    let log = sensor_tests::captured_logs("sink=\"mapping\"").join("\n");
    assert!(log.contains("mapper_parsing_exception"), "{log}");
}

/// Ids of the documents of a request.
fn ids(request: &RecordedRequest) -> Vec<String> {
    let actions = request.body.lines().step_by(2);
    let action = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    actions.map(|line| action(line)["create"]["_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_document_with_status_429_is_sent_again_alone() {
    let mut step = 0;
    let collector = Collector::start(move |_, request: &RecordedRequest| {
        let ids = ids(request);
        if ids == ["first"] && step == 0 {
            step += 1;
            return ScriptedResponse::Stall;
        }
        let has_a1 = ids.iter().any(|id| id == "a1");
        step += usize::from(has_a1);
        if has_a1 && step == 2 {
            return ScriptedResponse::retry_after(503, "0");
        }
        let is_busy = |id: &String| id == "a1" && step == 3;
        let status = |id: &String| if is_busy(id) { 429 } else { 201 };
        let items: Vec<Value> =
            ids.iter().map(|id| json!({ "create": { "status": status(id) } })).collect();
        let body = json!({ "errors": ids.iter().any(is_busy), "items": items });
        ScriptedResponse::Status(200, vec![], body.to_string())
    });
    let url = format!("http://{}/", collector.address());
    let running = start(elastic::config("busy", &url));
    running.alerts(&["first"]);
    collector.wait_for_requests(1);
    // Raised together, so that they are sent in one request.
    running.outbox.alerts(["a0", "a1", "a2"].map(sample_alert).into(), None);
    // The pending request gets a response without a body, which is invalid for _bulk.
    collector.release();
    let requests = collector.wait_for_requests(5);
    let sent: Vec<Vec<String>> = requests.iter().map(ids).collect();
    let (first, all) = (vec!["first".to_owned()], ["a0", "a1", "a2"].map(str::to_owned).to_vec());
    assert_eq!(sent, [first.clone(), first, all.clone(), all, vec!["a1".to_owned()]]);
    assert!(requests.iter().all(|request| !request.header("content-length").is_empty()));
    assert!(requests.iter().all(|request| request.path == "/_bulk"));
    let (value, left) = running.drain();
    let counts = (value("alerts_delivered"), value("alerts_discarded_rejected"), left.len());
    assert_eq!(counts, (4, 0, 0));
}

/// Ids of the events of a request.
fn events(request: &RecordedRequest) -> Vec<String> {
    let events = Deserializer::from_str(&request.body).into_iter::<Value>();
    events.map(|it| it.unwrap()["event"]["AlertId"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_refused_event_does_not_lose_the_rest_of_its_batch() {
    let collector = Collector::start(|number, request: &RecordedRequest| {
        if number == 0 {
            return ScriptedResponse::Stall;
        }
        match events(request).iter().position(|id| id == "poison") {
            Some(position) => {
                let text = "Error in handling indexed fields";
                let body = json!({ "text": text, "code": 15, "invalid-event-number": position });
                ScriptedResponse::Status(400, vec![], body.to_string())
            }
            None => ScriptedResponse::Status(
                200,
                vec![],
                json!({ "text": "Success", "code": 0 }).to_string(),
            ),
        }
    });
    let url = format!("http://{}/", collector.address());
    let (_folder, file) = splunk::token("t");
    let running = start(splunk::config("poison", &url, &file, None));
    running.alerts(&["a0"]);
    collector.wait_for_requests(1);
    // Raised together, so that they are sent in one request.
    running.outbox.alerts(["a1", "poison", "a3", "a4"].map(sample_alert).into(), None);
    collector.release();
    let requests = collector.wait_for_requests(3);
    assert_eq!(events(&requests[1]), ["a1", "poison", "a3", "a4"]);
    assert_eq!(events(&requests[2]), ["a3", "a4"]);
    let (value, left) = running.drain();
    let counts = (value("alerts_delivered"), value("alerts_discarded_rejected"), left.len());
    assert_eq!(counts, (4, 1, 0));
}
