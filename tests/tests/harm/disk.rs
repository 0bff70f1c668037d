//! The state directory: full, read-only, damaged, of another feed, or left in the middle.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use sensor_tests::{captured_logs, skip_unless};
use sensor_user::intel::FeedKind;

use super::{GOOD, Harm, address, covers, samples};

/// A disk of a megabyte at `path`, which only this thread, and what it starts, sees. False where
/// that is not allowed.
fn small_disk(path: &Path) -> bool {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| {
            mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some("size=1m,mode=700"))
        })
        .is_ok()
}

/// Takes all of a disk but `left` bytes.
fn fill(path: &Path, left: usize) {
    let _full = std::fs::write(path, vec![0; 2 << 20]).unwrap_err();
    let length = std::fs::metadata(path).unwrap().len() - left as u64;
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

/// Of one thread, so that all of it sees the disk.
#[tokio::test(flavor = "current_thread")]
async fn a_disk_that_is_full_or_read_only_is_told() {
    let mut harm = Harm::new(FeedKind::List, |_| {}).await;
    let disk = harm.state.path().to_owned();
    if skip_unless(small_disk(&disk), "mounting needs root") {
        return;
    }
    std::fs::create_dir(harm.folder()).unwrap();
    harm.pull_good().await;

    let filler = disk.join("filler");
    let lines = |count: u32| (0..count).map(|it| format!("203.0.{}.{}\n", it / 256, it % 256));
    let more: String = lines(600).collect();
    for left in [0, 48 << 10] {
        fill(&filler, left);
        let report = harm.pull_body(&more).await;
        harm.assert_refused(&report, "No space left on device");
        let told = if left == 0 { "is the disk full?" } else { "work in the state directory: " };
        assert!(report.reason.contains(told), "{}", report.reason);
    }
    std::fs::remove_file(&filler).unwrap();
    harm.pull_good().await;

    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, &disk, None::<&str>, flags, None::<&str>).unwrap();
    let report = harm.pull_body(&more).await;
    harm.assert_refused(&report, "Read-only file system");
    harm.restart();
    harm.assert_holds("a restart on a read-only disk");
    let flags = MsFlags::MS_REMOUNT;
    mount(None::<&str>, &disk, None::<&str>, flags, None::<&str>).unwrap();
    harm.pull_good().await;
}

#[tokio::test]
async fn a_set_that_is_damaged_at_the_start_is_told_and_pulled_again() {
    let mut harm = Harm::list().await;
    let path = harm.folder().join("harm.set");
    let shown = path.to_str().unwrap().to_owned();
    captured_logs("");
    let good = std::fs::read(&path).unwrap();
    let mut flipped = good.clone();
    let table = flipped.len() - 60;
    flipped[table] ^= 1;
    for bad in [&flipped[..], good.split_at(good.len() / 2).0, b"", b"not a set"] {
        std::fs::write(&path, bad).unwrap();
        let before = captured_logs(&shown).len();
        harm.restart();
        assert!(harm.intel.set().load().is_empty());
        let told = captured_logs(&shown);
        assert_eq!(told.len(), before + 1);
        assert!(told[before].contains("the last good set cannot be used"), "{}", told[before]);
        assert!(!harm.server.requests().is_empty());
        harm.pull_good().await;
        // No condition: the version that is known is gone with the set.
        assert!(!harm.server.requests().last().unwrap().contains("if-none-match"));
    }
}

#[tokio::test]
async fn a_set_that_is_damaged_meanwhile_is_replaced() {
    for kind in [FeedKind::List, FeedKind::CrowdSec] {
        let harm = Harm::of(kind, |_| {}).await;
        let path = harm.folder().join("harm.set");
        let good = std::fs::read(&path).unwrap();
        // Its tables; and a record, which only what takes it over sees.
        for at in [good.len() - 60, 24] {
            let mut bad = std::fs::read(&path).unwrap();
            bad[at] ^= 1;
            std::fs::write(&path, bad).unwrap();
            if kind == FeedKind::CrowdSec {
                let one = samples::entry(&harm.config, GOOD).to_string();
                let report = harm.pull_body(samples::document(&harm.config, &[one])).await;
                harm.assert_refused(&report, "the set that is there: ");
                assert!(report.reason.contains("asks for all of the feed"), "{}", report.reason);
            }
            harm.pull_good().await;
        }
    }
}

