//! High row cardinality: time for which the row table blocks the pipeline thread in a minute with a
//! million group keys.
//!
//! `cargo bench -p sensor-tests --bench row_cardinality`. Without cargo's `--bench` argument it
//! uses ten thousand, as a smoke test.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark: it prints or stops")]

use std::env;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sensor_user::base::counters::Stats;
use sensor_user::base::protocol::Protocol;
use sensor_user::pipeline::aggregate::{
    Attribution, Change, ChangeKind, Direction, Flow, Phase, RowIdentity, RowTable,
};
use sensor_user::pipeline::enrich::Process;
use sensor_user::schema::ConnectionRow;
use sensor_user::schema::parquet::TableFile;

fn main() {
    let full = env::args().any(|argument| argument == "--bench");
    let keys: u32 = if full { 1_000_000 } else { 10_000 };
    let identity = RowIdentity {
        computer: "web01.example.net".into(),
        agent_id: "id".into(),
        ..RowIdentity::default()
    };
    let mut table = RowTable::new(identity, 2_000_000, Arc::new(Stats::default()));
    let minute = |minute: i64| Timestamp::from_second(minute * 60).expect("a time");

    let mut calls = CallTimes::default();
    for key in 0..keys {
        let change = established(key, minute(0));
        calls.measure(|| table.observe(&change));
    }
    println!("{keys} keys counted: {calls}");
    for (number, key_kind) in [(1, "keys with changes"), (2, "keys with live connections only")] {
        let mut now = minute(number) + Duration::from_secs(2);
        let (mut calls, mut rows, mut bytes) = (CallTimes::default(), 0, 0);
        let (mut columns, mut file) =
            (CallTimes::default(), TableFile::new(&ConnectionRow::TABLE).expect("a file"));
        loop {
            let closed = calls.measure(|| table.close_until(now, &|_| None));
            now += Duration::from_millis(20);
            rows += closed.len();
            // A sink does this on its own thread.
            let lines: String =
                closed.iter().map(|row| serde_json::to_string(row).expect("JSON") + "\n").collect();
            bytes += lines.len();
            columns.measure(|| file.append(&lines).expect("columns"));
            if !table.is_behind() {
                break;
            }
        }
        println!(
            "{rows} rows of {key_kind}: {calls}; {} bytes per row as JSON",
            bytes / rows.max(1)
        );
        let memory = file.memory();
        let file = columns.measure(|| file.finish().expect("a file"));
        let row_bytes = file.len() / rows.max(1);
        println!(
            "  as Parquet: {columns}; {memory} bytes in memory, {row_bytes} per row in the file"
        );
    }
}

fn established(key: u32, time: Timestamp) -> Change {
    let flow = Flow {
        time,
        phase: Phase::Opened,
        computer: "web01.example.net".into(),
        direction: Direction::Outbound,
        protocol: Protocol::Tcp,
        local: Ipv4Addr::new(192, 0, 2, 1).into(),
        local_port: Some(40_000),
        remote: Ipv4Addr::from_bits(key).into(),
        remote_port: Some(443),
        process: Arc::new(Process { path: "/usr/bin/curl".into(), ..Process::default() }),
        attribution: Attribution::Connect,
        connections: 1,
        preexisting: false,
        translated: None,
        bytes_sent: 0,
        bytes_received: 0,
    };
    Change::new(ChangeKind::Established, flow, u64::from(key) + 1, 0)
}

/// Number of calls, their total and their longest duration.
#[derive(Default)]
struct CallTimes {
    count: u32,
    total: Duration,
    longest: Duration,
}

impl CallTimes {
    fn measure<T>(&mut self, call: impl FnOnce() -> T) -> T {
        #[expect(clippy::disallowed_methods, reason = "this is what is measured")]
        let started = Instant::now();
        let result = call();
        let elapsed = started.elapsed();
        self.count += 1;
        self.total += elapsed;
        self.longest = self.longest.max(elapsed);
        result
    }
}

impl std::fmt::Display for CallTimes {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, total, longest } = self;
        write!(out, "{total:.1?} in {count} calls, the longest {longest:.1?}")
    }
}
