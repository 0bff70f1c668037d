//! TAXII 2.1 with opentaxii: relative API roots, strict dates, page tokens that survive a restart.

use std::sync::{Arc, Mutex};

use sensor_tests::servers::{InterceptingProxy, OpenTaxii, ProxyAction, stix_indicator};
use sensor_user::intel::{Cursor, Extent, FeedKind, FeedQuery, TaxiiQuery};
use serde_json::Value;

use super::{Puller, start};

const OBJECTS: [&str; 1] = ["objects"];

fn indicators(numbers: std::ops::Range<u32>) -> Vec<Value> {
    numbers.map(|number| stix_indicator(number, "203.0.113.5", 0, false)).collect()
}

fn puller(url: &str, server: &OpenTaxii) -> Puller {
    let mut puller =
        Puller::new(FeedKind::Taxii2, url).basic(OpenTaxii::USER, server.password_file());
    puller.feed.query = FeedQuery::Taxii(TaxiiQuery { page_size: 10, ..TaxiiQuery::default() });
    puller
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_pulled_in_pages_and_then_only_additions() {
    let server = start!(OpenTaxii);
    server.add(&indicators(0..25));
    let mut puller = puller(&server.discovery(), &server);
    let first = puller.new_from(&Cursor::Start).await;
    assert_eq!((first.extent.clone(), first.documents.len()), (Extent::Snapshot, 3));
    let mut ids = first.texts(&OBJECTS, "id");
    ids.dedup();
    assert_eq!(ids.len(), 25);
    assert!(puller.pull(&first.cursor).await.unwrap().is_none());
    server.add(&[
        stix_indicator(3, "203.0.113.5", 9, true),
        stix_indicator(30, "203.0.113.7", 0, false),
    ]);
    let second = puller.new_from(&first.cursor).await;
    assert_eq!(second.extent, Extent::Changes { replaced: Vec::new() });
    assert_eq!(second.items(&OBJECTS).len(), 2);
    assert!(second.items(&OBJECTS).iter().any(|item| item["revoked"] == true));
    // The collection, selected by its alias.
    let collections = vec!["iocs".to_owned()];
    puller.feed.query = FeedQuery::Taxii(TaxiiQuery { collections, ..TaxiiQuery::default() });
    assert_eq!(puller.new_from(&Cursor::Start).await.documents.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_and_an_empty_collection_are_distinguished() {
    let server = start!(OpenTaxii);
    let puller = puller(&server.discovery(), &server);
    // An empty collection gives an empty snapshot, and a time to continue from.
    let first = puller.new_from(&Cursor::Start).await;
    assert_eq!((first.extent.clone(), first.documents.len()), (Extent::Snapshot, 0));
    server.add(&indicators(0..1));
    assert_eq!(puller.new_from(&first.cursor).await.items(&OBJECTS).len(), 1);
    std::fs::write(server.password_file(), "wrong").unwrap();
    let error = puller.pull_error(&first.cursor).await;
    assert!(error.contains("status 401"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_between_pages_does_not_interrupt_the_pull() {
    let server = start!(OpenTaxii);
    server.add(&indicators(0..25));
    let url = server.discovery();
    let port = url.split([':', '/']).nth(4).unwrap().parse().unwrap();
    let server = Arc::new(Mutex::new(server));
    let shared = Arc::clone(&server);
    let restart = move |_: usize, head: &mut String| {
        if head.contains("next=") {
            shared.lock().unwrap().restart();
        }
        ProxyAction::Forward
    };
    let proxy = InterceptingProxy::start(port, restart).await;
    let url = format!("http://127.0.0.1:{}/taxii2/", proxy.port());
    let puller = puller(&url, &server.lock().unwrap());
    let found = puller.new_from(&Cursor::Start).await;
    assert_eq!((found.documents.len(), found.items(&OBJECTS).len()), (3, 25));
}