#[tokio::test]
async fn a_set_of_another_feed_is_not_used() {
    let mut harm = Harm::list().await;
    harm.config.min_prefix_v4 = 9;
    harm.restart();
    assert!(harm.intel.set().load().is_empty());
    harm.pull_good().await;
    harm.restart();
    harm.assert_holds("a restart");
}

#[tokio::test]
async fn what_a_kill_left_behind_is_removed() {
    let mut harm = Harm::list().await;
    let set = std::fs::read(harm.folder().join("harm.set")).unwrap();
    for (name, content) in [
        ("harm.new", &set[..100]),
        (".pull-aB3dEf", b"203.0.113.7\n"),
        (".tmpXyZ123", b""),
        ("gone.set", &set),
        ("gone.confirmed", b""),
    ] {
        std::fs::write(harm.folder().join(name), content).unwrap();
    }
    harm.restart();
    assert_eq!(harm.files(), ["harm.set"]);
    harm.assert_holds("a restart");
}

#[tokio::test]
async fn a_hundred_thousand_indicators_are_there_without_the_network() {
    const COUNT: u32 = 100_000;
    let mut harm = Harm::new(FeedKind::List, |_| {}).await;
    let all = |it: u32| std::net::Ipv4Addr::from(0x0b00_0000 + it * 3).to_string();
    let body: String = (0..COUNT).map(|it| all(it) + "\n").collect();
    let report = harm.pull_body(body).await;
    assert_eq!((report.reason.as_str(), report.indicators), ("", u64::from(COUNT)));
    let asked = harm.server.requests().len();
    harm.restart();
    assert_eq!(harm.report().loaded, Some(super::at()));
    for round in 0..2 {
        let set = harm.intel.set().load_full();
        assert_eq!(set.len(), COUNT as usize, "{round}");
        let (hosts, _) = set.segments()[0].v4();
        assert!(hosts.map(|it| it.to_string()).eq((0..COUNT).map(all)), "{round}");
        assert!((0..COUNT).step_by(97).all(|it| covers(&set, &all(it))), "{round}");
        assert!(!covers(&set, "11.0.0.1"), "{round}");
        // A call that is hung up on is made twice.
        assert_eq!(harm.server.requests().len(), asked + 2 * round);
        // The server is still away.
        harm.server.serve_raw(b"");
        let report = harm.pull().await;
        assert!(report.reason.contains("no answer"), "{}", report.reason);
    }
}

/// While sets change and pulls fail, what is in all of them matches at every moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lookup_meets_a_gap() {
    let harm = Harm::list().await;
    let is_over = Arc::new(AtomicBool::new(false));
    let (set, over) = (harm.intel.set(), Arc::clone(&is_over));
    let looking = std::thread::spawn(move || {
        let mut lookups = 0;
        while !over.load(Ordering::Relaxed) {
            let set = set.load();
            assert!((1..=GOOD).all(|number| covers(&set, &address(number))));
            lookups += 1;
        }
        lookups
    });
    let good: String = (1..=GOOD).map(|number| address(number) + "\n").collect();
    for turn in 0..20 {
        let report = harm.pull_body(good.clone() + &"203.0.113.7\n".repeat(turn % 2)).await;
        assert_eq!(report.indicators, u64::from(GOOD) + turn as u64 % 2, "{report:?}");
        assert!(!harm.pull_body("").await.reason.is_empty());
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(looking.join().unwrap() > 100);
}
