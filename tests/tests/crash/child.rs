//! The child process: the agent behind the kernel, until it is killed or has delivered all alerts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sensor_user::base::clock::{Clock, SystemClock};
use sensor_user::base::counters::Stats;
use sensor_user::deliver::spool::SpoolConfig;
use sensor_user::deliver::{
    Deliverer, Delivery, HttpConfig, Outbox, RetryPolicy, SinkConfig, SinkKind,
};
use sensor_user::pipeline::Detection;

use super::events;

/// Arguments of the child, as environment variables.
pub(super) const FOLDER: &str = "NETSENSOR_TEST_CRASH_FOLDER";
pub(super) const URL: &str = "NETSENSOR_TEST_CRASH_URL";
pub(super) const EVENTS: &str = "NETSENSOR_TEST_CRASH_EVENTS";
/// The file that marks completion.
pub(super) const DONE: &str = "done";

/// Not a test: the entry point of the child process.
#[test]
fn child_process_entry_point() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let url = std::env::var(URL).unwrap();
    let events = std::env::var(EVENTS).unwrap().parse().unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(run(Path::new(&folder), &url, events));
}

/// Raises `hits` hits of one indicator within one dedup window.
pub(super) async fn storm(folder: &Path, url: &str, hits: u64) {
    let (mut outbox, deliverer, mut detection) = start(folder, url);
    for _hit in 0..hits {
        detection.observe(&events::repeated_event(), &mut outbox);
    }
    events::end_windows(&mut detection, 0, &mut outbox);
    assert_eq!(deliverer.drain(Duration::from_mins(1)).await, []);
}

async fn run(folder: &Path, url: &str, events: u64) {
    let (mut outbox, deliverer, mut detection) = start(folder, url);
    for number in detection.dedup.admitted()..events {
        detection.begin(&outbox);
        detection.observe(&events::event(number), &mut outbox);
        detection.tick(events::time(number), &mut outbox);
        if number % 8 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    events::end_windows(&mut detection, events, &mut outbox);
    // If the upstream was down for three attempts, the next child delivers the rest.
    if deliverer.drain(Duration::from_mins(1)).await.is_empty() {
        std::fs::write(folder.join(DONE), "").unwrap();
    }
}

/// Starts the stages from the state that the previous child left.
fn start(folder: &Path, url: &str) -> (Outbox, Deliverer, Detection) {
    let kind = SinkKind::Http(HttpConfig::new(url.parse().unwrap()));
    let sink = SinkConfig {
        batch: 20,
        concurrency: 1 + usize::from(fastrand::bool()),
        ..SinkConfig::new("collector".to_owned(), kind)
    };
    let spool = SpoolConfig { segment_bytes: 64 << 10, ..SpoolConfig::USUAL };
    let retry =
        RetryPolicy { retry_first: Duration::from_millis(2), retry_max: Duration::from_millis(20) };
    let delivery = Delivery { sinks: &[sink], folder: &folder.join("spool"), spool: &spool, retry };
    let (clock, stats): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), Arc::<Stats>::default());
    let (outbox, deliverer, recovered) = Deliverer::start(delivery, &stats, &clock).unwrap();
    let mut detection = events::detection();
    let saved: Vec<Vec<u8>> = recovered.snapshot.into_iter().chain(recovered.changes).collect();
    detection.dedup.restore(&saved).unwrap();
    (outbox, deliverer, detection)
}
