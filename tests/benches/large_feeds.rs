//! A feed of a million indicators: time and memory of the reader, memory of an idle agent, and
//! lookup latency while sets are swapped.
//!
//! `cargo bench -p sensor-tests --bench large_feeds`. Without cargo's `--bench` argument it uses
//! ten thousand, as a smoke test. The idle agent needs root.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark: it prints or stops")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{BufWriter, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use nix::sys::resource::{UsageWho, getrusage};
use sensor_tests::{agent_binary, run, spawn_with_stderr};
use sensor_user::intel::set::store::{SetFile, SetParts};
use sensor_user::intel::{
    Cursor, Extent, FeedKind, FeedSegment, IndicatorSet, ListFormat, ParseJob, PrefixPolicy,
    ReadPolicy, Ttl, Validity,
};
use sensor_user::privsep::FEED_PARSER_COMMAND;

/// Number of lookups in one measurement.
const LOOKUPS: usize = 2_000_000;

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    let count = if full { 1_000_000 } else { 10_000 };
    let folder = tempfile::tempdir().expect("a temporary directory");
    let plain = folder.path().join("plain.txt");
    let bundle = folder.path().join("bundle.json");
    write_plain(&plain, count).expect("write the list");
    write_bundle(&bundle, count).expect("write the bundle");
    println!("{count} indicators");
    let set = read(FeedKind::List, &plain, folder.path(), "plain list");
    read(FeedKind::Stix, &bundle, folder.path(), "STIX bundle");
    lookups(&set);
    if nix::unistd::geteuid().is_root() {
        measure_idle_agent(folder.path());
    } else {
        println!("idle agent: needs root");
    }
}

/// Address `number`. Addresses are distinct and spread over the public space.
fn address(number: u32) -> Ipv4Addr {
    // An odd factor permutes the numbers below 2^30; 11.0.0.0 to 74.255.255.255 are all public.
    let spread = number.wrapping_mul(0x9e37_79b1) & 0x3fff_ffff;
    Ipv4Addr::from(0x0b00_0000 + spread)
}

fn write_plain(path: &Path, count: u32) -> std::io::Result<()> {
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    (0..count).try_for_each(|number| writeln!(out, "{}", address(number)))?;
    out.flush()
}

/// Writes objects as in an export of MISP, about 600 bytes each.
fn write_bundle(path: &Path, count: u32) -> std::io::Result<()> {
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    out.write_all(b"{\"type\":\"bundle\",\"id\":\"bundle--5e2b1d54-0000-4000-8000-000000000000\",\"objects\":[")?;
    for number in 0..count {
        let comma = if number == 0 { "" } else { "," };
        let ip = address(number);
        write!(
            out,
            "{comma}{{\"type\":\"indicator\",\"spec_version\":\"2.1\",\
             \"id\":\"indicator--5e2b1d54-{:04x}-4{:03x}-8000-{number:012x}\",\
             \"created_by_ref\":\"identity--a0c22599-9e58-4da4-96ac-7051603fa951\",\
             \"created\":\"2026-11-20T10:11:12.000Z\",\"modified\":\"2026-11-24T10:11:12.000Z\",\
             \"name\":\"C2 server {ip}\",\"description\":\"seen in campaign {}\",\
             \"pattern\":\"[network-traffic:dst_ref.type = 'ipv4-addr' AND \
             network-traffic:dst_ref.value = '{ip}']\",\"pattern_type\":\"stix\",\
             \"pattern_version\":\"2.1\",\"valid_from\":\"2026-11-20T10:11:12Z\",\
             \"kill_chain_phases\":[{{\"kill_chain_name\":\"misp-category\",\
             \"phase_name\":\"Network activity\"}}],\"labels\":[\"misp:type=\\\"ip-dst\\\"\",\
             \"misp:to_ids=\\\"True\\\"\"],\"confidence\":80}}",
            number >> 16,
            number >> 4 & 0xfff,
            number % 1000,
        )?;
    }
    out.write_all(b"]}")?;
    out.flush()
}

