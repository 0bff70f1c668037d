//! The spool: alerts a second onto the disk and from it, beside what the disk does by itself.
//!
//! `cargo bench -p sensor-tests --bench spool`. In the system's temporary folder, or the one that
//! `TMPDIR` names: it should be on a disk. Run any other way it takes few alerts, as a check that it
//! works.
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
use sensor_user::deliver::spool::{Commit, Reader, Spool, SpoolConfig, State};
use sensor_user::pipeline::dedup::Alert;

const LIMIT: Duration = Duration::from_mins(1);

fn main() {
    let full = env::args().any(|argument| argument == "--bench");
    let (single, many) = if full { (3_000, 200_000) } else { (20, 2_000) };
    let folder = tempfile::tempdir().expect("a temporary folder");
    println!("in {}", folder.path().display());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let line = serde_json::to_string(&sample_alert("id")).expect("JSON").len();
    println!("an alert has {line} bytes of JSON");
    let times = runtime.block_on(one_by_one(folder.path(), single, line));
    say("append and fdatasync", single, times.here);
    say("  in another thread", single, times.there);
    println!(
        "  {:.2} of the disk's own rate",
        times.here.as_secs_f64() / times.there.as_secs_f64()
    );
    say("alerts one by one", single, times.alerts);
    println!(
        "  {:.2} of the disk's own rate",
        times.here.as_secs_f64() / times.alerts.as_secs_f64()
    );
    for batch in [1, 10, 100, 1000] {
        let dir = folder.path().join(format!("batch {batch}"));
        let (synced, drained) = runtime.block_on(batches(&dir, many, batch));
        say(&format!("alerts in commits of {batch}"), many, synced);
        say("  read again after a restart", many, drained);
    }
}

fn open(dir: &Path) -> (Spool, Reader) {
    let config = SpoolConfig { max_bytes: 4 << 30, queue: 1_000_000, ..SpoolConfig::USUAL };
    let (clock, stats) = (Arc::new(SystemClock), Arc::<Stats>::default());
    let (spool, _) = Spool::open(dir, &config, &["a".to_owned()], clock, &stats).expect("a spool");
    let reader = spool.reader("a").expect("a reader");
    (spool, reader)
}

/// What the same number of syncs took.
#[derive(Debug, Default)]
struct Times {
    /// A write and an fdatasync each, in the thread that asks for them.
    here: Duration,
    /// The same in a thread of its own, which is told of each and tells back: what no log that
    /// keeps the disk away from who raises alerts can be faster than.
    there: Duration,
    /// Alerts, each of which waits until a sink's reader has had the one before.
    alerts: Duration,
}

/// In turns of few, since a disk has good and bad times.
async fn one_by_one(dir: &Path, count: u32, length: usize) -> Times {
    const TURN: usize = 50;
    let mut here = Appended::new(&dir.join("here"), length);
    let mut there = Appended::new(&dir.join("there"), length);
    let (asks, asked) = mpsc::sync_channel(1);
    let (tells, mut told) = tokio::sync::mpsc::channel(1);
    let thread = thread::spawn(move || {
        while asked.recv().is_ok() {
            there.append();
            tells.blocking_send(()).expect("who asks");
        }
    });
    let (spool, mut reader) = open(&dir.join("single"));
    let mut times = Times::default();
    for turn in alerts(count).chunks(TURN) {
        times.here += time(|| turn.iter().for_each(|_| here.append()));
        let began = now();
        for _alert in turn {
            asks.send(()).expect("the thread");
            told.recv().await.expect("the thread");
        }
        times.there += began.elapsed();
        let began = now();
        for alert in turn {
            let state = Some(state(&spool, 200));
            spool.put(Commit { alerts: vec![Arc::clone(alert)], state });
            let stored = reader.next(1, 1 << 20).await;
            reader.settle(stored.last().expect("an alert").sequence + 1);
        }
        times.alerts += began.elapsed();
    }
    drop(asks);
    thread.join().expect("the thread");
    assert!(spool.close(LIMIT), "all of it is on disk");
    times
}

/// A file to which lines are appended and synced.
struct Appended {
    file: File,
    line: Vec<u8>,
    end: u64,
}

impl Appended {
    fn new(path: &Path, length: usize) -> Self {
        Self { file: File::create(path).expect("a file"), line: vec![b'x'; length + 50], end: 0 }
    }

    fn append(&mut self) {
        self.file.write_all_at(&self.line, self.end).expect("write");
        self.file.sync_data().expect("sync");
        self.end += self.line.len() as u64;
    }
}

/// Until all are synced; and then, until all are read from disk.
async fn batches(dir: &Path, count: u32, batch: usize) -> (Duration, Duration) {
    let alerts = alerts(count);
    let (spool, reader) = open(dir);
    let began = now();
    for commit in alerts.chunks(batch) {
        let state = Some(state(&spool, 200));
        spool.put(Commit { alerts: commit.to_vec(), state });
    }
    assert!(spool.close(LIMIT), "all of it is on disk");
    let synced = began.elapsed();
    drop((reader, spool));
    let (spool, mut reader) = open(dir);
    let began = now();
    let mut left = count as usize;
    while left > 0 {
        let stored = reader.next(500, 4 << 20).await;
        reader.settle(stored.last().expect("an alert").sequence + 1);
        left -= stored.len();
    }
    let drained = began.elapsed();
    assert!(spool.close(LIMIT), "the cursor is on disk");
    (synced, drained)
}

fn alerts(count: u32) -> Vec<Arc<Alert>> {
    (0..count).map(|number| Arc::new(sample_alert(&format!("{number:032}")))).collect()
}

fn state(spool: &Spool, bytes: usize) -> State {
    if spool.wants_snapshot() {
        State::Snapshot(vec![1; 100 * bytes])
    } else {
        State::Change(vec![1; bytes])
    }
}

fn say(what: &str, count: u32, taken: Duration) {
    let rate = f64::from(count) / taken.as_secs_f64();
    println!("{what:<32} {count:>7} in {taken:>9.2?}: {rate:>9.0} a second");
}

fn time(work: impl FnOnce()) -> Duration {
    let began = now();
    work();
    began.elapsed()
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is what is measured")]
    Instant::now()
}
