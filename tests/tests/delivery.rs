//! Delivery, through the library: what a sink gets, in which order, and what happens when it does
//! not take it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends with a panic")]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sensor_tests::{Answer, Collector, Request, alert, logged, row, skip_unless};
use sensor_user::clock::{Clock, FixedClock};
use sensor_user::deliver::{Deliverer, Leftover, Outbox, Pace, SinkConfig, SinkKind};
use sensor_user::stable_id::stable_id;
use sensor_user::stats::Stats;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// Waits of the tests: short, so that no test takes long.
const PACE: Pace = Pace {
    row_wait: Duration::from_millis(200),
    retry_first: Duration::from_millis(20),
    retry_most: Duration::from_millis(100),
};

/// Running sinks.
struct Running {
    runtime: Runtime,
    outbox: Outbox,
    deliverer: Deliverer,
    stats: Arc<Stats>,
}

impl Running {
    fn start(sinks: &[SinkConfig]) -> Self {
        let _collecting = logged("");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let stats = Arc::new(Stats::default());
        let clock: Arc<dyn Clock> = Arc::new(FixedClock("2026-11-24T10:00:00Z".parse().unwrap()));
        let entered = runtime.enter();
        let (outbox, deliverer) = Deliverer::start(sinks, PACE, &stats, &clock).unwrap();
        drop(entered);
        Self { runtime, outbox, deliverer, stats }
    }

    fn alerts(&self, ids: &[&str]) {
        for id in ids {
            self.outbox.alerts(alert(id));
        }
    }

    fn rows(&self, ids: &[&str]) {
        self.outbox.rows(ids.iter().map(|id| row(id)).collect());
    }

    /// Ends the sinks within 5 s; the counters by name, and what was left.
    fn drain(self) -> (impl Fn(&str) -> u64, Vec<Leftover>) {
        let left = self.runtime.block_on(self.deliverer.drain(Duration::from_secs(5)));
        let snapshot = self.stats.snapshot();
        let value = move |name: &str| {
            snapshot.iter().find(|(counter, _)| *counter == name).map(|(_, value)| *value).unwrap()
        };
        (value, left)
    }
}

/// An http sink with `batch`; alerts and rows.
fn http(name: &str, collector: &Collector, batch: usize) -> SinkConfig {
    let url = collector.url().parse().unwrap();
    SinkConfig {
        name: name.to_owned(),
        kind: SinkKind::Http { url, lines: false, timeout: Duration::from_secs(5) },
        alerts: true,
        rows: true,
        queue: 1000,
        batch,
    }
}

fn file(name: &str, path: &Path) -> SinkConfig {
    SinkConfig {
        name: name.to_owned(),
        kind: SinkKind::File(path.to_owned()),
        alerts: true,
        rows: false,
        queue: 1000,
        batch: 2,
    }
}

/// Answers the n-th request by the n-th of `answers`, and takes all that follow.
fn first(answers: Vec<Answer>) -> impl FnMut(usize, &Request) -> Answer + Send + 'static {
    move |number, _request| answers.get(number).cloned().unwrap_or(Answer::TAKE)
}

/// Waits until `there` is true; panics when it is not within 10 s.
fn wait_until(what: &str, there: impl Fn() -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !there() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(5)).await });
    }
}

#[test]
fn alerts_arrive_in_order_at_once_and_in_batches() {
    let collector = Collector::start(first(vec![Answer::Stall]));
    let running = Running::start(&[http("order", &collector, 3)]);
    let put = Instant::now();
    running.alerts(&["a0"]);
    let arrived = collector.wait_for(1)[0].at;
    assert!(arrived - put < Duration::from_millis(150), "{:?}", arrived - put);
    running.alerts(&["a1", "a2", "a3", "a4", "a5", "a6", "a7"]);
    collector.release();
    collector.wait_for_taken(8);
    let requests = collector.requests();
    let ids: Vec<_> = requests.iter().map(Request::ids).collect();
    assert_eq!(ids, [vec!["a0"], vec!["a1", "a2", "a3"], vec!["a4", "a5", "a6"], vec!["a7"]]);
    assert!(requests.iter().all(|request| request.header("content-type") == "application/json"));
    assert_eq!(requests[1].header("idempotency-key"), stable_id(&["a1", "a2", "a3"]));
    assert!(requests[0].header("user-agent").starts_with("netsensor/"));
    let (value, left) = running.drain();
    assert_eq!((value("alerts_delivered"), left.len()), (8, 0));
}

