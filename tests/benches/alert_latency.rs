//! Latency from the SYN to the alert on the agent's standard output.
//!
//! Starts the release agent with a list of loopback addresses (a feed with `allow_private`), makes
//! one connection to each, and compares the time at which each alert is read with the alert's SYN
//! time. Needs root.
//!
//! `cargo bench -p sensor-tests --bench alert_latency`. Without cargo's `--bench` argument it makes
//! a tenth of the connections, as a smoke test. Without root it prints a message and exits.
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark: it prints or stops"
)]

use std::env;
use std::io::BufReader;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sensor_tests::{run, spawn_with_stderr};
use sensor_user::base::clock::{Clock as _, SystemClock};

fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("alert_latency: needs root");
        return;
    }
    let full = env::args().any(|argument| argument == "--bench");
    let count = if full { 500 } else { 50 };
    let folder = tempfile::tempdir().expect("a temporary directory");
    let addresses: Vec<Ipv4Addr> = (0..count)
        .map(|n: u16| Ipv4Addr::new(127, 77, n.to_be_bytes()[0], n.to_be_bytes()[1]))
        .collect();
    let list: String =
        addresses.iter().fold(String::new(), |text, it| text + &it.to_string() + "\n");
    std::fs::write(folder.path().join("list.txt"), list).expect("write the list");
    let config = "[rows]\nenabled = false\n[[feed]]\nname = \"bench\"\nkind = \"list\"\n\
                  url = \"file:list.txt\"\nallow_private = true\n";
    let config_path = folder.path().join("netsensor.toml");
    std::fs::write(&config_path, config).expect("write the configuration");
    let (mut agent, _stderr) = spawn_with_stderr(&config_path, folder.path(), Stdio::piped());
    let alerts = BufReader::new(agent.stdout.take().expect("piped"));
    let reader = std::thread::spawn(move || latencies(alerts, usize::from(count)));
    connect(&addresses);
    let mut found = reader.join().expect("the reader");
    run(Command::new("kill").arg(agent.id().to_string()));
    agent.wait().expect("the agent's exit");
    found.sort_unstable();
    let percentile =
        |percent: usize| found[(found.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!(
        "{} alerts, SYN to standard output: median {:.1} ms, 99th percentile {:.1} ms, \
         slowest {:.1} ms",
        found.len(),
        percentile(50),
        percentile(99),
        percentile(100)
    );
}

/// Makes one connection to each address, 5 ms apart.
fn connect(addresses: &[Ipv4Addr]) {
    let listener = TcpListener::bind("0.0.0.0:0").expect("listen");
    let port = listener.local_addr().expect("own address").port();
    for address in addresses {
        let to = SocketAddr::from((*address, port));
        let connection = TcpStream::connect_timeout(&to, Duration::from_secs(2)).expect("connect");
        drop(listener.accept().expect("accept"));
        drop(connection);
        run(Command::new("sleep").arg("0.005"));
    }
}

/// Reads `count` outbound alerts. Returns the time from the SYN in each until it was read.
fn latencies(alerts: impl std::io::BufRead, count: usize) -> Vec<SignedDuration> {
    let mut found = Vec::new();
    for line in alerts.lines() {
        let line = line.expect("a line");
        let now = SystemClock.now();
        let alert: serde_json::Value = serde_json::from_str(&line).expect("an alert");
        if alert["Direction"] != "outbound" {
            continue;
        }
        let syn = alert["VMConnection_TimeGenerated"].as_str().expect("a time");
        found.push(now.duration_since(syn.parse::<Timestamp>().expect("a time")));
        if found.len() == count {
            break;
        }
    }
    found
}
