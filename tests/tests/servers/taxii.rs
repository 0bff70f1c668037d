//! TAXII 2.1 cases that neither medallion nor opentaxii produces.

use sensor_tests::servers::MockWebServer;
use sensor_user::intel::{Cursor, FeedKind};
use serde_json::json;

use super::Puller;

const MEDIA: &str = "application/taxii+json;version=2.1";
const OBJECTS: &str = "/r/collections/c/objects/";

fn page(objects: usize, more: bool, next: Option<&str>) -> String {
    let objects: Vec<_> = (0..objects).map(|_| json!({ "type": "indicator" })).collect();
    json!({ "more": more, "next": next, "objects": objects }).to_string()
}

fn puller(site: &MockWebServer, path: &str) -> Puller {
    Puller::new(FeedKind::Taxii2, &site.url(path))
}

fn taxii(site: &MockWebServer, path: &str, body: &str) {
    site.enqueue_response(path, 200, &[("Content-Type", MEDIA)], body);
}

#[tokio::test]
async fn more_without_next_continues_from_the_date_of_the_page() {
    let site = MockWebServer::start().await;
    let headers = |last| [("Content-Type", MEDIA), ("X-TAXII-Date-Added-Last", last)];
    let (first, second) = ("2026-11-01T00:00:00.5Z", "2026-11-01T00:00:01Z");
    site.enqueue_response(OBJECTS, 200, &headers(first), page(2, true, None));
    site.enqueue_response(OBJECTS, 200, &headers(second), page(1, false, None));
    let new = puller(&site, "/r/collections/c/").new_from(&Cursor::Start).await;
    assert_eq!(new.items(&["objects"]).len(), 3);
    let requests = site.take_requests();
    assert!(!requests[0].line.contains("added_after"), "{}", requests[0].line);
    assert!(
        requests[1].line.ends_with("&added_after=2026-11-01T00%3A00%3A00.500000Z"),
        "{}",
        requests[1].line
    );
    let Cursor::Collections(after) = &new.cursor else { panic!("{:?}", new.cursor) };
    let after: Vec<&String> = after.values().collect();
    assert_eq!(after, ["2026-11-01T00:00:01.000000Z"]);
}

#[tokio::test]
async fn paging_without_progress_ends() {
    let site = MockWebServer::start().await;
    let last = ("X-TAXII-Date-Added-Last", "2026-11-01T00:00:00Z");
    for (headers, body, requests) in [
        // No date and no `next`; the same date repeatedly; an empty page that links to itself.
        (&[("Content-Type", MEDIA)][..], page(1, true, None), 1),
        (&[("Content-Type", MEDIA), last], page(1, true, None), 2),
        (&[("Content-Type", MEDIA)], page(0, true, Some("x")), 2),
    ] {
        site.remove(OBJECTS);
        site.enqueue_response(OBJECTS, 200, headers, body.clone());
        let error = puller(&site, "/r/collections/c/").pull_error(&Cursor::Start).await;
        assert!(error.contains("reports more pages without a link"), "{body}: {error}");
        assert_eq!(site.take_requests().len(), requests, "{body}");
    }
}

#[tokio::test]
async fn a_response_that_is_not_taxii_is_reported() {
    let site = MockWebServer::start().await;
    for (kind, body, error_part) in [
        ("application/json", "{}", "media type \"application/json\" is not that of TAXII 2.1"),
        ("application/taxii+json;version=2.0", "{}", "version=2.0\" is not that of TAXII 2.1"),
        ("text/html", "<p>log in", "web page"),
        (MEDIA, "{\"objects\":[{", "ends inside its JSON"),
        (MEDIA, "", "empty"),
    ] {
        site.remove(OBJECTS);
        site.enqueue_response(OBJECTS, 200, &[("Content-Type", kind)], body);
        let error = puller(&site, "/r/collections/c/").pull_error(&Cursor::Start).await;
        assert!(error.contains(error_part), "{kind}: {error}");
    }
    taxii(&site, "/t/", "[]");
    let error = puller(&site, "/t/").pull_error(&Cursor::Start).await;
    assert!(error.contains("is no resource of TAXII 2.1"), "{error}");
}

#[tokio::test]
async fn an_unavailable_or_foreign_api_root_does_not_hide_the_others() {
    let (site, other) = (MockWebServer::start().await, MockWebServer::start().await);
    let roots = json!({ "api_roots": ["/gone/", other.url("/r/"), "/closed/", "/r/"] });
    taxii(&site, "/t/", &roots.to_string());
    site.enqueue_response("/closed/collections/", 403, &[], "");
    taxii(&site, "/r/collections/", &json!({ "collections": [{ "id": "c" }] }).to_string());
    taxii(&site, OBJECTS, &page(1, false, None));
    let new = puller(&site, "/t/").new_from(&Cursor::Start).await;
    assert_eq!(new.items(&["objects"]).len(), 1);
    assert!(other.take_requests().is_empty());
    // A root that fails with another status fails the pull, or its indicators would seem to be
    // removed.
    site.remove("/closed/collections/");
    site.enqueue_response("/closed/collections/", 500, &[], "");
    let error = puller(&site, "/t/").pull_error(&Cursor::Start).await;
    assert!(error.contains("status 500"), "{error}");
}

/// The server chooses the id of a collection; it is escaped as one path segment.
#[tokio::test]
async fn a_hostile_collection_id_is_escaped_in_the_path() {
    let site = MockWebServer::start().await;
    let list = json!({ "collections": [{ "id": "../../x?y=1#z" }] });
    taxii(&site, "/r/collections/", &list.to_string());
    let error = puller(&site, "/r/collections/").pull_error(&Cursor::Start).await;
    assert!(error.contains("status 404"), "{error}");
    let requests = site.take_requests();
    assert!(
        requests[1].line.starts_with("GET /r/collections/..%2F..%2Fx%3Fy=1%23z/objects/?"),
        "{}",
        requests[1].line
    );
}
