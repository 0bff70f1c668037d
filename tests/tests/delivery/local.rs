//! File sinks and standard output.

use std::cell::Cell;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use sensor_tests::{Collector, RunningSinks, captured_logs, skip_unless};
use sensor_user::base::counters::Stats;
use sensor_user::deliver::{Leftover, SinkConfig, SinkKind};

use super::{file, first, http, start, wait_until};

#[test]
fn events_go_to_sinks_with_rows_or_health_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let sinks = [
        SinkConfig { rows: true, alerts: false, ..file("rows", &path("rows")) },
        SinkConfig { health: true, ..file("health", &path("health")) },
        file("alerts", &path("alerts")),
    ];
    let running = start(&sinks);
    running.rows(&["r0"]);
    running.report_loss();
    running.alerts(&["a0"]);
    let (value, left) = running.drain();
    assert_eq!(left, []);
    let types = |name: &str| -> Vec<String> {
        let text = std::fs::read_to_string(path(name)).unwrap();
        let of = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["Type"].clone();
        let mut types: Vec<String> =
            text.lines().map(|line| of(line).as_str().unwrap().to_owned()).collect();
        types.sort();
        types
    };
    assert_eq!(types("rows"), ["NetsensorLoss", "VMConnection"]);
    assert_eq!(types("health"), ["NetsensorLoss", "ThreatIntelligenceIndicator"]);
    assert_eq!(types("alerts"), ["ThreatIntelligenceIndicator"]);
    assert_eq!((value("agent_events_emitted"), value("rows_delivered")), (1, 3));
}

#[test]
fn a_file_has_complete_lines_and_may_be_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.jsonl");
    // A line truncated by a crash does not corrupt the next one.
    std::fs::write(&path, "{\"AlertId\":\"truncated").unwrap();
    let running = start(&[file("file", &path)]);
    running.alerts(&["a0", "a1", "a2"]);
    let delivered = |count| move |stats: &Stats| stats.alerts_delivered.value() == count;
    wait_until("three lines", || delivered(3)(&running.stats));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\"AlertId\":\"truncated\n") && text.ends_with('\n'), "{text}");
    let ids = |text: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        lines.map(|line: serde_json::Value| line["AlertId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&text), ["a0", "a1", "a2"]);
    std::fs::rename(&path, folder.path().join("alerts.jsonl.1")).unwrap();
    running.alerts(&["a3"]);
    wait_until("a new file", || delivered(4)(&running.stats));
    assert_eq!(ids(&std::fs::read_to_string(&path).unwrap()), ["a3"]);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "the sink's file is private");
    drop(running.drain());
}

#[test]
fn a_full_device_is_one_clear_error_and_delays_no_other_sink() {
    let collector = Collector::start(first(vec![]));
    let running =
        start(&[file("dev-full", Path::new("/dev/full")), http("beside", &collector, 10)]);
    running.alerts(&["a0", "a1", "a2"]);
    assert_eq!(collector.wait_for_accepted(3), ["a0", "a1", "a2"]);
    wait_until("some retries", || running.stats.deliveries_retried.value() > 2);
    let RunningSinks { runtime, deliverer, spool: _spool, .. } = running;
    let left = runtime.block_on(deliverer.drain(Duration::from_millis(100)));
    assert_eq!(left, [Leftover { sink: "dev-full".to_owned(), alerts: 3, rows: 0 }]);
    let lines = captured_logs("delivery failed; will be retried sink=\"dev-full\"");
    let error = "error=write /dev/full: No space left on device; free space ";
    assert!(lines.len() == 1 && lines[0].contains(error), "{:?}", captured_logs("dev-full"));
}

#[test]
fn a_file_system_that_was_full_receives_every_line_once() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_mounted) = SmallFileSystem::mount(folder.path()) else { return };
    let filler = folder.path().join("filler");
    let path = folder.path().join("alerts.jsonl");
    // Leaves one page: the first batch of two alerts, about 3 KiB, fits, the second only partly.
    std::fs::write(&filler, vec![0; 60 << 10]).unwrap();
    let running = start(&[file("tmpfs", &path)]);
    let ids: Vec<String> = (0..8).map(|number| format!("a{number}")).collect();
    for id in &ids {
        running.alerts(&[id]);
    }
    wait_until("some retries", || running.stats.deliveries_retried.value() > 2);
    let whole = |text: String| -> Vec<String> {
        assert!(text.is_empty() || text.ends_with('\n'), "a partial line remains: {text}");
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.map(|line: serde_json::Value| line["AlertId"].as_str().unwrap().to_owned()).collect()
    };
    let before = running.stats.alerts_delivered.value();
    assert!(before < 8, "the device must be full");
    std::fs::remove_file(&filler).unwrap();
    let (value, left) = running.drain();
    assert_eq!((value("alerts_delivered"), left.len()), (8, 0));
    assert_eq!(whole(std::fs::read_to_string(&path).unwrap()), ids);
    let lines = captured_logs("delivery failed; will be retried sink=\"tmpfs\"");
    assert!(lines.len() == 1 && lines[0].contains("No space left on device; free space "));
}

/// Runs in a child process (this test, started again), because the test runner owns standard
/// output.
#[test]
fn standard_output_receives_lines_until_the_reader_closes_it() {
    const CHILD: &str = "NETSENSOR_TEST_STDOUT_SINK";
    if let Some(result) = std::env::var_os(CHILD) {
        return write_to_standard_output(Path::new(&result));
    }
    let folder = tempfile::tempdir().unwrap();
    let result = folder.path().join("result");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "local::standard_output_receives_lines_until_the_reader_closes_it",
        ])
        .env(CHILD, &result)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let alert = lines.by_ref().find(|line| line.as_ref().unwrap().starts_with('{')).unwrap();
    let alert: serde_json::Value = serde_json::from_str(&alert.unwrap()).unwrap();
    assert_eq!(alert["AlertId"], "a0");
    drop(lines);
    child.wait().unwrap();
    assert_eq!(std::fs::read_to_string(&result).unwrap(), "closed; the ledger balances");
}

/// Sends alerts until the reader has closed standard output; writes to the file `result` whether
/// the counters balance.
fn write_to_standard_output(result: &Path) {
    let running = start(&[SinkConfig { kind: SinkKind::Stdout, ..file("stdout", Path::new("/")) }]);
    let put = Cell::new(0_u64);
    wait_until("the reader closes", || {
        running.alerts(&[&format!("a{}", put.get())]);
        put.set(put.get() + 1);
        running.outbox.stdout_closed()
    });
    running.alerts(&["late"]);
    let (value, left) = running.drain();
    let lost = value("alerts_dropped_sink_closed") + value("alerts_dropped_queue_full");
    let text = if left.is_empty() && value("alerts_delivered") + lost == put.get() + 1 {
        "closed; the ledger balances"
    } else {
        "the ledger does not balance"
    };
    std::fs::write(result, text).unwrap();
}

/// A tmpfs of 64 KiB, unmounted when dropped.
pub(super) struct SmallFileSystem(std::path::PathBuf);

impl SmallFileSystem {
    /// Mounts it at `folder`. `None` if this process may not mount; the test is then skipped.
    pub(super) fn mount(folder: &Path) -> Option<Self> {
        use nix::mount::{MsFlags, mount};
        let mounted =
            mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some("size=64k"));
        let reason = format!("may not mount a tmpfs: {mounted:?}");
        if skip_unless(mounted.is_ok(), &reason) {
            return None;
        }
        Some(Self(folder.to_owned()))
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        let _gone_with_the_folder = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}
