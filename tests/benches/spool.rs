//! Throughput of the spool: alerts per second to and from disk, compared with the disk's own rate.
//!
//! `cargo bench -p sensor-tests --bench spool`. Uses the system's temporary directory or `TMPDIR`,
//! which should be on a disk. Without cargo's `--bench` argument it uses few alerts, as a smoke
//! test.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark: it prints or stops")]

use std::env;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use sensor_tests::sample_alert;
use sensor_user::base::clock::SystemClock;
use sensor_user::base::counters::Stats;
use sensor_user::deliver::spool::{
    BatchLimit, Commit, DedupState, Spool, SpoolConfig, SpoolReader,
};
use sensor_user::pipeline::dedup::Alert;

const LIMIT: Duration = Duration::from_mins(1);

fn main() {
    let full = env::args().any(|argument| argument == "--bench");
    let (single, many) = if full { (3_000, 200_000) } else { (20, 2_000) };
    let folder = tempfile::tempdir().expect("a temporary directory");
    println!("in {}", folder.path().display());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let line = serde_json::to_string(&sample_alert("id")).expect("JSON").len();
    println!("an alert has {line} bytes of JSON");
    let times = runtime.block_on(one_by_one(folder.path(), single, line));
    print_rate("append and fdatasync", single, times.same_thread);
    print_rate("  in another thread", single, times.other_thread);
    println!(
        "  {:.2} of the disk's own rate",
        times.same_thread.as_secs_f64() / times.other_thread.as_secs_f64()
    );
    print_rate("alerts one by one", single, times.alerts);
    println!(
        "  {:.2} of the disk's own rate",
        times.same_thread.as_secs_f64() / times.alerts.as_secs_f64()
    );
    for batch in [1, 10, 100, 1000] {
        let dir = folder.path().join(format!("batch {batch}"));
        let (synced, drained) = runtime.block_on(batches(&dir, many, batch));
        print_rate(&format!("alerts in commits of {batch}"), many, synced);
        print_rate("  read again after a restart", many, drained);
    }
}

fn open(dir: &Path) -> (Spool, SpoolReader) {
    let config = SpoolConfig { max_bytes: 4 << 30, queue: 1_000_000, ..SpoolConfig::USUAL };
    let (clock, stats) = (Arc::new(SystemClock), Arc::<Stats>::default());
    let (spool, _) = Spool::open(dir, &config, &["a".to_owned()], clock, &stats).expect("a spool");
    let reader = spool.reader("a").expect("a reader");
    (spool, reader)
}

/// Durations of the same number of syncs.
#[derive(Debug, Default)]
struct SyncTimes {
    /// Write and fdatasync in the calling thread.
    same_thread: Duration,
    /// Write and fdatasync in another thread, with a request and a response over channels. This is
    /// the lower bound of any log whose disk I/O does not block the thread that raises alerts.
    other_thread: Duration,
    /// Alerts through the spool, each after a sink's reader has received the one before.
    alerts: Duration,
}

/// Measures the three variants in small interleaved batches, since a disk's latency varies.
async fn one_by_one(dir: &Path, count: u32, length: usize) -> SyncTimes {
    const BATCH: usize = 50;
    let mut local_log = AppendLog::new(&dir.join("same-thread"), length);
    let mut remote_log = AppendLog::new(&dir.join("other-thread"), length);
    let (request_sender, requests) = mpsc::sync_channel(1);
    let (response_sender, mut responses) = tokio::sync::mpsc::channel(1);
    let thread = thread::spawn(move || {
        while requests.recv().is_ok() {
            remote_log.append();
            response_sender.blocking_send(()).expect("a receiver");
        }
    });
    let (spool, mut reader) = open(&dir.join("single"));
    let mut times = SyncTimes::default();
    for batch in alerts(count).chunks(BATCH) {
        times.same_thread += time(|| batch.iter().for_each(|_| local_log.append()));
        let started = now();
        for _alert in batch {
            request_sender.send(()).expect("the thread");
            responses.recv().await.expect("the thread");
        }
        times.other_thread += started.elapsed();
        let started = now();
        for alert in batch {
            let state = Some(state(&spool, 200));
            spool.put(Commit { alerts: vec![Arc::clone(alert)], state });
            let stored = reader.next_batch(BatchLimit { alerts: 1, bytes: 1 << 20 }).await;
            reader.acknowledge(stored.last().expect("an alert").sequence + 1);
        }
        times.alerts += started.elapsed();
    }
    drop(request_sender);
    thread.join().expect("the thread");
    assert!(spool.close(LIMIT), "all alerts are on disk");
    times
}

/// File with appended and synced lines.
struct AppendLog {
    file: File,
    line: Vec<u8>,
    end: u64,
}

impl AppendLog {
    fn new(path: &Path, length: usize) -> Self {
        Self { file: File::create(path).expect("a file"), line: vec![b'x'; length + 50], end: 0 }
    }

    fn append(&mut self) {
        self.file.write_all_at(&self.line, self.end).expect("write");
        self.file.sync_data().expect("sync");
        self.end += self.line.len() as u64;
    }
}

/// Time until all alerts are synced, and time until all are read from disk after a restart.
async fn batches(dir: &Path, count: u32, batch: usize) -> (Duration, Duration) {
    let alerts = alerts(count);
    let (spool, reader) = open(dir);
    let started = now();
    for commit in alerts.chunks(batch) {
        let state = Some(state(&spool, 200));
        spool.put(Commit { alerts: commit.to_vec(), state });
    }
    assert!(spool.close(LIMIT), "all alerts are on disk");
    let synced = started.elapsed();
    drop((reader, spool));
    let (spool, mut reader) = open(dir);
    let started = now();
    let mut remaining = count as usize;
    while remaining > 0 {
        let stored = reader.next_batch(BatchLimit { alerts: 500, bytes: 4 << 20 }).await;
        reader.acknowledge(stored.last().expect("an alert").sequence + 1);
        remaining -= stored.len();
    }
    let drained = started.elapsed();
    assert!(spool.close(LIMIT), "the cursor is on disk");
    (synced, drained)
}

fn alerts(count: u32) -> Vec<Arc<Alert>> {
    (0..count).map(|number| Arc::new(sample_alert(&format!("{number:032}")))).collect()
}

fn state(spool: &Spool, bytes: usize) -> DedupState {
    if spool.wants_snapshot() {
        DedupState::Snapshot(vec![1; 100 * bytes])
    } else {
        DedupState::Change(vec![1; bytes])
    }
}

fn print_rate(label: &str, count: u32, elapsed: Duration) {
    let rate = f64::from(count) / elapsed.as_secs_f64();
    println!("{label:<32} {count:>7} in {elapsed:>9.2?}: {rate:>9.0} per second");
}

fn time(work: impl FnOnce()) -> Duration {
    let started = now();
    work();
    started.elapsed()
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is what is measured")]
    Instant::now()
}
