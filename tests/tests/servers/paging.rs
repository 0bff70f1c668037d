//! Paging without progress: a pull ends as soon as a page repeats the items of an earlier one.

use std::sync::{Arc, Mutex};

use sensor_tests::servers::{InterceptingProxy, MockWebServer, ProxyAction, stix_indicator};
use sensor_user::intel::{Cursor, FeedKind, FeedQuery, Intel, MispQuery, TaxiiQuery};
use sensor_user::telemetry::control::FeedReport;
use serde_json::{Value, json};

use super::end_to_end::StoredFeed;
use super::{Puller, sentinel};

const MEDIA: (&str, &str) = ("Content-Type", "application/taxii+json;version=2.1");
const OBJECTS: &str = "/r/collections/c/objects/";
const SEARCH: &str = "/attributes/restSearch";

/// A page of the items with these numbers, and the link to another.
type Page<'p> = (&'p [u32], Option<&'p str>);

fn objects((items, next): Page<'_>) -> String {
    let items: Vec<Value> =
        items.iter().map(|id| json!({ "type": "indicator", "id": id })).collect();
    json!({ "more": next.is_some(), "next": next, "objects": items }).to_string()
}

fn attributes((items, _): Page<'_>) -> String {
    let items: Vec<Value> = items.iter().map(|id| json!({ "id": id, "type": "ip-dst" })).collect();
    json!({ "response": { "Attribute": items } }).to_string()
}

fn values((items, next): Page<'_>) -> String {
    let items: Vec<Value> = items.iter().map(|id| json!({ "name": id })).collect();
    let next = next.map(|token| format!("https://m.example/q?$skipToken={token}"));
    json!({ "value": items, "nextLink": next }).to_string()
}

/// Pulls these pages, of which the last one is repeated for ever; returns the error ("" for none) and the
/// number of requests.
async fn pull(
    puller: &Puller,
    site: &MockWebServer,
    path: &str,
    pages: Vec<String>,
) -> (String, usize) {
    site.remove(path);
    for page in pages {
        site.enqueue_response(path, 200, &[MEDIA], page);
    }
    site.take_requests();
    let pulled = puller.pull(&Cursor::Start).await;
    let error = pulled.err().map(|error| error.to_string()).unwrap_or_default();
    (error, site.take_requests().len())
}

#[tokio::test]
async fn repeated_pages_of_taxii_end_the_pull() {
    let site = MockWebServer::start().await;
    let mut puller = Puller::new(FeedKind::Taxii2, &site.url("/r/collections/c/"));
    puller.feed.query = FeedQuery::Taxii(TaxiiQuery { page_size: 2, ..TaxiiQuery::default() });
    let again = |page, earlier| format!("page {page} has the items of page {earlier} again");
    for (pages, error, requests) in [
        // The server ignores `next`; with another link each time; with the objects in another order.
        (&[(&[1, 2][..], Some("x"))][..], again(2, 1), 2),
        (&[(&[1, 2], Some("x")), (&[1, 2], Some("y"))], again(2, 1), 2),
        (&[(&[1, 2], Some("x")), (&[2, 1], None)], again(2, 1), 2),
        // Two and three pages in a circle.
        (&[(&[1, 2], Some("x")), (&[3], Some("y")), (&[1, 2], Some("x"))], again(3, 1), 3),
        (
            &[(&[1], Some("x")), (&[2], Some("y")), (&[3], Some("z")), (&[2], Some("y"))],
            again(4, 2),
            4,
        ),
        // An empty page between them.
        (&[(&[1], Some("x")), (&[], Some("y")), (&[1], Some("z"))], again(3, 1), 3),
        // One `next` for all pages, as medallion has it, and an object in two pages.
        (&[(&[1, 2], Some("x")), (&[2, 3], Some("x")), (&[], None)], String::new(), 3),
    ] {
        let bodies = pages.iter().map(|page| objects(*page)).collect();
        let (failed, count) = pull(&puller, &site, OBJECTS, bodies).await;
        assert!(
            failed.starts_with(&error) && failed.is_empty() == error.is_empty(),
            "{pages:?}: {failed}"
        );
        assert_eq!(count, requests, "{pages:?}");
        assert!(
            error.is_empty() || failed.contains("the server ignores next; report it"),
            "{failed}"
        );
    }
}

#[tokio::test]
async fn empty_pages_with_new_links_are_bounded() {
    let site = MockWebServer::start().await;
    let puller = Puller::new(FeedKind::Taxii2, &site.url("/r/collections/c/"));
    let links: Vec<String> = (0..200).map(|number| format!("n{number}")).collect();
    let pages = links.iter().map(|link| objects((&[], Some(link)))).collect();
    let (error, requests) = pull(&puller, &site, OBJECTS, pages).await;
    assert!(error.starts_with("100 pages in a row without an item"), "{error}");
    assert_eq!(requests, 100);
    // A few of them are valid.
    let mut pages: Vec<String> =
        links.iter().take(50).map(|link| objects((&[], Some(link)))).collect();
    pages.push(objects((&[1], None)));
    assert_eq!(pull(&puller, &site, OBJECTS, pages).await, (String::new(), 51));
}

