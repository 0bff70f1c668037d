//! The Local API of `CrowdSec`: a stream that the server keeps the place of.

use sensor_tests::servers::CrowdSec;
use sensor_user::intel::{Ask, CrowdSecAsk, Cursor, Extent, FeedKind};

use super::{New, Puller, start};

fn puller(server: &CrowdSec) -> Puller {
    Puller::new(FeedKind::CrowdSec, &server.url()).token("X-Api-Key", server.key_file())
}

/// What is new and what is deleted, each once.
fn seen(new: &New) -> (Vec<String>, Vec<String>) {
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
async fn decisions_come_whole_and_then_as_they_change() {
    let mut server = start!(CrowdSec);
    let mut puller = puller(&server);
    // Nothing is an answer.
    let empty = puller.new_from(&Cursor::Start).await;
    assert_eq!((empty.extent.clone(), seen(&empty)), (Extent::Snapshot, (vec![], vec![])));
    server.ban("203.0.113.5");
    server.ban("198.51.100.0/24");
    let first = puller.new_from(&empty.cursor).await;
    assert_eq!(first.extent, changes());
    assert_eq!(seen(&first).0, ["198.51.100.0/24", "203.0.113.5"]);
    assert!(puller.pull(&first.cursor).await.unwrap().is_none());
    server.unban("203.0.113.5");
    server.ban("203.0.113.6");
    let second = puller.new_from(&first.cursor).await;
    assert_eq!(seen(&second), (texts(&["203.0.113.6"]), texts(&["203.0.113.5"])));

    // What was pulled and not used is not lost: with an older cursor all comes again.
    let again = puller.new_from(&first.cursor).await;
    assert_eq!(again.extent, Extent::Snapshot);
    assert_eq!(seen(&again).0, ["198.51.100.0/24", "203.0.113.6"]);

    // So after a start of the agent, whatever it has kept.
    puller.forget();
    let again = puller.new_from(&again.cursor).await;
    assert_eq!((again.extent.clone(), seen(&again).0.len()), (Extent::Snapshot, 2));

    // And after a pull that failed.
    server.stop();
    let error = puller.fault(&again.cursor).await;
    assert!(error.contains("no answer"), "{error}");
    server.restart();
    server.ban("203.0.113.7");
    let again = puller.new_from(&again.cursor).await;
    assert_eq!((again.extent.clone(), seen(&again).0.len()), (Extent::Snapshot, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_not_known_is_told_with_what_to_do() {
    let server = start!(CrowdSec);
    let error = Puller::new(FeedKind::CrowdSec, &server.url())
        .token("X-Api-Key", server.key_file().with_file_name("key2"))
        .fault(&Cursor::Start)
        .await;
    assert!(error.contains("key2: cannot be read"), "{error}");
    let wrong = server.key_file().with_file_name("wrong");
    std::fs::write(&wrong, "wrong").unwrap();
    let puller = Puller::new(FeedKind::CrowdSec, &server.url()).token("X-Api-Key", wrong);
    let error = puller.fault(&Cursor::Start).await;
    assert!(
        error.contains("answered 403 Forbidden") && error.contains("cscli bouncers add"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_asked_for_comes() {
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
        puller.feed.ask = Ask::CrowdSec(CrowdSecAsk {
            scopes: words(scopes),
            origins: words(origins),
            ..CrowdSecAsk::default()
        });
        let found = puller.new_from(&Cursor::Start).await;
        assert_eq!(seen(&found).0, want, "{scopes:?} {origins:?}");
    }
}
