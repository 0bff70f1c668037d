//! Feeds of MISP events: a manifest and a file per event, on a web server.

use sensor_tests::servers::MockWebServer;
use sensor_user::intel::{Cursor, Extent, FeedKind};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Puller;

const IDS: [&str; 3] = [
    "5a8d5a5c-1f1c-4c0e-9d3b-0a0027000001",
    "5a8d5a5c-1f1c-4c0e-9d3b-0a0027000002",
    "5a8d5a5c-1f1c-4c0e-9d3b-0a0027000003",
];

fn event(id: &str, address: &str) -> String {
    json!({ "Event": { "uuid": id, "Attribute": [{ "type": "ip-dst", "value": address }] } })
        .to_string()
}

fn path(id: &str) -> String {
    format!("/feed/{id}.json")
}

/// Serves a manifest: events with their timestamps and further members.
fn manifest(site: &MockWebServer, events: &[(&str, i64, Value)]) {
    let mut all = serde_json::Map::new();
    for (id, time, more) in events {
        let mut line = json!({ "info": "x", "timestamp": time.to_string() });
        if let (Value::Object(line), Value::Object(more)) = (&mut line, more.clone()) {
            line.extend(more);
        }
        all.insert((*id).to_owned(), line);
    }
    site.set_response("/feed/manifest.json", Value::Object(all).to_string());
}

fn lines(site: &MockWebServer) -> Vec<String> {
    site.take_requests()
        .into_iter()
        .map(|request| request.line.replacen("GET /feed/", "", 1))
        .collect()
}

fn replaced(ids: &[&str]) -> Extent {
    Extent::Changes { replaced: ids.iter().map(ToString::to_string).collect() }
}

#[tokio::test]
async fn events_are_fetched_once_and_again_when_they_change() {
    let site = MockWebServer::start().await;
    for (id, address) in IDS.iter().zip(["203.0.113.1", "203.0.113.2", "203.0.113.3"]) {
        site.set_response(&path(id), event(id, address));
    }
    let none = || json!({});
    manifest(&site, &[(IDS[0], 10, none()), (IDS[1], 20, none()), ("../../etc/passwd", 1, none())]);
    let puller = Puller::new(FeedKind::MispFeed, &site.url("/feed/manifest.json"));
    let first = puller.new_from(&Cursor::Start).await;
    assert_eq!((first.extent.clone(), first.documents.len()), (Extent::Snapshot, 2));
    let file = |id: &str| format!("{id}.json");
    assert_eq!(lines(&site), ["manifest.json".to_owned(), file(IDS[0]), file(IDS[1])]);
    assert!(puller.pull(&first.cursor).await.unwrap().is_none());
    assert_eq!(lines(&site), ["manifest.json"]);

    // One event has changed, one is removed, one is new.
    manifest(&site, &[(IDS[1], 21, none()), (IDS[2], 5, none())]);
    let second = puller.new_from(&first.cursor).await;
    assert_eq!(second.extent, replaced(&[IDS[1], IDS[2], IDS[0]]));
    assert_eq!(second.documents.len(), 2);
    let Cursor::Events(events) = &second.cursor else { panic!("{:?}", second.cursor) };
    assert_eq!(
        events.iter().map(|(id, time)| (id.as_str(), *time)).collect::<Vec<_>>(),
        [(IDS[1], 21), (IDS[2], 5)]
    );

    // All events are removed.
    manifest(&site, &[]);
    let third = puller.new_from(&second.cursor).await;
    assert_eq!((third.extent.clone(), third.documents.len()), (replaced(&[IDS[1], IDS[2]]), 0));
}