#[tokio::test]
async fn repeated_pages_of_misp_end_the_pull() {
    let site = MockWebServer::start().await;
    let mut puller = Puller::new(FeedKind::Misp, &site.url("/"));
    let mut query = MispQuery { page_size: 2, ..MispQuery::default() };
    for is_filtered in [false, true] {
        for (pages, error, requests) in [
            (
                &[&[1, 2][..]][..],
                "page 2 has the items of page 1 again, so the server ignores page; raise page_size until",
                2,
            ),
            (&[&[1, 2], &[3, 4], &[1, 2]], "page 3 has the items of page 1 again", 3),
            (&[&[1, 2, 3], &[3, 2, 1]], "page 2 has the items of page 1 again", 2),
            (&[&[1, 2], &[2, 3], &[]], "", 3),
        ] {
            puller.feed.query = FeedQuery::Misp(query.clone());
            let bodies = pages.iter().map(|page| attributes((page, None))).collect();
            let (failed, count) = pull(&puller, &site, SEARCH, bodies).await;
            assert!(
                failed.starts_with(error) && failed.is_empty() == error.is_empty(),
                "{pages:?}: {failed}"
            );
            assert_eq!(count, requests, "{pages:?}");
        }
        // The pages are then shorter than requested, and only an empty one is the last.
        query.filter.insert("enforceWarninglist".to_owned(), json!(true));
        if is_filtered {
            let bodies = vec![attributes((&[1], None)), attributes((&[1], None))];
            let (failed, count) = pull(&puller, &site, SEARCH, bodies).await;
            assert!(failed.contains("the items of page 1 again") && count == 2, "{failed}");
        }
    }
}

/// An error with status 200 is no empty page.
#[tokio::test]
async fn a_page_that_is_no_response_of_misp_is_an_error() {
    let site = MockWebServer::start().await;
    let mut puller = Puller::new(FeedKind::Misp, &site.url("/"));
    let query = MispQuery { page_size: 1, ..MispQuery::default() };
    puller.feed.query = FeedQuery::Misp(query);
    let good = attributes((&[1], None));
    for (pages, number) in [
        (vec![json!({ "message": "busy" }).to_string()], 1),
        (vec![good.clone(), "{}".to_owned()], 2),
        (vec![good.clone(), "[]".to_owned()], 2),
    ] {
        let (failed, count) = pull(&puller, &site, SEARCH, pages).await;
        assert!(failed.starts_with(&format!("page {number} is no response of MISP")), "{failed}");
        assert_eq!(count, number);
    }
    // MISP's own form of nothing.
    let (failed, _) =
        pull(&puller, &site, SEARCH, vec![good, "{\"response\":[]}".to_owned()]).await;
    assert_eq!(failed, "");
}

#[tokio::test]
async fn repeated_pages_of_sentinel_end_the_pull() {
    let (site, login) = (MockWebServer::start().await, MockWebServer::start().await);
    login.set_response(sentinel::TOKEN, sentinel::token(3600));
    let puller = sentinel::puller(&site, &login);
    for (pages, error, requests) in [
        (&[(&[1, 2][..], Some("a"))][..], "page 2 has the items of page 1 again", 2),
        (&[(&[1], Some("a")), (&[1], Some("b"))], "page 2 has the items of page 1 again", 2),
        (
            &[(&[1], Some("a")), (&[2], Some("b")), (&[1], Some("a"))],
            "page 3 has the items of page 1 again",
            3,
        ),
        (&[(&[], Some("a"))], "its pages link to themselves", 2),
        (&[(&[1], Some("a")), (&[2], None)], "", 2),
    ] {
        let bodies = pages.iter().map(|page| values(*page)).collect();
        let (failed, count) = pull(&puller, &site, sentinel::QUERY, bodies).await;
        assert!(
            failed.starts_with(error) && failed.is_empty() == error.is_empty(),
            "{pages:?}: {failed}"
        );
        assert_eq!(count, requests, "{pages:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_shows_the_page_of_a_running_pull() {
    let site = MockWebServer::start().await;
    for (number, next) in [(1, Some("x")), (2, Some("y")), (3, None)] {
        let objects = [stix_indicator(number, "203.0.113.5", 0, false)];
        let page = json!({ "more": next.is_some(), "next": next, "objects": objects });
        site.enqueue_response(OBJECTS, 200, &[MEDIA], page.to_string());
    }
    let intel: Arc<Mutex<Option<Arc<Intel>>>> = Arc::default();
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (shared, reports) = (Arc::clone(&intel), Arc::clone(&seen));
    let observe = move |_: usize, _: &mut String| {
        let intel = shared.lock().unwrap();
        let status = &intel.as_ref().unwrap().status()[0];
        let report = FeedReport::new(status, false);
        reports.lock().unwrap().push(serde_json::to_value(report).unwrap());
        ProxyAction::Forward
    };
    let port = site.url("").rsplit(':').next().unwrap().parse().unwrap();
    let proxy = InterceptingProxy::start(port, observe).await;
    let url = format!("http://127.0.0.1:{}/r/collections/c/", proxy.port());
    let stored = StoredFeed::new(Puller::new(FeedKind::Taxii2, &url));
    let before = FeedReport::new(&stored.intel.status()[0], false);
    assert_eq!((before.pulling, before.last_pull), (None, None));
    *intel.lock().unwrap() = Some(Arc::clone(&stored.intel));
    stored.pull(&[]).await;
    let pages: Vec<Value> =
        seen.lock().unwrap().iter().map(|it| it["Pulling"]["Page"].clone()).collect();
    assert_eq!(pages, [1, 2, 3]);
    assert!(seen.lock().unwrap().iter().all(|it| it["Pulling"]["Since"].is_string()));
    let after = FeedReport::new(&stored.intel.status()[0], false);
    assert!(after.pulling.is_none() && after.last_good.is_some(), "{after:?}");
}