#[test]
fn rows_wait_for_each_other_and_go_as_lines_where_lines_are_asked_for() {
    let collector = Collector::start(first(vec![]));
    let mut sink = http("rows", &collector, 3);
    if let SinkKind::Http { lines, .. } = &mut sink.kind {
        *lines = true;
    }
    let running = Running::start(&[sink]);
    let put = Instant::now();
    running.rows(&["r0", "r1", "r2", "r3"]);
    let requests = collector.wait_for(2);
    assert_eq!(requests[0].ids(), ["r0", "r1", "r2"]);
    assert_eq!(requests[1].ids(), ["r3"]);
    assert!(requests[0].at - put < Duration::from_millis(150), "a full batch does not wait");
    let waited = requests[1].at - put;
    assert!(waited >= PACE.row_wait && waited < 3 * PACE.row_wait, "{waited:?}");
    assert_eq!(requests[0].header("content-type"), "application/x-ndjson");
    assert_eq!(requests[0].body.lines().count(), 3);
    assert!(requests[0].body.ends_with('\n'));
    let (value, _) = running.drain();
    assert_eq!(value("rows_delivered"), 4);
}

#[test]
fn an_alert_overtakes_the_rows_that_wait() {
    let collector = Collector::start(first(vec![Answer::Stall]));
    let running = Running::start(&[http("overtake", &collector, 2)]);
    running.rows(&["r0", "r1"]);
    collector.wait_for(1);
    running.rows(&["r2", "r3", "r4", "r5"]);
    running.alerts(&["a0"]);
    collector.release();
    assert_eq!(collector.wait_for_taken(7), ["r0", "r1", "a0", "r2", "r3", "r4", "r5"]);
    drop(running.drain());
}

#[test]
fn an_alert_overtakes_rows_that_are_tried_again() {
    let collector = Collector::start(|_, request: &Request| {
        let rows = request.body.contains("\"VMConnection\"");
        if rows { Answer::retry_after(503, "1") } else { Answer::TAKE }
    });
    let running = Running::start(&[http("rows-refused", &collector, 1)]);
    running.rows(&["r0"]);
    collector.wait_for(1);
    running.alerts(&["a0"]);
    let requests = collector.wait_for(2);
    assert_eq!((requests[0].ids(), requests[1].ids()), (vec!["r0".into()], vec!["a0".into()]));
    drop(running);
}

#[test]
fn what_may_succeed_later_is_tried_again_under_the_same_key() {
    let refusals = [408, 429, 500, 502, 503, 504].map(Answer::status);
    let mut script = refusals.to_vec();
    script.push(Answer::Reset);
    let tries = script.len() + 1;
    let collector = Collector::start(first(script));
    let running = Running::start(&[http("again", &collector, 10)]);
    running.alerts(&["a0"]);
    let requests = collector.wait_for(tries);
    for request in &requests {
        assert_eq!(request.body, requests[0].body);
        assert_eq!(request.header("idempotency-key"), stable_id(&["a0"]));
    }
    running.alerts(&["a1"]);
    assert_eq!(collector.wait_for_taken(2), ["a0", "a1"]);
    let (value, left) = running.drain();
    assert_eq!(value("deliveries_retried"), tries as u64 - 1);
    assert_eq!((value("alerts_delivered"), value("alerts_discarded_rejected")), (2, 0));
    assert_eq!(left, []);
    assert_eq!(logged("sink again:").len(), 1, "one line in 10 s: {:?}", logged("sink again:"));
    assert!(logged("sink again:")[0].contains("the answer is 408"), "{:?}", logged("sink again:"));
}

#[test]
fn a_collector_that_is_not_there_yet_gets_all_of_it_later() {
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let sink = SinkConfig {
        kind: SinkKind::Http {
            url: format!("http://{address}/").parse().unwrap(),
            lines: false,
            timeout: Duration::from_secs(5),
        },
        ..file("absent", Path::new("/"))
    };
    let running = Running::start(&[sink]);
    running.alerts(&["a0", "a1", "a2"]);
    wait_until("a retry", || running.stats.deliveries_retried.value() > 1);
    let collector = Collector::start_at(address, first(vec![]));
    assert_eq!(collector.wait_for_taken(3), ["a0", "a1", "a2"]);
    let line = logged("sink absent:").remove(0);
    assert!(line.contains(&format!("post http://{address}/: ")), "{line}");
    assert!(line.contains("Connection refused"), "{line}");
    drop(running.drain());
}

