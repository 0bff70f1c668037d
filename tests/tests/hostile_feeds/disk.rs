//! The state directory: full, read-only, corrupt, of another feed, or with remains of a crash.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use sensor_tests::{captured_logs, skip_unless};
use sensor_user::intel::FeedKind;

use super::{GOOD, TestFeed, address, covers, samples};

/// Mounts a tmpfs of one MiB at `path`, visible only to this thread and its children. False if this
/// is not permitted.
fn small_disk(path: &Path) -> bool {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| {
            mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some("size=1m,mode=700"))
        })
        .is_ok()
}

/// Fills a disk up to `left` bytes.
fn fill(path: &Path, left: usize) {
    let _full = std::fs::write(path, vec![0; 2 << 20]).unwrap_err();
    let length = std::fs::metadata(path).unwrap().len() - left as u64;
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

/// Runs on a single thread, so that all of it sees the mount.
#[tokio::test(flavor = "current_thread")]
async fn a_full_or_read_only_state_directory_is_reported() {
    let mut feed = TestFeed::new(FeedKind::List, |_| {}).await;
    let disk = feed.state.path().to_owned();
    if skip_unless(small_disk(&disk), "mounting needs root") {
        return;
    }
    std::fs::create_dir(feed.folder()).unwrap();
    feed.pull_good().await;

    let filler = disk.join("filler");
    let lines = |count: u32| (0..count).map(|it| format!("203.0.{}.{}\n", it / 256, it % 256));
    let more: String = lines(600).collect();
    for left in [0, 48 << 10] {
        fill(&filler, left);
        let report = feed.pull_body(&more).await;
        feed.assert_refused(&report, "No space left on device");
        let hint = if left == 0 { "is the disk full?" } else { "work in the state directory: " };
        assert!(report.reason.contains(hint), "{}", report.reason);
    }
    std::fs::remove_file(&filler).unwrap();
    feed.pull_good().await;

    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, &disk, None::<&str>, flags, None::<&str>).unwrap();
    let report = feed.pull_body(&more).await;
    feed.assert_refused(&report, "Read-only file system");
    feed.restart();
    feed.assert_holds("a restart on a read-only disk");
    let flags = MsFlags::MS_REMOUNT;
    mount(None::<&str>, &disk, None::<&str>, flags, None::<&str>).unwrap();
    feed.pull_good().await;
}

#[tokio::test]
async fn a_set_that_is_corrupt_at_startup_is_reported_and_pulled_again() {
    let mut feed = TestFeed::list().await;
    let path = feed.folder().join("test.set");
    let name = path.to_str().unwrap().to_owned();
    captured_logs("");
    let good = std::fs::read(&path).unwrap();
    let mut flipped = good.clone();
    let table = flipped.len() - 60;
    flipped[table] ^= 1;
    for bad in [&flipped[..], good.split_at(good.len() / 2).0, b"", b"not a set"] {
        std::fs::write(&path, bad).unwrap();
        let before = captured_logs(&name).len();
        feed.restart();
        assert!(feed.intel.set().load().is_empty());
        let lines = captured_logs(&name);
        assert_eq!(lines.len(), before + 1);
        assert!(lines[before].contains("the last good set cannot be used"), "{}", lines[before]);
        assert!(!feed.server.requests().is_empty());
        feed.pull_good().await;
        // The request has no condition: the ETag is lost with the set.
        assert!(!feed.server.requests().last().unwrap().contains("if-none-match"));
    }
}

