//! A minute with a million group keys: how long the table holds the pipeline's thread up.
//!
//! `cargo bench -p sensor-tests --bench many_rows`. Run any other way it takes ten thousand, as a
//! check that it works.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark: it prints or stops")]

use std::env;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sensor_user::base::counters::Stats;
use sensor_user::pipeline::aggregate::{
    Attribution, Change, Direction, Flow, Identity, Phase, Protocol, RowTable, What,
};
use sensor_user::pipeline::enrich::Process;
use sensor_user::schema::CONNECTION;
use sensor_user::schema::parquet::TableFile;

fn main() {
    let full = env::args().any(|argument| argument == "--bench");
    let keys: u32 = if full { 1_000_000 } else { 10_000 };
    let identity = Identity {
        computer: "web01.example.net".into(),
        agent_id: "id".into(),
        ..Identity::default()
    };
    let mut table = RowTable::new(identity, 2_000_000, Arc::new(Stats::default()));
    let minute = |minute: i64| Timestamp::from_second(minute * 60).expect("a time");

    let mut longest = Taken::default();
    for key in 0..keys {
        let change = established(key, minute(0));
        longest.time(|| table.observe(&change));
    }
    println!("{keys} keys counted: {longest}");
    for (number, what) in [(1, "keys with changes"), (2, "keys that are only live")] {
        let mut now = minute(number) + Duration::from_secs(2);
        let (mut longest, mut rows, mut bytes) = (Taken::default(), 0, 0);
        let (mut columns, mut file) =
            (Taken::default(), TableFile::new(&CONNECTION).expect("a file"));
        loop {
            let made = longest.time(|| table.close_until(now, &|_| None));
            now += Duration::from_millis(20);
            rows += made.len();
            // As a sink does, on a thread of its own.
            let lines: String =
                made.iter().map(|row| serde_json::to_string(row).expect("JSON") + "\n").collect();
            bytes += lines.len();
            columns.time(|| file.append(&lines).expect("columns"));
            if !table.is_behind() {
                break;
            }
        }
        println!("{rows} rows of {what}: {longest}; {} bytes a row as JSON", bytes / rows.max(1));
        let memory = file.memory();
        let file = columns.time(|| file.finish().expect("a file"));
        let each = file.len() / rows.max(1);
        println!("  as Parquet: {columns}; {memory} bytes in memory, {each} a row in the file");
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
    Change::new(What::Established, flow, u64::from(key) + 1, 0)
}

/// How long calls took: all of them, and the longest.
#[derive(Default)]
struct Taken {
    calls: u32,
    all: Duration,
    longest: Duration,
}

impl Taken {
    fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        #[expect(clippy::disallowed_methods, reason = "this is what is measured")]
        let began = Instant::now();
        let result = call();
        let took = began.elapsed();
        self.calls += 1;
        self.all += took;
        self.longest = self.longest.max(took);
        result
    }
}

impl std::fmt::Display for Taken {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { calls, all, longest } = self;
        write!(out, "{all:.1?} in {calls} calls, the longest {longest:.1?}")
    }
}