#[test]
fn a_request_that_is_not_answered_in_time_is_tried_again() {
    let collector = Collector::start(
        |number, _request: &Request| {
            if number == 0 { Answer::Stall } else { Answer::TAKE }
        },
    );
    let mut sink = http("timeout", &collector, 10);
    if let SinkKind::Http { timeout, .. } = &mut sink.kind {
        *timeout = Duration::from_millis(300);
    }
    let running = Running::start(&[sink]);
    running.alerts(&["a0"]);
    let requests = collector.wait_for(2);
    assert!(requests[1].at - requests[0].at >= Duration::from_millis(250));
    assert_eq!(requests[1].body, requests[0].body);
    let (value, left) = running.drain();
    assert_eq!((value("alerts_delivered"), left.len()), (1, 0));
}

#[test]
fn retry_after_is_kept_as_seconds_and_as_a_date() {
    for value in ["1", "Tue, 24 Nov 2026 10:00:01 GMT"] {
        let collector = Collector::start(first(vec![Answer::retry_after(429, value)]));
        let running = Running::start(&[http("after", &collector, 10)]);
        running.alerts(&["a0"]);
        let requests = collector.wait_for(2);
        let waited = requests[1].at - requests[0].at;
        assert!(waited >= Duration::from_secs(1), "{value}: {waited:?}");
        assert!(waited < Duration::from_secs(3), "{value}: {waited:?}");
        drop(running.drain());
    }
}

#[test]
fn what_can_never_succeed_is_discarded_and_the_rest_goes_on() {
    for status in [301, 401, 403, 404, 410] {
        let name = format!("gone-{status}");
        let text = "no \u{1b}[31msuch\nplace".to_owned();
        let collector =
            Collector::start(first(vec![Answer::Stall, Answer::Status(status, vec![], text)]));
        let running = Running::start(&[http(&name, &collector, 2)]);
        running.alerts(&["a0"]);
        collector.wait_for(1);
        running.alerts(&["a1", "a2", "a3"]);
        collector.release();
        assert_eq!(collector.wait_for_taken(2), ["a0", "a3"]);
        let (value, left) = running.drain();
        assert_eq!((value("alerts_delivered"), value("alerts_discarded_rejected")), (2, 2));
        assert_eq!((value("deliveries_retried"), left.len()), (0, 0));
        let lines = logged(&format!("sink {name}: discarded"));
        let said = format!("the answer is {status}: no \\u{{1b}}[31msuch\\nplace");
        assert!(lines.len() == 1 && lines[0].contains(&said), "{lines:?}");
    }
}

#[test]
fn one_alert_that_is_refused_does_not_take_the_others_with_it() {
    for status in [400, 422] {
        let collector = Collector::start(move |number, request: &Request| match number {
            0 => Answer::Stall,
            _ if request.body.contains("\"poison\"") => Answer::status(status),
            _ => Answer::TAKE,
        });
        let running = Running::start(&[http("poison", &collector, 100)]);
        running.alerts(&["a0"]);
        collector.wait_for(1);
        running.alerts(&["a1", "a2", "poison", "a4", "a5"]);
        collector.release();
        assert_eq!(collector.wait_for_taken(5), ["a0", "a1", "a2", "a4", "a5"]);
        let (value, left) = running.drain();
        assert_eq!((value("alerts_delivered"), value("alerts_discarded_rejected")), (5, 1));
        assert_eq!(left, []);
    }
}

#[test]
fn refused_rows_are_discarded_together_and_large_batches_are_halved() {
    let collector = Collector::start(|_, request: &Request| match request.ids().len() {
        3.. => Answer::status(413),
        _ if request.body.contains("\"r0\"") => Answer::status(400),
        _ => Answer::TAKE,
    });
    let running = Running::start(&[http("halves", &collector, 8)]);
    running.rows(&["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7"]);
    assert_eq!(collector.wait_for_taken(6), ["r2", "r3", "r4", "r5", "r6", "r7"]);
    let (value, left) = running.drain();
    assert_eq!((value("rows_delivered"), value("rows_discarded_rejected")), (6, 2));
    assert_eq!(left, []);
}

