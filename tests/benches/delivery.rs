//! Delivery throughput: hits per second until their alerts are on disk, and alerts per second from
//! disk to an http sink on this host.
//!
//! `cargo bench -p sensor-tests --bench delivery`. Uses the system's temporary directory or
//! `TMPDIR`, which should be on a disk. Without cargo's `--bench` argument it uses few alerts, as a
//! smoke test.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark: it prints or stops")]

use std::collections::HashSet;
use std::env;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use sensor_tests::MinimalHttpServer;
use sensor_user::base::clock::{Clock, SystemClock};
use sensor_user::base::counters::Stats;
use sensor_user::base::protocol::Protocol;
use sensor_user::deliver::spool::SpoolConfig;
use sensor_user::deliver::{
    Deliverer, Delivery, HttpConfig, Outbox, RetryPolicy, SinkConfig, SinkKind,
};
use sensor_user::intel::{Indicator, IndicatorSet, parse_prefix};
use sensor_user::pipeline::Detection;
use sensor_user::pipeline::aggregate::{Attribution, Change, ChangeKind, Direction, Flow, Phase};
use sensor_user::pipeline::dedup::Dedup;
use sensor_user::pipeline::enrich::Process;
use sensor_user::pipeline::matcher::{AllowList, Matcher};
use tokio::runtime::Runtime;

const LIMIT: Duration = Duration::from_mins(2);

fn main() {
    let full = env::args().any(|argument| argument == "--bench");
    let hits = if full { 200_000 } else { 2_000 };
    let folder = tempfile::tempdir().expect("a temporary directory");
    println!("in {}", folder.path().display());
    let runtime = Runtime::new().expect("a runtime");
    for run in 0..3 {
        let dir = folder.path().join(run.to_string());
        // Port 9 has no listener, so the alerts stay in the spool.
        let raised = runtime.block_on(raise(&dir, hits));
        print_rate("hits to alerts on disk", hits, raised);
        let drained = runtime.block_on(drain(&dir, u64::from(hits)));
        print_rate("alerts on disk to an http sink", hits, drained);
    }
}

fn start(dir: &Path, url: &str) -> (Outbox, Deliverer, Arc<Stats>) {
    let kind = SinkKind::Http(HttpConfig::new(url.parse().expect("a URL")));
    let sink =
        SinkConfig { batch: 500, concurrency: 4, ..SinkConfig::new("sink".to_owned(), kind) };
    let spool = SpoolConfig { max_bytes: 4 << 30, queue: 1_000_000, ..SpoolConfig::USUAL };
    let (clock, stats): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), Arc::<Stats>::default());
    // A short retry delay, so that the last attempt at the end takes no time.
    let retry = RetryPolicy { retry_max: Duration::from_millis(10), ..RetryPolicy::DEFAULT };
    let delivery = Delivery { sinks: &[sink], folder: dir, spool: &spool, retry };
    let (outbox, deliverer, _) = Deliverer::start(delivery, &stats, &clock).expect("sinks");
    (outbox, deliverer, stats)
}

/// Time from the first hit until all alerts are synced. Each hit has a new address and alerts.
async fn raise(dir: &Path, hits: u32) -> Duration {
    let (mut outbox, deliverer, _) = start(dir, "http://127.0.0.1:9/");
    let mut detection = detection(hits as usize);
    let changes: Vec<Change> = (0..hits).map(change).collect();
    let started = now();
    for (number, change) in changes.iter().enumerate() {
        detection.observe(change, &mut outbox);
        // An iteration of the pipeline has several hits.
        if number % 100 == 99 {
            detection.tick(change.flow.time, &mut outbox);
        }
    }
    detection.tick(Timestamp::UNIX_EPOCH, &mut outbox);
    // Syncs all alerts to disk, attempts one delivery, and leaves them in the spool.
    let left = deliverer.drain(LIMIT).await;
    let elapsed = started.elapsed();
    assert_eq!(left.first().map(|left| left.alerts), Some(hits.into()), "all are on disk");
    elapsed
}

/// Time from the start until the server has received all alerts.
async fn drain(dir: &Path, alerts: u64) -> Duration {
    let received = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&received);
    let finder = memchr::memmem::Finder::new("\"AlertId\":").into_owned();
    let server = MinimalHttpServer::start(move |body| {
        count.fetch_add(finder.find_iter(body).count() as u64, Ordering::AcqRel);
    });
    let started = now();
    let (_outbox, deliverer, stats) = start(dir, &server.url());
    while stats.alerts_delivered.value() < alerts {
        assert!(started.elapsed() < LIMIT, "{} of {alerts}", stats.alerts_delivered.value());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let elapsed = started.elapsed();
    assert_eq!(received.load(Ordering::Acquire), alerts, "each once");
    assert_eq!(deliverer.drain(LIMIT).await, []);
    elapsed
}

/// Detection stages with one indicator, 203.0.0.0/8.
fn detection(keys: usize) -> Detection {
    let stats = Arc::<Stats>::default();
    let blank = Indicator::blank(parse_prefix("203.0.0.0/8").expect("a network"));
    let indicator = Indicator { id: "bench".to_owned(), feed: "bench".into(), ..blank };
    let set = Arc::new(Arc::new(IndicatorSet::from_indicators(vec![Arc::new(indicator)])).into());
    let matcher = Matcher::new(set, AllowList::default(), HashSet::new(), Arc::clone(&stats));
    let window = SignedDuration::from_hours(1);
    let dedup = Dedup::new("agent".to_owned(), window, keys, Arc::clone(&stats)).with_state();
    Detection::new(None, matcher, None, dedup, stats)
}

fn change(number: u32) -> Change {
    let remote = IpAddr::V4(Ipv4Addr::from((203 << 24) + number));
    let process = Process { name: "curl".to_owned(), pid: Some(7), ..Process::default() };
    let flow = Flow {
        time: Timestamp::UNIX_EPOCH,
        phase: Phase::Opened,
        computer: "host.example.net".into(),
        direction: Direction::Outbound,
        protocol: Protocol::Tcp,
        local: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 4)),
        local_port: Some(40_000),
        remote,
        remote_port: Some(443),
        process: Arc::new(process),
        attribution: Attribution::Connect,
        connections: 1,
        preexisting: false,
        translated: None,
        bytes_sent: 0,
        bytes_received: 0,
    };
    Change::new(ChangeKind::Opened, flow, number.into(), 0)
}

fn print_rate(label: &str, count: u32, elapsed: Duration) {
    let rate = f64::from(count) / elapsed.as_secs_f64();
    println!("{label:<32} {count:>7} in {elapsed:>9.2?}: {rate:>9.0} per second");
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is what is measured")]
    Instant::now()
}
