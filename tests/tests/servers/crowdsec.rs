//! The Local API of `CrowdSec`: a stream whose position the server keeps.

use sensor_tests::servers::CrowdSec;
use sensor_user::intel::{CrowdSecQuery, Cursor, Extent, FeedKind, FeedQuery};

use super::{New, Puller, start};

fn puller(server: &CrowdSec) -> Puller {
    Puller::new(FeedKind::CrowdSec, &server.url()).token("X-Api-Key", server.key_file())
}

/// The new and the deleted values, each once.
fn added_and_deleted(new: &New) -> (Vec<String>, Vec<String>) {
    let [mut added, mut deleted] = [["new"], ["deleted"]].map(|path| new.texts(&path, "value"));
    added.dedup();
    deleted.dedup();
    (added, deleted)
}

fn changes() -> Extent {
    Extent::Changes { replaced: Vec::new() }
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_come_as_a_snapshot_and_then_as_changes() {
    let mut server = start!(CrowdSec);
    let mut puller = puller(&server);
    // An empty response is valid.
    let empty = puller.new_from(&Cursor::Start).await;
    assert_eq!(
        (empty.extent.clone(), added_and_deleted(&empty)),
        (Extent::Snapshot, (vec![], vec![]))
    );
    server.ban("203.0.113.5");
    server.ban("198.51.100.0/24");
    let first = puller.new_from(&empty.cursor).await;
    assert_eq!(first.extent, changes());
    assert_eq!(added_and_deleted(&first).0, ["198.51.100.0/24", "203.0.113.5"]);
    assert!(puller.pull(&first.cursor).await.unwrap().is_none());
    server.unban("203.0.113.5");
    server.ban("203.0.113.6");
    let second = puller.new_from(&first.cursor).await;
    assert_eq!(added_and_deleted(&second), (texts(&["203.0.113.6"]), texts(&["203.0.113.5"])));

    // A pulled but unused change is not lost: an older cursor gives a full snapshot.
    let again = puller.new_from(&first.cursor).await;
    assert_eq!(again.extent, Extent::Snapshot);
    assert_eq!(added_and_deleted(&again).0, ["198.51.100.0/24", "203.0.113.6"]);

    // The same after a restart of the agent, whatever cursor it has stored.
    puller.restart();
    let again = puller.new_from(&again.cursor).await;
    assert_eq!((again.extent.clone(), added_and_deleted(&again).0.len()), (Extent::Snapshot, 2));

    // And after a failed pull.
    server.stop();
    let error = puller.pull_error(&again.cursor).await;
    assert!(error.contains("no response"), "{error}");
    server.restart();
    server.ban("203.0.113.7");
    let again = puller.new_from(&again.cursor).await;
    assert_eq!((again.extent.clone(), added_and_deleted(&again).0.len()), (Extent::Snapshot, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_key_is_reported_with_a_remedy() {
    let server = start!(CrowdSec);
    let error = Puller::new(FeedKind::CrowdSec, &server.url())
        .token("X-Api-Key", server.key_file().with_file_name("key2"))
        .pull_error(&Cursor::Start)
        .await;
    assert!(error.contains("key2: cannot be read"), "{error}");
    let wrong = server.key_file().with_file_name("wrong");
    std::fs::write(&wrong, "wrong").unwrap();
    let puller = Puller::new(FeedKind::CrowdSec, &server.url()).token("X-Api-Key", wrong);
    let error = puller.pull_error(&Cursor::Start).await;
    assert!(
        error.contains("status 403 Forbidden") && error.contains("cscli bouncers add"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_requested_scopes_and_origins_are_pulled() {
    let server = start!(CrowdSec);
    server.ban("203.0.113.5");
    server.ban("198.51.100.0/24");
    let mut puller = puller(&server);
    for (scopes, origins, want) in [
        (&["ip"][..], &[][..], &["203.0.113.5"][..]),
        (&["range"], &["cscli"], &["198.51.100.0/24"]),
        (&[], &["CAPI"], &[]),
    ] {
        let words = |all: &[&str]| texts(all);
        puller.feed.query = FeedQuery::CrowdSec(CrowdSecQuery {
            scopes: words(scopes),
            origins: words(origins),
            ..CrowdSecQuery::default()
        });
        let found = puller.new_from(&Cursor::Start).await;
        assert_eq!(added_and_deleted(&found).0, want, "{scopes:?} {origins:?}");
    }
}
