//! Reload of the feeds while the agent runs.

use std::sync::Arc;
use std::time::Duration;

use sensor_tests::FeedServer;
use sensor_user::base::clock::FixedClock;
use sensor_user::intel::{FeedConfig, FeedKind};

use super::{AT, at, config, covers, feeds};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_feeds_are_applied_without_a_gap() {
    let (first, second) = (FeedServer::start().await, FeedServer::start().await);
    first.serve("", b"203.0.113.5\n");
    second.serve("", b"203.0.113.6\n");
    let hour = Duration::from_hours(1);
    let named = |name: &str, server: &FeedServer| FeedConfig {
        name: name.to_owned(),
        interval: hour,
        ..config(FeedKind::List, at(server))
    };
    let both = vec![named("unchanged", &first), named("removed", &second)];
    let (intel, _) = feeds(both, Arc::new(FixedClock(AT.parse().unwrap())));
    let running = tokio::spawn(Arc::clone(&intel).run(std::future::pending()));
    let wait_for_set = async |addresses: &[&str]| {
        for _attempt in 0..500 {
            let set = intel.set().load_full();
            if addresses.iter().all(|address| covers(&set, address)) {
                return set;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not within 5 s: {addresses:?}");
    };
    wait_for_set(&["203.0.113.5", "203.0.113.6"]).await;

    // The unchanged feed is not fetched again; the other name has a new server.
    let other_server = FeedServer::start().await;
    other_server.serve("", b"203.0.113.7\n");
    let new = vec![named("unchanged", &first), named("new", &other_server)];
    let other = Arc::clone(&intel);
    tokio::task::spawn_blocking(move || other.reload(new)).await.unwrap();
    assert!(covers(&intel.set().load(), "203.0.113.5"), "an unchanged feed never leaves the set");
    let set = wait_for_set(&["203.0.113.7"]).await;
    assert!(!covers(&set, "203.0.113.6"));
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
    let names: Vec<String> = intel.status().iter().map(|it| it.name.to_string()).collect();
    assert_eq!(names, ["unchanged", "new"]);

    // The same name with another URL: the indicators of the old URL are removed.
    other_server.serve("", b"203.0.113.8\n");
    let same = vec![named("unchanged", &other_server)];
    let other = Arc::clone(&intel);
    tokio::task::spawn_blocking(move || other.reload(same)).await.unwrap();
    let set = wait_for_set(&["203.0.113.8"]).await;
    assert!(!covers(&set, "203.0.113.5") && !covers(&set, "203.0.113.7"));
    running.abort();
}
