//! Feeds from a misbehaving web server and from files: the last good set stays in use.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

mod reload;

use std::net::IpAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use sensor_tests::FeedServer;
use sensor_user::base::clock::{Clock, FixedClock};
use sensor_user::base::counters::Stats;
use sensor_user::intel::{
    FeedConfig, FeedFolder, FeedKind, FeedSource, FeedStatus, IndicatorSet, Intel, ParserMode,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// "203.0.113.5\n" by gzip.
const GZIP_LIST: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\x33\x32\x30\xd6\x33\xd0\x33\x34\x34\xd6\x33\xe5\x02\x00\x6d\x06\xdb\xb9\x0c\x00\x00\x00";
/// 20,000 times "#", a line feed, and the same, by gzip.
const GZIP_LARGE: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\xed\xc1\xb1\x0d\x00\x20\x08\x00\xb0\x9d\x37\xd8\x09\x48\xfc\xff\x35\xdf\x70\x68\x9b\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xc0\x0f\xe2\xf4\x56\xd7\xcc\xd6\x8d\x07\xb5\x5c\x4c\xe5\x2d\x4e\x00\x00";

/// The time of the pulls.
const AT: &str = "2026-11-24T12:00:00Z";

/// An active row of `ThreatIntelligenceIndicator`, changed by `columns`.
fn indicator(id: &str, columns: Value) -> Value {
    let mut row = json!({
        "TimeGenerated": "2026-11-23T12:00:00.1234567Z",
        "IndicatorId": id,
        "Active": true,
        "ExpirationDateTime": "2026-12-24T00:00:00Z",
    });
    if let (Value::Object(row), Value::Object(columns)) = (&mut row, columns) {
        row.extend(columns);
    }
    row
}

/// Formats rows as JSON lines.
fn lines(rows: &[Value]) -> String {
    rows.iter().fold(String::new(), |text, row| text + &row.to_string() + "\n")
}

/// A clock that the test sets.
#[derive(Debug, Default)]
struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

fn config(kind: FeedKind, source: FeedSource) -> FeedConfig {
    FeedConfig {
        interval: Duration::from_secs(1),
        default_ttl: Duration::from_secs(100),
        timeout: Duration::from_millis(500),
        max_bytes: 10_000,
        ..FeedConfig::new("test".to_owned(), kind, source)
    }
}

fn at(server: &FeedServer) -> FeedSource {
    FeedSource::Http(server.url().parse().unwrap())
}

/// Feeds and the directory of their sets.
struct Feeds {
    intel: Arc<Intel>,
    _state: TempDir,
}

impl Deref for Feeds {
    type Target = Arc<Intel>;

    fn deref(&self) -> &Arc<Intel> {
        &self.intel
    }
}

fn feeds(configs: Vec<FeedConfig>, clock: Arc<dyn Clock>) -> (Feeds, Arc<Stats>) {
    let stats = Arc::new(Stats::default());
    let state = tempfile::tempdir().unwrap();
    let folder = FeedFolder::open(state.path()).unwrap();
    let intel = Intel::new(configs, folder, ParserMode::InProcess, clock, Arc::clone(&stats));
    (Feeds { intel, _state: state }, stats)
}

fn intel(config: FeedConfig) -> (Feeds, Arc<Stats>) {
    feeds(vec![config], Arc::new(FixedClock(AT.parse().unwrap())))
}

fn covers(set: &IndicatorSet, address: &str) -> bool {
    let address: IpAddr = address.parse().unwrap();
    set.covering(address).next().is_some()
}

fn status(intel: &Intel) -> FeedStatus {
    intel.status().remove(0)
}

#[tokio::test]
async fn a_list_is_pulled_and_its_rejects_are_recorded() {
    let server = FeedServer::start().await;
    server.serve("Content-Type: text/plain\r\n", b"# c\n203.0.113.5\nbad\n10.0.0.1\n");
    let (intel, stats) = intel(config(FeedKind::List, at(&server)));
    assert!(intel.set().load().is_empty());
    intel.pull_all().await;
    assert!(covers(&intel.set().load(), "::ffff:203.0.113.5"));
    let status = status(&intel);
    assert_eq!(status.last_good, Some(AT.parse().unwrap()));
    assert_eq!((status.indicators, status.failures, status.last_error), (1, 0, None));
    let lines: Vec<_> = status.rejects.kept().iter().map(|reject| reject.position).collect();
    assert_eq!(lines, [3, 4]);
    assert_eq!((stats.feeds_pulled.value(), stats.feed_entries_rejected.value()), (1, 2));
}

#[tokio::test]
async fn the_size_limit_applies_to_decompressed_gzip() {
    let server = FeedServer::start().await;
    let (intel, _) = intel(config(FeedKind::List, at(&server)));
    server.serve("Content-Encoding: gzip\r\n", GZIP_LIST);
    intel.pull_all().await;
    assert_eq!(status(&intel).last_error, None);
    assert!(covers(&intel.set().load(), "203.0.113.5"));
    server.serve("Content-Encoding: gzip\r\n", GZIP_LARGE);
    intel.pull_all().await;
    let error = status(&intel).last_error.unwrap();
    assert!(error.contains("larger than 10000 bytes"), "{error}");
    // Truncated.
    server.serve("Content-Encoding: gzip\r\n", GZIP_LIST.split_at(20).0);
    intel.pull_all().await;
    let error = status(&intel).last_error.unwrap();
    assert!(error.contains("ended early or is damaged"), "{error}");
    assert!(covers(&intel.set().load(), "203.0.113.5"));
}

#[tokio::test]
async fn an_unchanged_feed_is_not_transferred_again() {
    let server = FeedServer::start().await;
    let time = "Tue, 24 Nov 2026 00:00:00 GMT";
    server.serve(&format!("ETag: \"v1\"\r\nLast-Modified: {time}\r\n"), b"203.0.113.5\n");
    let (intel, stats) = intel(config(FeedKind::List, at(&server)));
    intel.pull_all().await;
    server.serve_raw(b"HTTP/1.1 304 Not Modified\r\n\r\n");
    intel.pull_all().await;
    let requests = server.requests();
    assert!(!requests[0].contains("if-none-match"));
    assert!(requests[1].contains("if-none-match: \"v1\"\r\n"), "{}", requests[1]);
    let since = format!("if-modified-since: {}\r\n", time.to_lowercase());
    assert!(requests[1].contains(&since), "{}", requests[1]);
    assert!(covers(&intel.set().load(), "203.0.113.5"));
    assert_eq!((stats.feeds_pulled.value(), stats.feeds_failed.value()), (2, 0));
}

#[tokio::test]
async fn an_unchanged_list_stays_valid() {
    let server = FeedServer::start().await;
    server.serve("ETag: \"v1\"\r\n", b"203.0.113.5\n");
    let clock = Arc::new(TestClock::default());
    let test_clock: Arc<dyn Clock> = Arc::<TestClock>::clone(&clock);
    let (intel, _) = feeds(vec![config(FeedKind::List, at(&server))], test_clock);
    intel.pull_all().await;
    server.serve_raw(b"HTTP/1.1 304 Not Modified\r\n\r\n");
    for (second, expires) in [(40, 140), (60, 160), (100, 200), (115, 215)] {
        clock.0.store(second, Ordering::SeqCst);
        intel.pull_all().await;
        let found = intel.set().load().indicators()[0].expires.unwrap().as_second();
        assert_eq!(found, expires, "at {second}");
    }
}

#[tokio::test]
async fn an_invalid_response_changes_nothing() {
    let server = FeedServer::start().await;
    let (intel, stats) = intel(config(FeedKind::List, at(&server)));
    server.serve("", b"203.0.113.5\n");
    intel.pull_all().await;
    let large = b"HTTP/1.1 200 OK\r\nContent-Length: 10001\r\n\r\n203.0.113.6\n";
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &b"198.51.100.1\n".repeat(1000)].concat();
    let cases: [(&str, &[u8]); 11] = [
        (
            "web page",
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>203.0.113.6\n",
        ),
        ("web page", b"HTTP/1.1 200 OK\r\n\r\n \n<!DOCTYPE HTML><p>203.0.113.6"),
        ("web page", b"HTTP/1.1 200 OK\r\n\r\n<HTML>\n203.0.113.6\n"),
        ("body is empty", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("body is empty", b"HTTP/1.1 200 OK\r\n\r\n \r\n\n"),
        ("ended early", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n203.0.113.6\n"),
        ("larger than 10000 bytes", large),
        ("larger than 10000 bytes", &endless),
        (
            "none of 2 entries can be used, line 1: \"error\": not an address",
            b"HTTP/1.1 200 OK\r\n\r\nerror\nno quota\n",
        ),
        (
            "status 500 Internal Server Error",
            b"HTTP/1.1 500 Internal Server Error\r\n\r\n203.0.113.6\n",
        ),
        ("status 304 Not Modified", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    ];
    let count = cases.len();
    for (expected, response) in cases {
        server.serve_raw(response);
        intel.pull_all().await;
        let error = status(&intel).last_error.unwrap_or_default();
        let prefix = format!("feed test: {}: ", server.url());
        assert!(error.starts_with(&prefix) && error.contains(expected), "{expected}: {error}");
        let set = intel.set().load_full();
        assert!(covers(&set, "203.0.113.5") && set.len() == 1, "{expected}");
    }
    let failures = u32::try_from(count).unwrap();
    assert_eq!(status(&intel).failures, failures);
    assert_eq!(stats.feeds_failed.value(), u64::from(failures));
    server.serve("", b"203.0.113.6\n");
    intel.pull_all().await;
    assert!(covers(&intel.set().load(), "203.0.113.6"));
    assert!(!covers(&intel.set().load(), "203.0.113.5"));
    assert_eq!((status(&intel).failures, status(&intel).last_error), (0, None));
}

#[tokio::test]
async fn a_slow_body_ends_at_the_timeout() {
    let server = FeedServer::start().await;
    server.stall_after(b"HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n203.0.113.5\n");
    let (intel, _) = intel(config(FeedKind::List, at(&server)));
    intel.pull_all().await;
    let error = status(&intel).last_error.unwrap();
    assert!(error.contains("no complete response within 500ms"), "{error}");
    assert!(intel.set().load().is_empty());
}

#[tokio::test]
async fn an_unreachable_server_is_reported() {
    let server = FeedServer::start().await;
    let source = FeedSource::Http(format!("{}?key=secret", server.url()).parse().unwrap());
    drop(server);
    tokio::task::yield_now().await;
    let (intel, _) = intel(config(FeedKind::List, source));
    intel.pull_all().await;
    let error = status(&intel).last_error.unwrap();
    assert!(error.contains("no response; check the address"), "{error}");
    assert!(error.contains("refused") && !error.contains("secret"), "{error}");
}

#[tokio::test]
async fn truncated_rows_are_refused_and_their_etag_is_not_stored() {
    let server = FeedServer::start().await;
    let (intel, _) = intel(config(FeedKind::Sentinel, at(&server)));
    let rows = lines(&[
        indicator("a", json!({ "NetworkIP": "203.0.113.5" })),
        indicator("b", json!({ "NetworkIP": "203.0.113.6" })),
    ]);
    server.serve("ETag: \"v1\"\r\n", rows.split_at(rows.len() - 9).0.as_bytes());
    intel.pull_all().await;
    let error = status(&intel).last_error.unwrap();
    assert!(error.contains("the body ends early, inside the row of line 2"), "{error}");
    server.serve("", rows.trim_end().as_bytes());
    intel.pull_all().await;
    assert!(!server.requests()[1].contains("if-none-match"));
    assert_eq!((status(&intel).last_error, status(&intel).indicators), (None, 2));
}

#[tokio::test]
async fn an_indicator_deactivated_by_its_feed_is_removed() {
    let server = FeedServer::start().await;
    let (intel, _) = intel(config(FeedKind::Sentinel, at(&server)));
    let row = |columns| lines(&[indicator("a", columns)]);
    server.serve("", row(json!({ "NetworkIP": "203.0.113.5" })).as_bytes());
    intel.pull_all().await;
    assert!(covers(&intel.set().load(), "203.0.113.5"));
    let ended = json!({ "NetworkIP": "203.0.113.5", "TimeGenerated": AT, "Active": false });
    server.serve("", row(ended).as_bytes());
    intel.pull_all().await;
    assert_eq!(status(&intel).last_error, None);
    assert!(intel.set().load().is_empty());
}

fn local(path: &Path) -> FeedConfig {
    config(FeedKind::List, FeedSource::File(path.to_owned()))
}

#[test]
fn local_feeds_are_loaded_first() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.txt");
    std::fs::write(&list, "203.0.113.5\n").unwrap();
    let large = folder.path().join("large.txt");
    std::fs::write(&large, "203.0.113.5\n".repeat(1000)).unwrap();
    let mut configs = vec![
        local(&list),
        config(FeedKind::List, FeedSource::Embedded("203.0.113.6\n203.0.113.5\n")),
        local(&large),
        local(&folder.path().join("absent.txt")),
        local(folder.path()),
        config(FeedKind::List, FeedSource::Http("http://127.0.0.1:9/".parse().unwrap())),
    ];
    for (number, config) in configs.iter_mut().enumerate() {
        config.name = format!("feed{number}");
    }
    let (intel, stats) = feeds(configs, Arc::new(FixedClock(AT.parse().unwrap())));
    intel.load_local();
    let set = intel.set().load_full();
    assert_eq!(set.covering("203.0.113.5".parse().unwrap()).count(), 2);
    assert!(covers(&set, "203.0.113.6"));
    let errors: Vec<_> =
        intel.status().into_iter().map(|it| it.last_error.unwrap_or_default()).collect();
    for (error, expected) in errors.iter().zip([
        "",
        "",
        "larger than 10000 bytes",
        "read the file; it must exist and be readable by the agent's user: No such file",
        "not a regular file",
        "",
    ]) {
        assert!(
            error.contains(expected) && error.is_empty() == expected.is_empty(),
            "{expected}: {error}"
        );
    }
    assert_eq!((stats.feeds_pulled.value(), stats.feeds_failed.value()), (2, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feeds_are_pulled_periodically_until_shutdown() {
    let server = FeedServer::start().await;
    server.serve("", b"203.0.113.5\n");
    let (intel, _) = intel(config(FeedKind::List, at(&server)));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(Arc::clone(&*intel).run(async move {
        let _stopped = stopped.await.is_ok();
    }));
    let twice = async {
        while server.requests().len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), twice).await.unwrap();
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(20), running).await.unwrap().unwrap();
    assert!(covers(&intel.set().load(), "203.0.113.5"));
}

/// Two versions alternate. Each lookup finds one of them completely, without a gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_is_replaced_atomically() {
    let server = FeedServer::start().await;
    let (intel, _) = intel(config(FeedKind::List, at(&server)));
    let versions: [&[u8]; 2] =
        [b"198.51.100.1\n203.0.113.0/24\n", b"198.51.100.1\n198.51.100.2\n2001:db8::/32\n"];
    server.serve("", versions[0]);
    intel.pull_all().await;
    let is_over = Arc::new(AtomicBool::new(false));
    let lookups = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (set, is_over) = (intel.set(), Arc::clone(&is_over));
            let lookups = Arc::clone(&lookups);
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let set = set.load();
                    let seen = ["198.51.100.1", "203.0.113.9", "198.51.100.2", "2001:db8::9"]
                        .map(|address| covers(&set, address));
                    assert!(
                        [[true, true, false, false], [true, false, true, true]].contains(&seen),
                        "{seen:?}"
                    );
                    lookups.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 1..=60 {
        server.serve("", versions[round % 2]);
        intel.pull_all().await;
        assert_eq!(intel.set().load().len(), 2 + round % 2);
    }
    is_over.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
    assert!(lookups.load(Ordering::Relaxed) > 100);
}
