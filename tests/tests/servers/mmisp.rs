//! MISP's REST API with mmisp: numbers where PHP's MISP has text, one type per search, no time
//! filter.

use sensor_tests::servers::Mmisp;
use sensor_user::intel::{Cursor, Extent, FeedKind, FeedQuery, MispQuery};
use serde_json::json;

use super::{Puller, start};

const ATTRIBUTES: [&str; 2] = ["response", "Attribute"];

fn puller(server: &Mmisp, page_size: u32) -> Puller {
    let mut puller =
        Puller::new(FeedKind::Misp, &server.url()).token("Authorization", server.key_file());
    let mut query =
        MispQuery { types: vec!["ip-dst".to_owned()], page_size, ..MispQuery::default() };
    // mmisp does not accept a list here, and without the filter returns deleted attributes too.
    query.filter.insert("deleted".to_owned(), json!([]));
    puller.feed.query = FeedQuery::Misp(query);
    puller
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_are_pulled_in_pages_with_deleted_ones() {
    let mut server = start!(Mmisp);
    let event = server.event("a campaign");
    let ids: Vec<u64> = (1..=25)
        .map(|host| server.attribute(event, "ip-dst", &format!("203.0.113.{host}"), true))
        .collect();
    server.attribute(event, "ip-dst", "198.51.100.1", false);
    server.attribute(event, "domain", "evil.example", true);
    let puller = puller(&server, 10);
    let first = puller.new_from(&Cursor::Start).await;
    assert_eq!((first.extent.clone(), first.documents.len()), (Extent::Snapshot, 3));
    let found = first.texts(&ATTRIBUTES, "value");
    assert_eq!(found.len(), 25);
    assert!(found.iter().all(|value| value.starts_with("203.0.113.")), "{found:?}");
    assert!(matches!(first.cursor, Cursor::Time(_)), "{:?}", first.cursor);

    server.request("DELETE", &format!("attributes/{}", ids[0]), &json!({}));
    let second = puller.new_from(&first.cursor).await;
    assert_eq!(second.extent, Extent::Changes { replaced: Vec::new() });
    let items = second.items(&ATTRIBUTES);
    // The deleted attribute, and the one that is not for detection.
    let gone = items.iter().filter(|it| it["deleted"] == true || it["to_ids"] == false).count();
    assert_eq!((gone, items.len()), (2, 26));

    server.stop();
    let error = puller.pull_error(&first.cursor).await;
    assert!(error.contains("no response"), "{error}");
    server.restart();
    assert_eq!(puller.new_from(&Cursor::Start).await.items(&ATTRIBUTES).len(), 25);

    let wrong = server.key_file().with_file_name("wrong");
    std::fs::write(&wrong, "x".repeat(40)).unwrap();
    let puller = Puller::new(FeedKind::Misp, &server.url()).token("Authorization", wrong);
    let error = puller.pull_error(&Cursor::Start).await;
    assert!(error.contains("status 401"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_last_page_is_followed_by_an_empty_one() {
    let server = start!(Mmisp);
    let empty = puller(&server, 3).new_from(&Cursor::Start).await;
    assert_eq!((empty.extent.clone(), empty.items(&ATTRIBUTES).len()), (Extent::Snapshot, 0));
    let event = server.event("a campaign");
    for host in 1..=6 {
        server.attribute(event, "ip-dst", &format!("203.0.113.{host}"), true);
    }
    let found = puller(&server, 3).new_from(&Cursor::Start).await;
    assert_eq!((found.documents.len(), found.items(&ATTRIBUTES).len()), (2, 6));
}