#[test]
fn redirects_are_not_followed() {
    let elsewhere = Collector::start(first(vec![]));
    let location = vec![("location", elsewhere.url())];
    let answers = vec![307, 308, 302]
        .into_iter()
        .map(|status| Answer::Status(status, location.clone(), String::new()))
        .collect();
    let collector = Collector::start(first(answers));
    let running = Running::start(&[http("redirect", &collector, 1)]);
    running.alerts(&["a0", "a1", "a2", "a3"]);
    assert_eq!(collector.wait_for_taken(1), ["a3"]);
    let (value, _) = running.drain();
    assert_eq!(value("alerts_discarded_rejected"), 3);
    assert_eq!(elsewhere.requests().len(), 0);
}

#[test]
fn an_answer_without_end_is_read_only_so_far() {
    let collector = Collector::start(first(vec![Answer::Endless(404), Answer::Endless(200)]));
    let running = Running::start(&[http("endless", &collector, 1)]);
    let put = Instant::now();
    running.alerts(&["a0", "a1", "a2"]);
    assert_eq!(collector.wait_for_taken(2), ["a1", "a2"]);
    assert!(put.elapsed() < Duration::from_secs(3), "{:?}", put.elapsed());
    let lines = logged("sink endless: discarded");
    assert!(lines.len() == 1 && lines[0].len() < 600, "{lines:?}");
    drop(running.drain());
}

#[test]
fn a_sink_that_stalls_delays_no_other() {
    let stalled = Collector::start(|_, _: &Request| Answer::Stall);
    let healthy = Collector::start(first(vec![]));
    let running = Running::start(&[http("stalled", &stalled, 10), http("healthy", &healthy, 10)]);
    running.alerts(&["a0"]);
    stalled.wait_for(1);
    let put = Instant::now();
    for number in 0..50 {
        running.outbox.alerts(alert(&format!("b{number}")));
    }
    let taken = healthy.wait_for_taken(51);
    assert!(put.elapsed() < Duration::from_secs(1), "{:?}", put.elapsed());
    assert_eq!(taken.len(), 51);
    assert_eq!(stalled.requests().len(), 1);
    stalled.release();
    let (value, left) = running.drain();
    assert_eq!((value("alerts_delivered"), left.len()), (102, 0));
}

#[test]
fn what_a_full_queue_cannot_take_is_counted_and_nobody_waits() {
    let collector = Collector::start(first(vec![Answer::Stall]));
    let running = Running::start(&[SinkConfig { queue: 4, ..http("full", &collector, 10) }]);
    running.alerts(&["a0"]);
    collector.wait_for(1);
    let put = Instant::now();
    for number in 0..10_000 {
        running.outbox.alerts(alert(&format!("b{number}")));
    }
    running.rows(&["r0", "r1", "r2", "r3", "r4", "r5"]);
    assert!(put.elapsed() < Duration::from_secs(2), "{:?}", put.elapsed());
    collector.release();
    let taken = collector.wait_for_taken(9);
    assert_eq!(taken, ["a0", "b0", "b1", "b2", "b3", "r0", "r1", "r2", "r3"]);
    let (value, left) = running.drain();
    assert_eq!((value("alerts_delivered"), value("alerts_dropped_queue_full")), (5, 9_996));
    assert_eq!((value("rows_delivered"), value("rows_dropped_queue_full")), (4, 2));
    assert_eq!(left, []);
    assert_eq!(logged("sink full: queue full").len(), 1, "one line in 10 s");
}

#[test]
fn the_end_delivers_what_waits() {
    let collector = Collector::start(first(vec![Answer::status(503)]));
    let running = Running::start(&[http("end", &collector, 4)]);
    running.alerts(&["a0", "a1", "a2", "a3", "a4", "a5"]);
    running.rows(&["r0"]);
    let outbox = running.outbox.clone();
    let (value, left) = running.drain();
    assert_eq!(left, []);
    assert_eq!((value("alerts_delivered"), value("rows_delivered")), (6, 1));
    assert_eq!(collector.taken().len(), 7);
    outbox.alerts(alert("late"));
    assert_eq!(collector.taken().len(), 7, "nothing is taken after the end");
}