#[tokio::test]
async fn an_event_with_a_wrong_digest_is_fetched_again() {
    let site = MockWebServer::start().await;
    let text = event(IDS[1], "203.0.113.2");
    site.set_response(&path(IDS[0]), event(IDS[0], "203.0.113.1"));
    site.set_response(&path(IDS[1]), format!("{text} "));
    let digest: [u8; 32] = Sha256::digest(&text).into();
    let digest: String =
        digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let signed = || json!({ "integrity:sha256": digest });
    manifest(&site, &[(IDS[0], 1, json!({})), (IDS[1], 1, signed()), (IDS[2], 1, json!({}))]);
    let puller = Puller::new(FeedKind::MispFeed, &site.url("/feed"));
    let first = puller.new_from(&Cursor::Start).await;
    assert_eq!(first.texts(&["Event", "Attribute"], "value"), ["203.0.113.1"]);
    site.set_response(&path(IDS[1]), text);
    let second = puller.new_from(&first.cursor).await;
    assert_eq!(second.texts(&["Event", "Attribute"], "value"), ["203.0.113.2"]);
    assert_eq!(second.extent, replaced(&[IDS[1]]));
    // The third event has no file: nothing is new, which is an error.
    let error = puller.pull_error(&second.cursor).await;
    assert!(error.contains("status 404"), "{error}");
}

#[tokio::test]
async fn an_event_that_is_no_event_costs_only_itself() {
    let site = MockWebServer::start().await;
    let all: Vec<_> = IDS.iter().map(|id| (*id, 1, json!({}))).collect();
    manifest(&site, &all);
    // A mark and half of an emoji in the manifest cost nothing.
    let text = format!(
        "\u{feff}{{\"{}\":{{\"timestamp\":1,\"info\":\"\\ud83d\"}},\
         \"{}\":{{\"timestamp\":1}},\"{}\":{{\"timestamp\":1}}}}",
        IDS[0], IDS[1], IDS[2]
    );
    site.set_response("/feed/manifest.json", text);
    site.set_response(&path(IDS[0]), "<!DOCTYPE html><title>not found</title>");
    site.set_response(&path(IDS[1]), "{\"Event\":{");
    site.set_response(&path(IDS[2]), event(IDS[2], "203.0.113.3"));
    let puller = Puller::new(FeedKind::MispFeed, &site.url("/feed"));
    let first = puller.new_from(&Cursor::Start).await;
    assert_eq!(first.texts(&["Event", "Attribute"], "value"), ["203.0.113.3"]);
    let Cursor::Events(events) = &first.cursor else { panic!("{:?}", first.cursor) };
    assert_eq!(events.keys().collect::<Vec<_>>(), [IDS[2]]);
    // The others are requested again.
    site.set_response(&path(IDS[0]), event(IDS[0], "203.0.113.1"));
    let second = puller.new_from(&first.cursor).await;
    assert_eq!(second.texts(&["Event", "Attribute"], "value"), ["203.0.113.1"]);
}

#[tokio::test]
async fn an_invalid_manifest_is_refused() {
    let site = MockWebServer::start().await;
    let puller = Puller::new(FeedKind::MispFeed, &site.url("/feed/"));
    for (body, error_part) in [
        ("[]", "not a manifest (invalid type"),
        ("{\"a\":{", "ends inside its JSON"),
        ("<html>", "web page"),
        ("", "empty"),
    ] {
        site.set_response("/feed/manifest.json", body);
        let error = puller.pull_error(&Cursor::Start).await;
        assert!(error.contains(error_part), "{body}: {error}");
    }
}

#[tokio::test]
async fn one_file_for_all_events_is_refused() {
    let site = MockWebServer::start().await;
    for id in IDS {
        site.set_response(&path(id), event(IDS[0], "203.0.113.1"));
    }
    let puller = Puller::new(FeedKind::MispFeed, &site.url("/feed"));
    manifest(&site, &[(IDS[0], 1, json!({})), (IDS[1], 1, json!({})), (IDS[2], 1, json!({}))]);
    let error = puller.pull_error(&Cursor::Start).await;
    assert!(error.starts_with("3 events have the same file, the last one"), "{error}");
    // A copy of one event under another name is none of these.
    site.set_response(&path(IDS[2]), event(IDS[2], "203.0.113.3"));
    assert_eq!(puller.new_from(&Cursor::Start).await.documents.len(), 3);
}
