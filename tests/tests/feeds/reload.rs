//! Other feeds while the agent runs.

use std::sync::Arc;
use std::time::Duration;

use sensor_tests::FeedServer;
use sensor_user::base::clock::FixedClock;
use sensor_user::intel::{FeedConfig, FeedKind};

use super::{AT, at, config, covers, feeds};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_feeds_are_taken_without_a_gap() {
    let (first, second) = (FeedServer::start().await, FeedServer::start().await);
    first.serve("", b"203.0.113.5\n");
    second.serve("", b"203.0.113.6\n");
    let hour = Duration::from_hours(1);
    let named = |name: &str, server: &FeedServer| FeedConfig {
        name: name.to_owned(),
        interval: hour,
        ..config(FeedKind::List, at(server))
    };
    let both = vec![named("stays", &first), named("goes", &second)];
    let (intel, _) = feeds(both, Arc::new(FixedClock(AT.parse().unwrap())));
    let running = tokio::spawn(Arc::clone(&intel).run(std::future::pending()));
    let holds = async |addresses: &[&str]| {
        for _look in 0..500 {
            let set = intel.set().load_full();
            if addresses.iter().all(|address| covers(&set, address)) {
                return set;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not within 5 s: {addresses:?}");
    };
    holds(&["203.0.113.5", "203.0.113.6"]).await;

    // The one that stays is not asked again; the other one is elsewhere now.
    let moved = FeedServer::start().await;
    moved.serve("", b"203.0.113.7\n");
    let new = vec![named("stays", &first), named("new", &moved)];
    let other = Arc::clone(&intel);
    tokio::task::spawn_blocking(move || other.reload(new)).await.unwrap();
    assert!(covers(&intel.set().load(), "203.0.113.5"), "what stays is never out of the set");
    let set = holds(&["203.0.113.7"]).await;
    assert!(!covers(&set, "203.0.113.6"));
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
    let names: Vec<String> = intel.status().iter().map(|it| it.name.to_string()).collect();
    assert_eq!(names, ["stays", "new"]);

    // The same name elsewhere: what the old place gave is gone with it.
    moved.serve("", b"203.0.113.8\n");
    let same = vec![named("stays", &moved)];
    let other = Arc::clone(&intel);
    tokio::task::spawn_blocking(move || other.reload(same)).await.unwrap();
    let set = holds(&["203.0.113.8"]).await;
    assert!(!covers(&set, "203.0.113.5") && !covers(&set, "203.0.113.7"));
    running.abort();
}
