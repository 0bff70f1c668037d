//! Latency from the SYN to the POST of the alert, under a storm of rows.
//!
//! Starts the release agent with one http sink for alerts and rows, and a server that receives
//! them. One thread makes connections to changing loopback addresses, for about 100,000 rows per
//! minute (each connection has two rows: both its ends are on this host). Another thread connects
//! four times per second to an address with an indicator, each time a different one. Needs root.
//!
//! `cargo bench -p sensor-tests --bench post_latency` runs for three minutes. Without cargo's
//! `--bench` argument it runs for some seconds, as a smoke test. Without root it prints a message
//! and exits.
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark: it prints or stops"
)]

use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sensor_tests::{MinimalHttpServer, run, spawn_with_stderr};
use sensor_user::base::clock::{Clock as _, SystemClock};
use serde_json::Value;

/// Connections per second of the storm.
const STORM: u64 = 850;

fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("post_latency: needs root");
        return;
    }
    let full = env::args().any(|argument| argument == "--bench");
    let alerts: u16 = if full { 720 } else { 20 };
    let folder = tempfile::tempdir().expect("a temporary directory");
    let indicators: Vec<Ipv4Addr> = (0..alerts)
        .map(|n| Ipv4Addr::new(127, 77, n.to_be_bytes()[0], n.to_be_bytes()[1]))
        .collect();
    let list: String =
        indicators.iter().fold(String::new(), |text, it| text + &it.to_string() + "\n");
    std::fs::write(folder.path().join("list.txt"), list).expect("write the list");
    let (found, rows) = (Arc::<Mutex<Vec<SignedDuration>>>::default(), Arc::<AtomicU64>::default());
    let (latencies, row_count) = (Arc::clone(&found), Arc::clone(&rows));
    let server = MinimalHttpServer::start(move |body| record(body, &latencies, &row_count));
    let config = format!(
        "[rows]\nmax_keys_per_minute = 1000000\n[[feed]]\nname = \"bench\"\nkind = \"list\"\n\
         url = \"file:list.txt\"\nallow_private = true\n[[sink]]\nname = \"http\"\nkind = \"http\"\n\
         url = \"{}\"\ntakes = [\"alerts\", \"rows\"]\nqueue = 100000\n",
        server.url()
    );
    let path = folder.path().join("netsensor.toml");
    std::fs::write(&path, config).expect("write the configuration");
    let (mut agent, _stderr) = spawn_with_stderr(&path, folder.path(), Stdio::null());
    let listener = TcpListener::bind("0.0.0.0:0").expect("listen");
    let port = listener.local_addr().expect("own address").port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let stop = Arc::new(AtomicBool::new(false));
    let stop_storm = Arc::clone(&stop);
    let storm = std::thread::spawn(move || storm(port, &stop_storm));
    for address in indicators {
        connect(address, port);
        std::thread::park_timeout(Duration::from_millis(250));
    }
    stop.store(true, Ordering::Release);
    let connections = storm.join().expect("the storm");
    // Waits for the rows of the last minute.
    std::thread::park_timeout(Duration::from_secs(1));
    run(Command::new("kill").arg(agent.id().to_string()));
    agent.wait().expect("the agent's exit");
    let mut found = found.lock().expect("lock").clone();
    found.sort_unstable();
    let percentile =
        |percent: usize| found[(found.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!(
        "{} of {alerts} alerts, SYN to POST: median {:.1} ms, 99th percentile {:.1} ms, slowest \
         {:.1} ms; beside {connections} connections, and {} rows posted",
        found.len(),
        percentile(50),
        percentile(99),
        percentile(100),
        rows.load(Ordering::Acquire)
    );
}

fn connect(address: Ipv4Addr, port: u16) {
    let to = SocketAddr::new(IpAddr::V4(address), port);
    drop(TcpStream::connect_timeout(&to, Duration::from_secs(2)).expect("connect"));
}

/// Connects to changing addresses until `stop` is set. Returns the number of connections.
fn storm(port: u16, stop: &AtomicBool) -> u64 {
    let started = SystemClock.now();
    let mut connections = 0;
    while !stop.load(Ordering::Acquire) {
        let elapsed_ms = SystemClock.now().duration_since(started).unsigned_abs().as_millis();
        while u128::from(connections) < elapsed_ms * u128::from(STORM) / 1000 {
            let number = u32::try_from(connections % 0x3f_ffff).expect("below 2^22");
            connect(Ipv4Addr::from(0x7f80_0000 + number + 1), port);
            connections += 1;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    connections
}

/// Records the time from each outbound alert's SYN until now, and the number of rows.
fn record(body: &[u8], found: &Mutex<Vec<SignedDuration>>, rows: &AtomicU64) {
    let now = SystemClock.now();
    let items: Vec<Value> = serde_json::from_slice(body).expect("an array");
    let is_alert = |item: &&Value| item["Type"] == "ThreatIntelligenceIndicator";
    rows.fetch_add(items.iter().filter(|it| !is_alert(it)).count() as u64, Ordering::AcqRel);
    for alert in items.iter().filter(is_alert).filter(|it| it["Direction"] == "outbound") {
        let syn = alert["VMConnection_TimeGenerated"].as_str().expect("a time");
        let syn: Timestamp = syn.parse().expect("a time");
        found.lock().expect("lock").push(now.duration_since(syn));
    }
}