#[test]
fn the_end_does_not_wait_for_ever_and_says_what_was_left() {
    let stalled = Collector::start(|_, _: &Request| Answer::Stall);
    let healthy = Collector::start(first(vec![]));
    let running = Running::start(&[http("late", &stalled, 1), http("in-time", &healthy, 1)]);
    running.alerts(&["a0", "a1", "a2"]);
    running.rows(&["r0"]);
    stalled.wait_for(1);
    let Running { runtime, deliverer, stats, .. } = running;
    let began = Instant::now();
    let left = runtime.block_on(deliverer.drain(Duration::from_millis(300)));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(left, [Leftover { sink: "late".to_owned(), alerts: 3, rows: 1 }]);
    assert_eq!(stats.alerts_dropped_shutdown.value(), 3);
    assert_eq!(stats.rows_dropped_shutdown.value(), 1);
    assert_eq!((stats.alerts_delivered.value(), stats.rows_delivered.value()), (3, 1));
    assert_eq!(logged("sink late: not delivered before the end").len(), 1);
}

#[test]
fn a_file_gets_whole_lines_and_may_be_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.jsonl");
    // A line that a crash cut off does not spoil the next.
    std::fs::write(&path, "{\"AlertId\":\"torn").unwrap();
    let running = Running::start(&[file("file", &path)]);
    running.alerts(&["a0", "a1", "a2"]);
    let delivered = |count| move |stats: &Stats| stats.alerts_delivered.value() == count;
    wait_until("three lines", || delivered(3)(&running.stats));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\"AlertId\":\"torn\n") && text.ends_with('\n'), "{text}");
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
    assert_eq!(mode, 0o600, "a file made here is private");
    drop(running.drain());
}

#[test]
fn a_full_device_is_one_clear_error_and_delays_no_other() {
    let collector = Collector::start(first(vec![]));
    let running =
        Running::start(&[file("dev-full", Path::new("/dev/full")), http("beside", &collector, 10)]);
    running.alerts(&["a0", "a1", "a2"]);
    assert_eq!(collector.wait_for_taken(3), ["a0", "a1", "a2"]);
    wait_until("some retries", || running.stats.deliveries_retried.value() > 2);
    let Running { runtime, deliverer, .. } = running;
    let left = runtime.block_on(deliverer.drain(Duration::from_millis(100)));
    assert_eq!(left, [Leftover { sink: "dev-full".to_owned(), alerts: 3, rows: 0 }]);
    let lines = logged("sink dev-full: write /dev/full: No space left on device; free space ");
    assert_eq!(lines.len(), 1, "{:?}", logged("dev-full"));
}

#[test]
fn a_file_system_that_was_full_gets_every_line_once() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_mounted) = SmallFileSystem::mount(folder.path()) else { return };
    let filler = folder.path().join("filler");
    let path = folder.path().join("alerts.jsonl");
    // Leaves a page: the first batch of two alerts, about 3 KiB, fits, the second only in part.
    std::fs::write(&filler, vec![0; 60 << 10]).unwrap();
    let running = Running::start(&[file("tmpfs", &path)]);
    let ids: Vec<String> = (0..8).map(|number| format!("a{number}")).collect();
    for id in &ids {
        running.outbox.alerts(alert(id));
    }
    wait_until("some retries", || running.stats.deliveries_retried.value() > 2);
    let whole = |text: String| -> Vec<String> {
        assert!(text.is_empty() || text.ends_with('\n'), "a half line stayed: {text}");
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.map(|line: serde_json::Value| line["AlertId"].as_str().unwrap().to_owned()).collect()
    };
    let before = running.stats.alerts_delivered.value();
    assert!(before < 8, "the device was to be full");
    std::fs::remove_file(&filler).unwrap();
    let (value, left) = running.drain();
    assert_eq!((value("alerts_delivered"), left.len()), (8, 0));
    assert_eq!(whole(std::fs::read_to_string(&path).unwrap()), ids);
    let lines = logged("sink tmpfs: write");
    assert!(lines.len() == 1 && lines[0].contains("No space left on device; free space "));
}

/// A tmpfs of 64 KiB, unmounted when dropped.
struct SmallFileSystem(std::path::PathBuf);

impl SmallFileSystem {
    /// `None` where this process may not mount; the test is skipped then.
    fn mount(folder: &Path) -> Option<Self> {
        use nix::mount::{MsFlags, mount};
        let mounted =
            mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some("size=64k"));
        let why = format!("may not mount a tmpfs: {mounted:?}");
        if skip_unless(mounted.is_ok(), &why) {
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
