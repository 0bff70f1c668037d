//! How long it takes from the SYN to the POST of the alert, with a storm of rows beside it.
//!
//! Starts the release agent with one http sink for alerts and rows, and a server here that takes them.
//! One thread makes connections to ever other loopback addresses, for some 100,000 rows a minute (each
//! connection has two: both its ends are on this host); the other connects to an address that an
//! indicator names four times a second, each time another. Needs root.
//!
//! `cargo bench -p sensor-tests --bench post_latency` takes three minutes. Run any other way it takes
//! some seconds, as a check that it works; without root it says so and ends.
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

/// Connections a second of the storm.
const STORM: u64 = 850;

fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("post_latency: needs root");
        return;
    }
    let full = env::args().any(|argument| argument == "--bench");
    let alerts: u16 = if full { 720 } else { 20 };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let named: Vec<Ipv4Addr> = (0..alerts)
        .map(|n| Ipv4Addr::new(127, 77, n.to_be_bytes()[0], n.to_be_bytes()[1]))
        .collect();
    let list: String = named.iter().fold(String::new(), |text, it| text + &it.to_string() + "\n");
    std::fs::write(folder.path().join("list.txt"), list).expect("write the list");
    let (found, rows) = (Arc::<Mutex<Vec<SignedDuration>>>::default(), Arc::<AtomicU64>::default());
    let (told, counted) = (Arc::clone(&found), Arc::clone(&rows));
    let server = MinimalHttpServer::start(move |body| take(body, &told, &counted));
    let config = format!(
        "[rows]\nmax_keys_per_minute = 1000000\n[[feed]]\nname = \"bench\"\nkind = \"list\"\n\
         url = \"file:list.txt\"\nallow_private = true\n[[sink]]\nname = \"http\"\nkind = \"http\"\n\
         url = \"{}\"\ntakes = [\"alerts\", \"rows\"]\nqueue = 100000\n",
        server.url()
    );
    let path = folder.path().join("netsensor.toml");
    std::fs::write(&path, config).expect("write the configuration");
    let (mut agent, _said) = spawn_with_stderr(&path, folder.path(), Stdio::null());
    let listener = TcpListener::bind("0.0.0.0:0").expect("listen");
    let port = listener.local_addr().expect("own address").port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let storm = std::thread::spawn(move || storm(port, &until));
    for address in named {
        connect(address, port);
        std::thread::park_timeout(Duration::from_millis(250));
    }
    over.store(true, Ordering::Release);
    let made = storm.join().expect("the storm");
    // The last minute's rows.
    std::thread::park_timeout(Duration::from_secs(1));
    run(Command::new("kill").arg(agent.id().to_string()));
    agent.wait().expect("the agent's end");
    let mut found = found.lock().expect("lock").clone();
    found.sort_unstable();
    let at = |part: usize| found[(found.len() - 1) * part / 100].as_secs_f64() * 1000.0;
    println!(
        "{} of {alerts} alerts, SYN to POST: median {:.1} ms, 99th percentile {:.1} ms, slowest \
         {:.1} ms; beside {made} connections, and {} rows posted",
        found.len(),
        at(50),
        at(99),
        at(100),
        rows.load(Ordering::Acquire)
    );
}

fn connect(address: Ipv4Addr, port: u16) {
    let to = SocketAddr::new(IpAddr::V4(address), port);
    drop(TcpStream::connect_timeout(&to, Duration::from_secs(2)).expect("connect"));
}

/// Connections to other addresses each time, until it is over; how many.
fn storm(port: u16, over: &AtomicBool) -> u64 {
    let began = SystemClock.now();
    let mut made = 0;
    while !over.load(Ordering::Acquire) {
        let due = SystemClock.now().duration_since(began).unsigned_abs().as_millis();
        while u128::from(made) < due * u128::from(STORM) / 1000 {
            let number = u32::try_from(made % 0x3f_ffff).expect("below 2^22");
            connect(Ipv4Addr::from(0x7f80_0000 + number + 1), port);
            made += 1;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    made
}

/// What came: from the time in each outbound alert to now, and how many rows.
fn take(body: &[u8], found: &Mutex<Vec<SignedDuration>>, rows: &AtomicU64) {
    let now = SystemClock.now();
    let items: Vec<Value> = serde_json::from_slice(body).expect("an array");
    let of_alerts = |item: &&Value| item["Type"] == "ThreatIntelligenceIndicator";
    rows.fetch_add(items.iter().filter(|it| !of_alerts(it)).count() as u64, Ordering::AcqRel);
    for alert in items.iter().filter(of_alerts).filter(|it| it["Direction"] == "outbound") {
        let syn = alert["VMConnection_TimeGenerated"].as_str().expect("a time");
        let syn: Timestamp = syn.parse().expect("a time");
        found.lock().expect("lock").push(now.duration_since(syn));
    }
}
