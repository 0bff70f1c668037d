//! Throughput and memory of `replay --at`.
//!
//! Writes a million `VMConnection` rows (27 columns, 776 bytes), one in a thousand a hit, and a
//! hundred thousand indicators into a temporary directory. The data is the same in each run. A
//! child process then runs the replay, so that its peak memory is that of the replay alone.
//!
//! `cargo bench -p sensor-tests --bench replay`. Without cargo's `--bench` argument it uses a
//! hundredth of the data, as a smoke test.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark: it prints or stops")]

use std::env;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use sensor_user::base::progress::Progress;
use sensor_user::replay::{AtOptions, RowChecks, at};

/// Number of rows per row with the address of an indicator.
const ROWS_PER_HIT: u32 = 1000;
const RUNS: usize = 3;
/// Environment variable with the input directory of the measuring process.
const INPUT_DIRECTORY: &str = "NETSENSOR_BENCH_REPLAY";

fn main() {
    if let Some(folder) = env::var_os(INPUT_DIRECTORY) {
        measure(Path::new(&folder));
        return;
    }
    let full = env::args().any(|argument| argument == "--bench");
    let (rows, indicators) = if full { (1_000_000, 100_000) } else { (10_000, 1_000) };
    let folder = tempfile::tempdir().expect("a temporary directory");
    let row_bytes = write_connections(folder.path(), rows, indicators).expect("write rows");
    write_indicators(folder.path(), indicators).expect("write indicators");
    println!("{rows} rows of {} bytes, {indicators} indicators", row_bytes / u64::from(rows));
    for _ in 0..RUNS {
        let status = Command::new(env::current_exe().expect("own path"))
            .env(INPUT_DIRECTORY, folder.path())
            .status()
            .expect("start the measuring process");
        assert!(status.success(), "the measuring process: {status}");
    }
}

fn measure(folder: &Path) {
    let options = AtOptions {
        connections: vec![folder.join("rows.json")],
        indicators: vec![folder.join("indicators.json")],
        at: at(0),
        lookback: SignedDuration::from_hours(1),
        indicator_lookback: SignedDuration::from_hours(24 * 14),
        checks: RowChecks::Hits,
        progress: Progress::hidden(),
    };
    let mut alerts = Vec::new();
    let mut rejects = Vec::new();
    #[expect(clippy::disallowed_methods, reason = "measures the wall clock")]
    let start = std::time::Instant::now();
    let summary = at::run(&options, &mut alerts, &mut rejects).expect("a summary");
    let elapsed = start.elapsed();
    assert_eq!((summary.rows_rejected, summary.indicators_rejected), (0, 0));
    assert_eq!(summary.rows_in_window, summary.rows);
    assert!(summary.alerts > 0, "no alert");
    #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
    let rate = summary.rows as f64 / elapsed.as_secs_f64();
    println!(
        "{rate:.0} rows/s whole run ({:.3} s, {:.2} s of CPU time), {} indicators, {} alerts, \
         peak RSS {}",
        elapsed.as_secs_f64(),
        cpu_seconds(),
        summary.indicators,
        summary.alerts,
        peak_rss()
    );
}

/// Peak resident memory (`VmHWM`) of this process.
fn peak_rss() -> String {
    let status = std::fs::read_to_string("/proc/self/status").expect("own status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.expect("VmHWM").trim().to_owned()
}

/// CPU time of this process, user and system, on all cores.
fn cpu_seconds() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").expect("own stat");
    let (_name, fields) = stat.rsplit_once(") ").expect("fields after the name");
    let ticks = fields.split(' ').skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() / TICKS_PER_SECOND
}

/// Deterministic pseudorandom numbers (`SplitMix64`).
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from(mixed >> 32).expect("32 bits")
    }

    fn below(&mut self, end: u32) -> u32 {
        self.next() % end
    }
}

/// Timestamp relative to the time of the rule, in minutes.
fn at(minute: i64) -> Timestamp {
    let zero: Timestamp = "2026-11-24T12:00:00Z".parse().expect("a time");
    zero + SignedDuration::from_mins(minute)
}

