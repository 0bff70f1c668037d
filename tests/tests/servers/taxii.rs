//! TAXII 2.1 cases that neither medallion nor opentaxii produces.

use sensor_tests::servers::MockWebServer;
use sensor_user::intel::{Cursor, Extent, FeedKind};
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
    let url = site.url("/r/collections/..%2F..%2Fx%3Fy=1%23z/objects/");
    assert!(error.contains(&format!("status 404 Not Found of {url}; nothing is there")), "{error}");
    let requests = site.take_requests();
    assert!(
        requests[1].line.starts_with("GET /r/collections/..%2F..%2Fx%3Fy=1%23z/objects/?"),
        "{}",
        requests[1].line
    );
}

/// An API root on another server is not requested; if no other root has a collection, the message names it.
#[tokio::test]
async fn the_reason_for_no_collection_names_each_api_root() {
    let site = MockWebServer::start().await;
    let foreign = "http://taxii.internal.example:4000/taxii2/one/";
    let other = format!("API root {foreign} is on another server than url");
    let gone = format!("API root {}: status 404 Not Found", site.url("/first/"));
    let unlisted = format!("{}: lists no API root", site.url("/t/"));
    for (discovery, parts) in [
        (json!({ "api_roots": [foreign] }), &[other.as_str()][..]),
        (json!({ "default": foreign, "api_roots": [foreign] }), &[&other]),
        (json!({ "default": "", "api_roots": [foreign] }), &[&other]),
        (json!({ "api_roots": ["http://127.0.0.1:1/r/"] }), &["/r/ has another scheme or port"]),
        (json!({ "default": "/first", "api_roots": [foreign] }), &[&gone, &other]),
        (json!({ "default": "/first/" }), &[&gone]),
        (json!({ "api_roots": ["/first"] }), &[&gone]),
        (json!({ "api_roots": [] }), &["lists no API root; set url to one"]),
        (json!({ "title": "x" }), &[&unlisted]),
        (json!({ "api_roots": ["/empty/"] }), &["lists no collection; check the URL"]),
        (json!({ "api_roots": ["/none/"] }), &["lists no collection; check the URL"]),
        (json!({ "api_roots": ["/closed/", foreign] }), &["only \"one\", \"2\"; ", &other]),
        (json!({ "api_roots": ["/closed/"] }), &["only \"one\", \"2\"; check user, password"]),
    ] {
        site.remove("/t/");
        taxii(&site, "/t/", &discovery.to_string());
        taxii(&site, "/empty/collections/", "{\"collections\":[]}");
        taxii(&site, "/none/collections/", "{}");
        let closed = json!({ "collections": [
            { "id": "1", "title": "one", "can_read": false }, { "id": "2", "can_read": false }
        ] });
        taxii(&site, "/closed/collections/", &closed.to_string());
        let error = puller(&site, "/t/").pull_error(&Cursor::Start).await;
        for part in parts {
            assert!(error.contains(part), "{discovery}: {error}");
        }
        assert_eq!(error.contains("password"), parts[0].contains("password"), "{error}");
    }
}

/// Its indicators would be removed, while the feed seems to be well.
#[tokio::test]
async fn a_known_collection_that_cannot_be_read_any_more_is_an_error() {
    let site = MockWebServer::start().await;
    let list = |can_read: bool| {
        json!({ "collections": [{ "id": "c" }, { "id": "d", "can_read": can_read }] }).to_string()
    };
    let serve = |path: &str, body: &str| {
        site.remove(path);
        taxii(&site, path, body);
    };
    serve("/t/", &json!({ "api_roots": ["/r/", "/s/"] }).to_string());
    serve("/r/collections/", &list(true));
    serve("/s/collections/", &json!({ "collections": [{ "id": "e" }] }).to_string());
    for path in [OBJECTS, "/r/collections/d/objects/", "/s/collections/e/objects/"] {
        serve(path, &page(1, false, None));
    }
    let puller = puller(&site, "/t/");
    let first = puller.new_from(&Cursor::Start).await;
    assert_eq!(first.documents.len(), 3);
    let error = |name: &str| format!("collection {} was pulled before", site.url(name));
    // Not readable any more.
    serve("/r/collections/", &list(false));
    let failed = puller.pull_error(&first.cursor).await;
    assert!(failed.contains(&error("/r/collections/d/")), "{failed}");
    // The whole API root is closed, or gone.
    serve("/r/collections/", &list(true));
    for status in [403, 404] {
        site.remove("/s/collections/");
        site.enqueue_response("/s/collections/", status, &[], "");
        let failed = puller.pull_error(&first.cursor).await;
        assert!(failed.contains(&error("/s/collections/e/")), "{status}: {failed}");
    }
    // A full pull does without it, and so does one after the collection has left the list.
    assert_eq!(puller.new_from(&Cursor::Start).await.documents.len(), 2);
    serve("/s/collections/", &json!({ "collections": [] }).to_string());
    let again = puller.new_from(&first.cursor).await;
    assert_eq!((again.documents.len(), again.extent), (2, Extent::Snapshot));
}

