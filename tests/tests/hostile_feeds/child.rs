//! The feed reader process: its confinement, and no loss when it dies.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sensor_user::intel::FeedKind;
use sensor_user::telemetry::control::FeedReport;
use serde_json::json;
use tokio::time::Instant;

use super::TestFeed;

/// Lines that keep the reader busy for much longer than the test inspects it.
const LINES: &str = "203.0.113.7\n203.0.113.8\n203.0.113.9\n";
const TIMES: usize = 1_000_000;

/// The reader process of `feed`, found by its open files.
fn reader(feed: &TestFeed) -> Option<Pid> {
    let me = std::process::id().to_string();
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let mut pids = pids.filter(|pid| {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let is_reader = std::fs::read(folder.join("cmdline"))
            .is_ok_and(|words| words.ends_with(b"\0parse-feed\0"));
        is_reader
            && fields(&folder.join("status")).get("PPid") == Some(&me)
            && links(&folder).iter().any(|link| link.ends_with("test.new"))
            && links(&folder).iter().any(|link| link.starts_with(feed.state.path()))
    });
    pids.next().map(Pid::from_raw)
}

/// The targets of the open files of a process.
fn links(process: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(process.join("fd")) else { return Vec::new() };
    entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).collect()
}

/// Parses `name:\tvalue` lines.
fn fields(path: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// Kills the process when dropped, so that no stopped process is left.
struct Killed(Pid);

impl Drop for Killed {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGKILL).unwrap();
    }
}

/// Pulls a large body that keeps the reader busy, inspects the reader with `inspect` once it is
/// confined and stopped, and kills it.
async fn pull_and_kill(feed: &TestFeed, inspect: impl FnOnce(&Path)) -> FeedReport {
    let part = LINES.repeat(TIMES / 100);
    feed.server.serve_repeated(b"HTTP/1.1 200 OK\r\n\r\n", (part.as_bytes(), 100), b"");
    let inspection = async {
        let end = Instant::now() + Duration::from_mins(1);
        loop {
            assert!(Instant::now() < end, "no confined reader");
            tokio::time::sleep(Duration::from_millis(2)).await;
            let Some(pid) = reader(feed) else { continue };
            let folder = PathBuf::from(format!("/proc/{pid}"));
            if fields(&folder.join("status")).get("Seccomp").is_some_and(|it| it == "2") {
                kill(pid, Signal::SIGSTOP).unwrap();
                let _killed_at_end = Killed(pid);
                inspect(&folder);
                return;
            }
        }
    };
    tokio::join!(feed.pull(), inspection).0
}

#[tokio::test]
async fn the_reader_is_confined_to_what_it_needs() {
    let feed = TestFeed::list().await;
    let inspect = |process: &Path| {
        let status = fields(&process.join("status"));
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{set}");
        }
        assert_eq!((status["NoNewPrivs"].as_str(), status["Threads"].as_str()), ("1", "1"));
        let limits = std::fs::read_to_string(process.join("limits")).unwrap();
        let limit = |name: &str| {
            let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(limit("Max address space"), ["1073741824", "1073741824"]);
        assert_eq!(limit("Max cpu time"), ["300", "300"]);
        assert_eq!(limit("Max core file size"), ["0", "0"]);
        assert_eq!(limit("Max file size"), ["8589934592", "8589934592"]);
        assert_eq!(std::fs::read(process.join("environ")).unwrap(), b"");
        // Besides /dev/null and standard error: its documents, and one socket to its parent.
        let open = links(process);
        let feeds = feed.folder();
        let of_feeds = open.iter().filter(|link| link.starts_with(&feeds)).count();
        let is_socket = |link: &&PathBuf| link.to_string_lossy().starts_with("socket:");
        let sockets: HashSet<&PathBuf> = open.iter().filter(is_socket).collect();
        let uses = open.iter().filter(is_socket).count();
        assert_eq!((sockets.len(), of_feeds), (1, 3), "{open:?}");
        assert_eq!(open.len(), uses + of_feeds + 2, "{open:?}");
    };
    pull_and_kill(&feed, inspect).await;
}

#[tokio::test]
async fn a_killed_reader_loses_nothing() {
    let feed = TestFeed::list().await;
    let report = pull_and_kill(&feed, |_| {}).await;
    feed.assert_refused(&report, "the parser exited early (signal: 9 (SIGKILL))");
    assert_eq!((report.failures, report.quarantined), (1, false));
    feed.pull_good().await;
}

/// A small body that would need many gigabytes of memory: each of many addresses has the whole
/// text.
#[tokio::test]
async fn a_reader_that_needs_too_much_memory_ends_with_an_error() {
    let feed = TestFeed::of(FeedKind::Sentinel, |_| {}).await;
    let address = |number: u32| {
        format!("ipv4-addr:value = '{}'", std::net::Ipv4Addr::from(0x0b00_0000 + 2 * number))
    };
    let addresses: Vec<String> = (0..20_000).map(address).collect();
    let pattern = format!("[{}]", addresses.join(" OR "));
    let data = json!({ "description": "x".repeat(8192) });
    let rows = (0..12).map(|number| {
        json!({
            "TimeGenerated": "2026-11-23T12:00:00Z", "Id": format!("indicator--{number}"),
            "Type": "ThreatIntelIndicators", "IsActive": true, "Pattern": pattern, "Data": data,
        })
        .to_string()
            + "\n"
    });
    let report = feed.pull_body(rows.collect::<String>()).await;
    feed.assert_refused(&report, "the parser exited early (signal: 6 (SIGABRT))");
    let hint = "is the feed too large for its 1024 MiB of memory, half of what this host gives";
    assert!(report.reason.contains(hint), "{}", report.reason);
    feed.pull_good().await;
}