/// Address in a /8 network: indicators are in 45/8, other rows in 93/8.
fn address(network: u8, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(network) << 24 | number & 0x00ff_ffff)
}

/// Distinct address of an indicator: an odd factor only permutes 24 bits.
fn indicator_address(number: u32) -> Ipv4Addr {
    address(45, number.wrapping_mul(2_654_435_761))
}

fn write_connections(folder: &Path, rows: u32, indicators: u32) -> io::Result<u64> {
    let mut numbers = SplitMix64(1);
    let mut file = BufWriter::new(File::create(folder.join("rows.json"))?);
    for row in 0..rows {
        let remote = if row % ROWS_PER_HIT == 0 {
            indicator_address(numbers.below(indicators))
        } else {
            address(93, numbers.next())
        };
        let local = address(10, numbers.below(5000));
        let time = at(-60 + i64::from(row) * 60 / i64::from(rows));
        writeln!(
            file,
            "{{\"TimeGenerated\":\"{time}\",\"Computer\":\"web{:04}.example.com\",\
             \"AgentId\":\"5f0c9a3e-8d1b-4c67-9f12-{row:012}\",\
             \"Machine\":\"m-5f0c9a3e-8d1b-4c67-9f12-{row:012}\",\
             \"Process\":\"p-{:08x}{:08x}{:08x}\",\"ProcessName\":\"nginx\",\
             \"ConnectionId\":\"{:08x}{:08x}\",\"Direction\":\"outbound\",\"Protocol\":\"tcp\",\
             \"SourceIp\":\"{local}\",\"DestinationIp\":\"{remote}\",\"DestinationPort\":443,\
             \"RemoteIp\":\"{remote}\",\"LinksEstablished\":{},\"LinksTerminated\":2,\
             \"LinksFailed\":0,\"LinksLive\":3,\"BytesSent\":{},\"BytesReceived\":{},\
             \"Responses\":5,\"ResponseTimeMin\":2,\"ResponseTimeMax\":41,\"ResponseTimeSum\":97,\
             \"RemoteCountry\":\"Netherlands\",\"SourceSystem\":\"Insights\",\
             \"Type\":\"VMConnection\",\"_ResourceId\":\"/subscriptions/\
             0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourcegroups/weu/v/web{:04}\"}}",
            row % 5000,
            numbers.next(),
            numbers.next(),
            numbers.next(),
            numbers.next(),
            row,
            numbers.below(9),
            numbers.below(100_000),
            numbers.below(1_000_000),
            row % 5000,
        )?;
    }
    file.flush()?;
    file.get_ref().metadata().map(|file| file.len())
}

fn write_indicators(folder: &Path, indicators: u32) -> io::Result<()> {
    let mut numbers = SplitMix64(2);
    let mut file = BufWriter::new(File::create(folder.join("indicators.json"))?);
    let expires = at(60 * 24 * 30);
    for number in 0..indicators {
        let made = at(-i64::from(numbers.below(60 * 24 * 13)));
        writeln!(
            file,
            "{{\"TimeGenerated\":\"{made}\",\"IndicatorId\":\"{:08X}{number:024X}\",\
             \"ExternalIndicatorId\":\"indicator--{number:012}\",\"SourceSystem\":\"TAXII\",\
             \"Active\":true,\"ActivityGroupNames\":\"\",\"ConfidenceScore\":{},\
             \"Description\":\"command and control server seen by the sensor network\",\
             \"ExpirationDateTime\":\"{expires}\",\"NetworkIP\":\"{}\",\"ThreatSeverity\":3,\
             \"ThreatType\":\"C2\",\"TrafficLightProtocolLevel\":\"green\",\"Url\":\"\",\
             \"Type\":\"ThreatIntelligenceIndicator\"}}",
            numbers.next(),
            numbers.below(101),
            indicator_address(number),
        )?;
    }
    file.flush()
}