/// Old versions of medallion have no empty page, but a 404.
#[tokio::test]
async fn a_404_of_taxii_is_an_empty_collection_if_it_is_listed() {
    let site = MockWebServer::start().await;
    let error_message = json!({ "title": "Error", "description": "no objects" }).to_string();
    taxii(&site, "/r/collections/", &json!({ "collections": [{ "id": "c" }] }).to_string());
    site.enqueue_response(OBJECTS, 404, &[("Content-Type", MEDIA)], error_message.clone());
    let new = puller(&site, "/r/collections/").new_from(&Cursor::Start).await;
    assert_eq!((new.documents.len(), new.extent.clone()), (0, Extent::Snapshot));
    // Nothing new, later.
    assert!(puller(&site, "/r/collections/").pull(&new.cursor).await.unwrap().is_none());
    // By the URL of the collection, which is requested then.
    let direct = puller(&site, "/r/collections/c/");
    assert!(direct.pull_error(&Cursor::Start).await.contains("status 404"));
    taxii(&site, "/r/collections/c/", &json!({ "id": "c", "can_read": true }).to_string());
    assert_eq!(direct.new_from(&Cursor::Start).await.documents.len(), 0);
    site.remove("/r/collections/c/");
    taxii(&site, "/r/collections/c/", &json!({ "id": "c", "can_read": false }).to_string());
    assert!(direct.pull_error(&Cursor::Start).await.contains("status 404"));
    // As plain JSON, if it is an error message of TAXII. A proxy's 404 is an error.
    for (kind, body, is_empty) in [
        ("application/json; charset=utf-8", error_message.as_str(), true),
        ("application/json", "{\"message\":\"no route\"}", false),
        ("application/json", "[]", false),
        ("text/plain", "no route", false),
    ] {
        site.remove(OBJECTS);
        site.enqueue_response(OBJECTS, 404, &[("Content-Type", kind)], body);
        let pulled = puller(&site, "/r/collections/").pull(&Cursor::Start).await;
        let error = pulled.err().map(|error| error.to_string()).unwrap_or_default();
        let expected = format!("status 404 Not Found of {}", site.url(OBJECTS));
        assert_eq!(error.starts_with(&expected), !is_empty, "{kind} {body}: {error}");
        assert_eq!(error.is_empty(), is_empty, "{kind} {body}: {error}");
    }
}

#[tokio::test]
async fn each_refused_step_is_named_with_a_remedy() {
    let site = MockWebServer::start().await;
    for (status, remedy) in [
        (401, "check user, password, token"),
        (403, "check user, password, token"),
        (404, "nothing is there"),
        (406, "the server has no TAXII 2.1"),
        (416, "check the URL and what it requires"),
        (429, "the server is busy"),
        (502, "the server has an error"),
    ] {
        for step in ["/t/", "/r/collections/", OBJECTS] {
            for path in ["/t/", "/r/collections/", OBJECTS] {
                site.remove(path);
            }
            if step != "/t/" {
                taxii(&site, "/t/", &json!({ "api_roots": ["/r/"] }).to_string());
            }
            if step == OBJECTS {
                let list = json!({ "collections": [{ "id": "c" }] });
                taxii(&site, "/r/collections/", &list.to_string());
            }
            site.enqueue_response(step, status, &[], "");
            let error = puller(&site, "/t/").pull_error(&Cursor::Start).await;
            assert!(error.contains(&format!("status {status}")), "{step}: {error}");
            let is_passed = step == "/r/collections/" && matches!(status, 403 | 404);
            assert!(error.contains(remedy) || is_passed, "{status} {step}: {error}");
            let is_named = step == "/t/" || status == 406 || error.contains(&site.url("/r/"));
            assert!(is_named, "{status} {step}: {error}");
        }
    }
}

#[tokio::test]
async fn credentials_of_a_redirect_to_another_server_are_explained() {
    let (site, other) = (MockWebServer::start().await, MockWebServer::start().await);
    site.enqueue_response("/t/", 302, &[("Location", &other.url("/x/"))], "");
    other.enqueue_response("/x/", 401, &[], "");
    let error = puller(&site, "/t/").pull_error(&Cursor::Start).await;
    let part = format!("of {}; credentials are not sent to a redirect target", other.url("/x/"));
    assert!(error.contains(&part), "{error}");
}