/// Runs the reader process on a document and prints its time and memory.
fn read(kind: FeedKind, document: &Path, folder: &Path, name: &str) -> PathBuf {
    let bytes = std::fs::metadata(document).expect("the document").len();
    let now: Timestamp = "2026-11-24T12:00:00Z".parse().expect("a time");
    let mut job = ParseJob {
        max_bytes: u64::MAX,
        kind,
        list: ListFormat::default(),
        documents: document.to_owned(),
        lengths: vec![bytes],
        extent: Extent::Snapshot,
        previous: None,
        out: folder.join(format!("{kind:?}.set")),
        policy: ReadPolicy {
            prefixes: PrefixPolicy::default(),
            min_confidence: None,
            now,
            oldest: Timestamp::MIN,
        },
        own: Vec::new(),
        ttl: SignedDuration::from_hours(720),
        confirmed: None,
        memory: 1 << 30,
        origin: String::new(),
        cursor: Cursor::Start,
    };
    let set = job.out.clone();
    for pull in ["first pull", "unchanged second pull"] {
        let started = Instant::now();
        let mut child = Command::new(agent_binary())
            .arg(FEED_PARSER_COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the reader");
        let text = serde_json::to_vec(&job).expect("the job");
        child.stdin.take().expect("its input").write_all(&text).expect("write the job");
        let output = child.wait_with_output().expect("its exit");
        let elapsed = started.elapsed();
        let report = String::from_utf8_lossy(&output.stdout);
        assert!(report.contains("Merged"), "{report}");
        // The maximum of all children so far; each document is larger than the one before.
        let peak =
            getrusage(UsageWho::RUSAGE_CHILDREN).expect("resource usage of children").max_rss();
        println!(
            "{name}, {} MB, {pull}: {:.2} s, at most {} MiB so far",
            bytes / 1_000_000,
            elapsed.as_secs_f64(),
            peak / 1024
        );
        let started = Instant::now();
        let opened = SetFile::open(&job.out, SetParts::Lookup).expect("the set");
        let size = std::fs::metadata(&job.out).expect("the set").len() / 1_000_000;
        let set = IndicatorSet::from_segments(vec![Arc::new(segment(opened))]);
        println!(
            "  opened and swapped in {:.2} s, {size} MB on disk, {} indicators",
            started.elapsed().as_secs_f64(),
            set.len()
        );
        job.previous = Some(job.out.clone());
        job.out = folder.join(format!("{kind:?}.again"));
    }
    set
}

fn segment(set: SetFile) -> FeedSegment {
    let ttl = Ttl { ttl: SignedDuration::from_hours(720), confirmed: None };
    FeedSegment::open(set, "bench".into(), Validity { ttl, rows_for: None, is_list: true })
}

/// Measures each lookup, first without and then with another thread that repeatedly opens the set
/// and swaps it in. One in a thousand lookups is a hit, from few addresses.
fn lookups(path: &Path) {
    let open = || {
        let set = SetFile::open(path, SetParts::Lookup).expect("the set");
        Arc::new(IndicatorSet::from_segments(vec![Arc::new(segment(set))]))
    };
    let current = ArcSwap::new(open());
    let queries: Vec<IpAddr> = (0..1 << 16)
        .map(|number: u32| {
            let hit = address(number % 64);
            let random = Ipv4Addr::from(fastrand::u32(..));
            IpAddr::V4(if number.is_multiple_of(1000) { hit } else { random })
        })
        .collect();
    let measure = || {
        let mut times: Vec<u32> = Vec::with_capacity(LOOKUPS);
        for query in queries.iter().cycle().take(LOOKUPS) {
            let started = Instant::now();
            black_box(current.load().covering(*query).count());
            times.push(u32::try_from(started.elapsed().as_nanos()).unwrap_or(u32::MAX));
        }
        times.sort_unstable();
        let at = |share: f64| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
            #[expect(clippy::cast_precision_loss, reason = "a share")]
            let index = (times.len() as f64 * share) as usize;
            times.get(index).copied().unwrap_or_default()
        };
        format!("p50 {} ns, p99 {} ns, p99.9 {} ns", at(0.5), at(0.99), at(0.999))
    };
    println!("lookups without swaps: {}", measure());
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let text = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                current.store(open());
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
        let text = measure();
        stop.store(true, Ordering::Relaxed);
        text
    });
    println!("while {} sets are swapped: {text}", swaps.load(Ordering::Relaxed));
    println!("lookups without swaps: {}", measure());
}

/// Prints the resident memory of an idle agent with the bundle as its feed.
fn measure_idle_agent(folder: &Path) {
    let mut text = String::from("[rows]\nenabled = true\n");
    let feed = "[[feed]]\nname = \"large\"\nkind = \"stix\"\nurl = \"file:bundle.json\"\nmax_size = \"4GiB\"\n";
    text.write_str(feed).expect("a string");
    let config = folder.join("netsensor.toml");
    std::fs::write(&config, text).expect("write the configuration");
    let (mut agent, stderr) = spawn_with_stderr(&config, folder, Stdio::null());
    std::thread::sleep(Duration::from_secs(5));
    let path = format!("/proc/{}/status", agent.id());
    let status = std::fs::read_to_string(path).expect("the agent's state");
    for line in status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"))
    {
        println!("idle agent: {}", line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    run(Command::new("kill").arg(agent.id().to_string()));
    agent.wait().expect("the agent's exit");
    drop(stderr);
}
