//! TAXII 2.1 with medallion.

use std::sync::{Arc, Mutex};

use sensor_tests::servers::{InterceptingProxy, Medallion, ProxyAction, stix_indicator};
use sensor_user::intel::{Cursor, Extent, FeedKind, FeedQuery, TaxiiQuery};
use serde_json::{Value, json};

use super::{Puller, start};

const OBJECTS: [&str; 1] = ["objects"];

fn puller(server: &Medallion, path: &str) -> Puller {
    Puller::new(FeedKind::Taxii2, &server.url(path)).basic(Medallion::USER, server.password_file())
}

/// The same through `proxy`, directly at the collection of indicators.
fn puller_through(server: &Medallion, proxy: &InterceptingProxy) -> Puller {
    let path = Medallion::collection(Medallion::ID);
    let url = format!("http://127.0.0.1:{}/{path}", proxy.port());
    Puller::new(FeedKind::Taxii2, &url).basic(Medallion::USER, server.password_file())
}

fn page_size(puller: &mut Puller, page_size: u32) {
    puller.feed.query = FeedQuery::Taxii(TaxiiQuery { page_size, ..TaxiiQuery::default() });
}

fn indicators(numbers: std::ops::Range<u32>) -> Vec<Value> {
    numbers.map(|number| stix_indicator(number, "203.0.113.5", 0, false)).collect()
}

