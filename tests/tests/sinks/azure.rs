//! The azure sink against a fake of Entra ID, the metadata service and the ingestion endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sensor_tests::{Collector, RecordedRequest, ScriptedResponse, sample_alert};
use sensor_user::deliver::{AzureLogin, LogsIngestionConfig, ServerConfig, SinkConfig, SinkKind};
use sensor_user::http::Secret;
use sensor_user::pipeline::dedup::Alert;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{sink, start};

/// The endpoint's response to its n-th request.
type Script = Box<dyn FnMut(usize) -> ScriptedResponse + Send>;

const NO_CONTENT: ScriptedResponse = ScriptedResponse::status(204);
const INGEST: &str = "/dataCollectionRules/dcr-1/streams/";

/// Issues tokens `t0`, `t1`, … for the right secret, and responds to records by `script`.
fn azure(mut script: Script) -> Collector {
    let (mut tokens, mut posts) = (0, 0);
    Collector::start(move |_, request: &RecordedRequest| {
        let is_machine = request.path == "/metadata/identity/oauth2/token";
        if request.path.starts_with(INGEST) {
            posts += 1;
            return script(posts - 1);
        }
        let is_known = request.body.contains("client_secret=hunter2&")
            || is_machine && request.header("metadata") == "true";
        if !is_known {
            return ScriptedResponse::Status(
                401,
                vec![],
                "{\"error\":\"invalid_client\"}".to_owned(),
            );
        }
        tokens += 1;
        let token = format!("t{}", tokens - 1);
        let lifetime = if is_machine { json!("86399") } else { json!(3599) };
        let body = json!({ "access_token": token, "expires_in": lifetime, "token_type": "Bearer" });
        ScriptedResponse::Status(200, vec![], body.to_string())
    })
}

/// Responds with `responses`, then accepts all requests.
fn then_accepted(responses: Vec<ScriptedResponse>) -> Script {
    Box::new(move |number| responses.get(number).cloned().unwrap_or(NO_CONTENT))
}

fn config(name: &str, collector: &Collector, login: AzureLogin) -> SinkConfig {
    let config = LogsIngestionConfig {
        endpoint: format!("http://{}/", collector.address()).parse().unwrap(),
        dcr: "dcr-1".to_owned(),
        alerts_stream: LogsIngestionConfig::ALERTS_STREAM.to_owned(),
        streams: BTreeMap::from([("VMConnection".to_owned(), "Custom-Links".to_owned())]),
        audience: "https://monitor.azure.com".to_owned(),
        login,
        server: ServerConfig::new(true),
    };
    sink(name, SinkKind::Azure(Box::new(config)))
}

fn application(collector: &Collector, secret: &Path) -> AzureLogin {
    AzureLogin::Application {
        login_url: format!("http://{}/", collector.address()).parse().unwrap(),
        tenant: "tenant-1".to_owned(),
        client_id: "client 1".to_owned(),
        client_secret: Secret::File(secret.to_owned()),
    }
}

fn secret(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, text).unwrap();
    (folder, file)
}

/// The records of one stream, from accepted requests.
fn records(collector: &Collector, stream: &str) -> Vec<Value> {
    let path = format!("{INGEST}{stream}");
    let requests = collector.requests();
    let taken = requests.iter().filter(|request| request.accepted && request.path == path);
    taken.flat_map(RecordedRequest::items).collect()
}

fn paths(collector: &Collector) -> Vec<String> {
    collector.requests().into_iter().map(|request| request.path).collect()
}

#[test]
fn alerts_arrive_unchanged() {
    let collector = azure(then_accepted(vec![]));
    let (_folder, file) = secret("hunter2");
    let running = start(config("a", &collector, application(&collector, &file)));
    running.alerts(&["a0"]);
    collector.wait_for_requests(2);
    running.alerts(&["a1"]);
    let requests = collector.wait_for_requests(3);
    let form = "grant_type=client_credentials&client_id=client+1&client_secret=hunter2&\
                scope=https%3A%2F%2Fmonitor.azure.com%2F.default";
    assert_eq!(
        (requests[0].path.as_str(), requests[0].body.as_str()),
        ("/tenant-1/oauth2/v2.0/token", form)
    );
    assert_eq!(requests[0].header("content-type"), "application/x-www-form-urlencoded");
    for request in &requests[1..] {
        assert_eq!(request.header("authorization"), "Bearer t0");
        assert_eq!(request.header("content-encoding"), "gzip");
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(request.header("x-ms-client-request-id").len(), 36);
        assert_eq!(request.query, "api-version=2023-01-01");
    }
    for (id, mut record) in
        ["a0", "a1"].into_iter().zip(records(&collector, "Custom-NetsensorAlert_CL"))
    {
        let columns = record.as_object_mut().unwrap();
        for (name, value) in columns.iter() {
            assert!(value.is_null() || fits(&declared("NetsensorAlert")[name], value), "{name}");
        }
        let names: BTreeSet<String> = columns.keys().cloned().collect();
        assert_eq!(names, declared("NetsensorAlert").into_keys().collect());
        assert_eq!(columns["TimeGenerated"], "1970-01-01T00:00:00Z");
        assert_eq!(columns.remove("EventTime"), columns.remove("TimeGenerated"));
        columns.insert("Type".to_owned(), "ThreatIntelligenceIndicator".into());
        assert_eq!(serde_json::from_value::<Alert>(record).unwrap(), sample_alert(id));
    }
    let (value, left) = running.drain();
    assert_eq!((value("alerts_delivered"), value("deliveries_retried"), left.len()), (2, 0, 0));
}