#[tokio::test]
async fn a_set_corrupted_at_run_time_is_replaced() {
    for kind in [FeedKind::List, FeedKind::CrowdSec] {
        let feed = TestFeed::of(kind, |_| {}).await;
        let path = feed.folder().join("test.set");
        let good = std::fs::read(&path).unwrap();
        // Its tables; and a record, which only an incremental pull reads.
        for offset in [good.len() - 60, 24] {
            let mut bad = std::fs::read(&path).unwrap();
            bad[offset] ^= 1;
            std::fs::write(&path, bad).unwrap();
            if kind == FeedKind::CrowdSec {
                let entry = samples::entry(&feed.config, GOOD).to_string();
                let report = feed.pull_body(samples::document(&feed.config, &[entry])).await;
                feed.assert_refused(&report, "the saved set: ");
                assert!(report.reason.contains("fetches the whole feed"), "{}", report.reason);
            }
            feed.pull_good().await;
        }
    }
}

#[tokio::test]
async fn a_set_of_another_feed_is_not_used() {
    let mut feed = TestFeed::list().await;
    feed.config.min_prefix_v4 = 9;
    feed.restart();
    assert!(feed.intel.set().load().is_empty());
    feed.pull_good().await;
    feed.restart();
    feed.assert_holds("a restart");
}

#[tokio::test]
async fn files_left_by_a_kill_are_removed() {
    let mut feed = TestFeed::list().await;
    let set = std::fs::read(feed.folder().join("test.set")).unwrap();
    for (name, content) in [
        ("test.new", &set[..100]),
        (".pull-aB3dEf", b"203.0.113.7\n"),
        (".tmpXyZ123", b""),
        ("gone.set", &set),
        ("gone.confirmed", b""),
    ] {
        std::fs::write(feed.folder().join(name), content).unwrap();
    }
    feed.restart();
    assert_eq!(feed.files(), ["test.set"]);
    feed.assert_holds("a restart");
}

#[tokio::test]
async fn a_hundred_thousand_indicators_are_available_without_the_network() {
    const COUNT: u32 = 100_000;
    let mut feed = TestFeed::new(FeedKind::List, |_| {}).await;
    let all = |it: u32| std::net::Ipv4Addr::from(0x0b00_0000 + it * 3).to_string();
    let body: String = (0..COUNT).map(|it| all(it) + "\n").collect();
    let report = feed.pull_body(body).await;
    assert_eq!((report.reason.as_str(), report.indicators), ("", u64::from(COUNT)));
    let requests = feed.server.requests().len();
    feed.restart();
    assert_eq!(feed.report().loaded, Some(super::at()));
    for round in 0..2 {
        let set = feed.intel.set().load_full();
        assert_eq!(set.len(), COUNT as usize, "{round}");
        let (hosts, _) = set.segments()[0].v4_prefixes();
        assert!(hosts.map(|it| it.to_string()).eq((0..COUNT).map(all)), "{round}");
        assert!((0..COUNT).step_by(97).all(|it| covers(&set, &all(it))), "{round}");
        assert!(!covers(&set, "11.0.0.1"), "{round}");
        // A request whose connection is closed is made twice.
        assert_eq!(feed.server.requests().len(), requests + 2 * round);
        // The server is still unavailable.
        feed.server.serve_raw(b"");
        let report = feed.pull().await;
        assert!(report.reason.contains("no response"), "{}", report.reason);
    }
}

/// While sets change and pulls fail, addresses that are in all sets match at every moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lookups_never_see_a_gap() {
    let feed = TestFeed::list().await;
    let is_over = Arc::new(AtomicBool::new(false));
    let (set, over) = (feed.intel.set(), Arc::clone(&is_over));
    let reader = std::thread::spawn(move || {
        let mut lookups = 0;
        while !over.load(Ordering::Relaxed) {
            let set = set.load();
            assert!((1..=GOOD).all(|number| covers(&set, &address(number))));
            lookups += 1;
        }
        lookups
    });
    let good: String = (1..=GOOD).map(|number| address(number) + "\n").collect();
    for round in 0..20 {
        let report = feed.pull_body(good.clone() + &"203.0.113.7\n".repeat(round % 2)).await;
        assert_eq!(report.indicators, u64::from(GOOD) + round as u64 % 2, "{report:?}");
        assert!(!feed.pull_body("").await.reason.is_empty());
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap() > 100);
}