fn collections(cursor: &Cursor) -> Vec<(&str, &str)> {
    let Cursor::Collections(all) = cursor else { panic!("{cursor:?}") };
    all.iter().map(|(url, after)| (url.as_str(), after.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_collections_are_pulled_in_pages_and_then_only_additions() {
    let server = start!(Medallion);
    server.add(Medallion::ID, &indicators(0..250));
    let identity = json!({
        "type": "identity", "spec_version": "2.1", "name": "x", "identity_class": "system",
        "id": "identity--00000000-0000-4000-8000-000000000001",
        "created": "2026-11-01T00:00:00.000Z", "modified": "2026-11-01T00:00:00.000Z",
    });
    server.add(Medallion::OTHER, &[identity, stix_indicator(900, "203.0.113.9", 0, false)]);
    let puller = puller(&server, "taxii2/");
    let first = puller.new_from(&Cursor::Start).await;
    assert_eq!(first.extent, Extent::Snapshot);
    // Three pages of one collection, one of the other, which has a single relevant object.
    assert_eq!(first.documents.len(), 4);
    let ids = first.texts(&OBJECTS, "id");
    assert_eq!(ids.len(), 251);
    assert!(
        ids.windows(2).all(|pair| pair[0] != pair[1])
            && ids.iter().all(|id| id.starts_with("indicator--"))
    );
    let after = collections(&first.cursor);
    assert_eq!(after.len(), 2);
    assert!(
        after.iter().all(|(url, after)| url.contains("/feeds/collections/") && after.len() == 27),
        "{after:?}"
    );

    // `{}` is an empty page: nothing new.
    assert!(puller.pull(&first.cursor).await.unwrap().is_none());

    // A new indicator, and a revoked one.
    server.add(
        Medallion::ID,
        &[stix_indicator(250, "203.0.113.6", 0, false), stix_indicator(3, "203.0.113.5", 9, true)],
    );
    let second = puller.new_from(&first.cursor).await;
    assert_eq!(second.extent, Extent::Changes { replaced: Vec::new() });
    let items = second.items(&OBJECTS);
    assert_eq!(items.len(), 2);
    assert!(
        items
            .iter()
            .any(|item| item["revoked"] == true && item["id"].as_str().unwrap().ends_with("0003"))
    );
    assert!(puller.pull(&second.cursor).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_url_of_a_server_is_accepted() {
    let server = start!(Medallion);
    server.add(Medallion::ID, &indicators(0..3));
    server.add(Medallion::OTHER, &indicators(5..6));
    let collection = Medallion::collection(Medallion::ID);
    for (path, names, count) in [
        ("taxii2", &[][..], 4),
        ("feeds/", &[], 4),
        ("feeds/collections/", &[], 4),
        ("taxii2/", &["others"], 1),
        ("feeds", &[Medallion::ID], 3),
        (collection.as_str(), &[], 3),
        (&format!("{collection}objects/"), &[], 3),
        (collection.trim_end_matches('/'), &["ignored"], 3),
    ] {
        let mut puller = puller(&server, path);
        let collections = names.iter().map(ToString::to_string).collect();
        puller.feed.query = FeedQuery::Taxii(TaxiiQuery { collections, ..TaxiiQuery::default() });
        let found = puller.new_from(&Cursor::Start).await;
        assert_eq!(found.items(&OBJECTS).len(), count, "{path} {names:?}");
    }
    for (path, names, expected) in [
        (
            "taxii2/",
            &["nope"][..],
            "has no collection \"nope\"; there are \"indicators\", \"others\", \"secret\"",
        ),
        ("taxii2/", &["secret"], "\"secret\" is not readable for this user"),
        ("empty/", &[], "lists no collection"),
        ("feeds/collections/11111111-1111-4111-8111-111111111111/", &[], "status 404"),
        ("nothing/", &[], "status 404"),
    ] {
        let mut puller = puller(&server, path);
        let collections = names.iter().map(ToString::to_string).collect();
        puller.feed.query = FeedQuery::Taxii(TaxiiQuery { collections, ..TaxiiQuery::default() });
        let error = puller.pull_error(&Cursor::Start).await;
        assert!(error.contains(expected), "{path} {names:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_and_an_unreachable_server_are_reported_and_change_nothing() {
    let mut server = start!(Medallion);
    server.add(Medallion::ID, &indicators(0..2));
    let puller = puller(&server, "taxii2/");
    let password = server.password_file();
    std::fs::write(&password, "wrong\n").unwrap();
    let error = puller.pull_error(&Cursor::Start).await;
    assert!(error.contains("status 401 Unauthorized; check user, password"), "{error}");
    // The password file is read for each pull.
    std::fs::write(&password, format!("{}\n", Medallion::PASSWORD)).unwrap();
    let first = puller.new_from(&Cursor::Start).await;
    server.stop();
    let error = puller.pull_error(&first.cursor).await;
    assert!(error.contains("no response") && error.contains("refused"), "{error}");
    server.restart();
    server.add(Medallion::ID, &indicators(7..8));
    assert_eq!(puller.new_from(&first.cursor).await.items(&OBJECTS).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_page_is_requested_with_the_same_parameters() {
    let server = start!(Medallion);
    server.add(Medallion::ID, &indicators(0..25));
    let proxy = InterceptingProxy::start(server.port(), |_, _| ProxyAction::Forward).await;
    let mut puller = puller_through(&server, &proxy);
    page_size(&mut puller, 10);
    let found = puller.new_from(&Cursor::Start).await;
    assert_eq!((found.documents.len(), found.items(&OBJECTS).len()), (3, 25));
    let heads = proxy.request_heads();
    let query = "/objects/?limit=10&match%5Btype%5D=indicator%2Cmarking-definition";
    assert_eq!(heads.len(), 3);
    for (number, head) in heads.iter().enumerate() {
        let line = head.lines().next().unwrap();
        assert!(line.contains(query) && line.contains("&next=") == (number > 0), "{line}");
        let head = head.to_ascii_lowercase();
        assert!(head.contains("accept: application/taxii+json;version=2.1\r\n"), "{head}");
        assert!(head.contains("authorization: basic c2vuc29yonb3\r\n"), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_page_token_restarts_the_paging_without_loss() {
    let server = start!(Medallion);
    // The twenty objects of one POST have the same date: continuing after it would lose some.
    server.add(Medallion::ID, &indicators(0..5));
    server.add(Medallion::ID, &indicators(5..25));
    // The server gets a page token that it does not know, as after its `session_timeout`.
    let invalidate = |number: usize, head: &mut String| {
        if number == 3
            && let Some((before, after)) = head.split_once("&next=")
        {
            *head = format!("{before}&next=x{after}");
        }
        ProxyAction::Forward
    };
    let proxy = InterceptingProxy::start(server.port(), invalidate).await;
    let mut puller = puller_through(&server, &proxy);
    page_size(&mut puller, 10);
    let found = puller.new_from(&Cursor::Start).await;
    let mut ids = found.texts(&OBJECTS, "id");
    ids.dedup();
    assert_eq!(ids.len(), 25);
    let heads = proxy.request_heads();
    assert!(
        heads[2].contains("next=")
            && heads[3].contains("added_after=")
            && !heads[3].contains("next="),
        "{heads:?}"
    );
    assert!(puller.pull(&found.cursor).await.unwrap().is_none());

    // A server that never accepts its own page tokens is given up.
    let invalidate = |_: usize, head: &mut String| {
        *head = head.replace("&next=", "&next=x");
        ProxyAction::Forward
    };
    let proxy = InterceptingProxy::start(server.port(), invalidate).await;
    let mut puller = puller_through(&server, &proxy);
    page_size(&mut puller, 10);
    let error = puller.pull_error(&Cursor::Start).await;
    assert!(
        error.contains("refuses its own link to the next page, also after 5 restarts"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_restart_between_pages_fails_the_pull_and_the_next_is_complete() {
    let server = start!(Medallion);
    server.add(Medallion::ID, &indicators(0..25));
    let port = server.port();
    let server = Arc::new(Mutex::new(server));
    let shared = Arc::clone(&server);
    let restart = move |number: usize, _: &mut String| {
        if number == 2 {
            let mut server = shared.lock().unwrap();
            server.restart();
            server.add(Medallion::ID, &indicators(0..25));
        }
        // The request is retried, and that connection is closed too.
        if matches!(number, 2 | 3) { ProxyAction::Close } else { ProxyAction::Forward }
    };
    let proxy = InterceptingProxy::start(port, restart).await;
    let mut puller = puller_through(&server.lock().unwrap(), &proxy);
    page_size(&mut puller, 10);
    let error = puller.pull_error(&Cursor::Start).await;
    assert!(error.contains("no response"), "{error}");
    let found = puller.new_from(&Cursor::Start).await;
    assert_eq!(found.items(&OBJECTS).len(), 25);

    // The client cannot detect the restart: the server reports an expired page token.
    let shared = Arc::clone(&server);
    let restart = move |number: usize, _: &mut String| {
        if number == 2 {
            let mut server = shared.lock().unwrap();
            server.restart();
            server.add(Medallion::ID, &indicators(0..25));
        }
        ProxyAction::Forward
    };
    let proxy = InterceptingProxy::start(port, restart).await;
    let mut puller = puller_through(&server.lock().unwrap(), &proxy);
    page_size(&mut puller, 10);
    let found = puller.new_from(&Cursor::Start).await;
    let mut ids = found.texts(&OBJECTS, "id");
    ids.dedup();
    assert_eq!(ids.len(), 25);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_pages_together_have_a_limit() {
    let server = start!(Medallion);
    server.add(Medallion::ID, &indicators(0..250));
    let mut puller = puller(&server, "feeds/");
    puller.feed.max_bytes = 60_000;
    let error = puller.pull_error(&Cursor::Start).await;
    assert!(error.contains("larger than 60000 bytes"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pull_follows_the_refresh_interval_or_changed_collections() {
    let server = start!(Medallion);
    server.add(Medallion::ID, &indicators(0..3));
    let mut puller = puller(&server, "feeds/");
    let first = puller.new_from(&Cursor::Start).await;
    // Simulates an earlier configuration with another collection.
    let Cursor::Collections(mut known) = first.cursor.clone() else { panic!() };
    known.pop_last();
    let again = puller.new_from(&Cursor::Collections(known)).await;
    assert_eq!((again.extent.clone(), again.items(&OBJECTS).len()), (Extent::Snapshot, 3));
    puller.feed.full_refresh_interval = std::time::Duration::ZERO;
    let again = puller.new_from(&first.cursor).await;
    assert_eq!((again.extent.clone(), again.items(&OBJECTS).len()), (Extent::Snapshot, 3));
}