/// Type of each column of a stream in docs/azure.md.
fn declared(table: &str) -> BTreeMap<String, String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/azure.md");
    let text = std::fs::read_to_string(page).unwrap();
    let block = text.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let rule: Value = serde_json::from_str(block).unwrap();
    let columns = &rule["streamDeclarations"][format!("Custom-{table}_CL")]["columns"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let columns = columns.as_array().unwrap().iter();
    columns.map(|column| (text(&column["name"]), text(&column["type"]))).collect()
}

fn fits(kind: &str, value: &Value) -> bool {
    match kind {
        "datetime" => value.as_str().is_some_and(|it| it.parse::<jiff::Timestamp>().is_ok()),
        "string" => value.is_string(),
        "int" => value.as_i64().is_some_and(|it| i32::try_from(it).is_ok()),
        "long" => value.is_i64() || value.is_u64(),
        "real" => value.is_number(),
        "dynamic" => value.is_array(),
        _ => false,
    }
}

#[test]
fn rows_are_sent_to_the_streams_of_their_tables() {
    let collector = azure(then_accepted(vec![]));
    let (_folder, file) = secret("hunter2");
    let running = start(config("rows", &collector, application(&collector, &file)));
    running.rows(&["r0", "r1"]);
    running.report_loss();
    collector.wait_for_requests(3);
    let (value, left) = running.drain();
    assert_eq!((value("rows_delivered"), left.len()), (3, 0));
    let rows = records(&collector, "Custom-Links");
    let ids: Vec<&str> = rows.iter().map(|row| row["ConnectionId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["r0", "r1"]);
    assert!(rows[0].get("Type").is_none() && rows[0].get("_ResourceId").is_none());
    assert_eq!(rows[0]["ResourceId"], "");
    let losses = records(&collector, "Custom-NetsensorLoss_CL");
    assert_eq!((losses.len(), &losses[0]["Count"]), (1, &json!(7)));
    let names: BTreeSet<String> = losses[0].as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, declared("NetsensorLoss").into_keys().collect());
}

#[test]
fn a_refused_token_is_replaced_immediately() {
    let collector = azure(then_accepted(vec![ScriptedResponse::status(401)]));
    let (_folder, file) = secret("hunter2");
    let running = start(config("token", &collector, application(&collector, &file)));
    running.alerts(&["a0"]);
    let requests = collector.wait_for_requests(4);
    let bearers: Vec<&str> = requests.iter().map(|it| it.header("authorization")).collect();
    assert_eq!(bearers, ["", "Bearer t0", "", "Bearer t1"]);
    let (value, _) = running.drain();
    assert_eq!((value("alerts_delivered"), value("deliveries_retried")), (1, 0));
}

#[test]
fn temporary_errors_are_retried() {
    let responses = vec![
        ScriptedResponse::Status(
            403,
            vec![],
            "{\"error\":{\"code\":\"OperationFailed\"}}".to_owned(),
        ),
        ScriptedResponse::status(404),
        ScriptedResponse::retry_after(429, "1"),
        ScriptedResponse::status(500),
        ScriptedResponse::Reset,
        ScriptedResponse::status(503),
    ];
    let collector = azure(then_accepted(responses));
    let (_folder, file) = secret("hunter2");
    let running = start(config("again", &collector, application(&collector, &file)));
    running.alerts(&["a0"]);
    let requests = collector.wait_for_requests(8);
    assert!((requests[4].at - requests[3].at).as_secs() >= 1);
    assert!(requests[1..].iter().all(|request| request.body == requests[1].body));
    let (value, left) = running.drain();
    assert_eq!((value("alerts_delivered"), value("deliveries_retried"), left.len()), (1, 6, 0));
    let log = sensor_tests::captured_logs("sink=\"again\"").join("\n");
    assert!(log.contains("the role Monitoring Metrics Publisher on the data"), "{log}");
}

#[test]
fn a_batch_that_is_too_large_is_split() {
    let collector = azure(then_accepted(vec![NO_CONTENT, ScriptedResponse::status(413)]));
    let (_folder, file) = secret("hunter2");
    let running = start(config("halves", &collector, application(&collector, &file)));
    running.rows(&["r0"]);
    collector.wait_for_requests(2);
    running.rows(&["r1", "r2", "r3"]);
    collector.wait_for_requests(5);
    let (value, left) = running.drain();
    assert_eq!((value("rows_delivered"), left.len()), (4, 0));
    assert_eq!(records(&collector, "Custom-Links").len(), 4);
}

#[test]
fn a_machine_posts_with_its_managed_identity() {
    let collector = azure(then_accepted(vec![]));
    let login = AzureLogin::ManagedIdentity {
        imds_url: Some(
            format!("http://{}/metadata/instance", collector.address()).parse().unwrap(),
        ),
        client_id: Some("c1".to_owned()),
    };
    let running = start(config("machine", &collector, login));
    running.alerts(&["a0"]);
    let requests = collector.wait_for_requests(2);
    assert_eq!(requests[0].method, "GET");
    let query = "api-version=2018-02-01&resource=https%3A%2F%2Fmonitor.azure.com&client_id=c1";
    assert_eq!(requests[0].query, query);
    assert_eq!(requests[1].header("authorization"), "Bearer t0");
    drop(running.drain());
}

#[test]
fn an_unavailable_metadata_service_is_queried_again() {
    let mut token_requests = 0;
    let collector = Collector::start(move |_, request: &RecordedRequest| {
        if request.path.starts_with(INGEST) {
            return NO_CONTENT;
        }
        token_requests += 1;
        match token_requests {
            1 => ScriptedResponse::status(410),
            _ => ScriptedResponse::Status(
                200,
                vec![],
                json!({ "access_token": "t", "expires_in": "10" }).to_string(),
            ),
        }
    });
    let login = AzureLogin::ManagedIdentity {
        imds_url: Some(format!("http://{}/", collector.address()).parse().unwrap()),
        client_id: None,
    };
    let running = start(config("away", &collector, login));
    running.alerts(&["a0"]);
    let requests = collector.wait_for_requests(3);
    assert!((requests[1].at - requests[0].at).as_secs() >= 2);
    // A token that expires soon is not reused.
    running.alerts(&["a1"]);
    assert!(paths(&collector).len() >= 3);
    collector.wait_for_requests(5);
    let (value, _) = running.drain();
    assert_eq!((value("alerts_delivered"), value("deliveries_retried")), (2, 0));
}

#[test]
fn a_replaced_client_secret_applies() {
    let collector = azure(then_accepted(vec![]));
    let (_folder, file) = secret("expired");
    let running = start(config("expired", &collector, application(&collector, &file)));
    running.alerts(&["a0"]);
    collector.wait_for_requests(2);
    std::fs::write(&file, "hunter2").unwrap();
    crate::wait_until("delivered", || running.value("alerts_delivered") == 1);
    let log = sensor_tests::captured_logs("sink=\"expired\"").join("\n");
    assert!(log.contains("check tenant, client_id and client_secret"), "{log}");
    drop(running.drain());
}

#[test]
fn a_failed_stream_does_not_resend_the_others() {
    let collector = azure(then_accepted(vec![]));
    let (_folder, file) = secret("hunter2");
    let mut failed = 0;
    let endpoint = Collector::start(move |_, request: &RecordedRequest| {
        let fails = request.path.ends_with("NetsensorLoss_CL") && failed < 2;
        failed += usize::from(fails);
        if fails { ScriptedResponse::status(404) } else { NO_CONTENT }
    });
    let sink = config("streams", &endpoint, application(&collector, &file));
    let running = start(sink);
    running.rows(&["r0", "r1"]);
    running.report_loss();
    endpoint.wait_for_requests(4);
    let (value, left) = running.drain();
    assert_eq!((value("rows_delivered"), left.len()), (3, 0));
    let requests = endpoint.requests();
    let streams: Vec<&str> =
        requests.iter().map(|request| request.path.rsplit('/').next().unwrap()).collect();
    let loss = "Custom-NetsensorLoss_CL";
    assert_eq!(streams, ["Custom-Links", loss, loss, loss]);
    let log = sensor_tests::captured_logs("sink=\"streams\"").join("\n");
    assert!(log.contains("check endpoint, dcr and the streams of the rule"), "{log}");
}
