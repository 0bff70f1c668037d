//! Resident memory of the agent with 10,000 indicators, during ten minutes of connections at the
//! highest rate of one core.
//!
//! `cargo bench -p sensor-tests --bench storm_memory`. Without cargo's `--bench` argument it runs
//! for five seconds, as a smoke test. Needs root.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark: it prints or stops")]

use std::env;
use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use sensor_tests::{run, spawn_with_stderr};

const INDICATORS: u32 = 10_000;

fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("storm_memory: needs root");
        return;
    }
    let full = env::args().any(|argument| argument == "--bench");
    let (samples, interval) =
        if full { (20, Duration::from_secs(30)) } else { (5, Duration::from_secs(1)) };
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut list = String::new();
    for number in 0..INDICATORS {
        writeln!(list, "{}", std::net::Ipv4Addr::from(0x0b00_0000 + number * 7)).expect("a string");
    }
    std::fs::write(folder.path().join("list.txt"), list).expect("write the indicators");
    let config = folder.path().join("netsensor.toml");
    let text = "[rows]\nenabled = true\n[[feed]]\nname = \"ten-thousand\"\nkind = \"list\"\n\
                url = \"file:list.txt\"\n";
    std::fs::write(&config, text).expect("write the configuration");
    let (mut agent, stderr) = spawn_with_stderr(&config, folder.path(), Stdio::null());
    #[expect(clippy::disallowed_methods, reason = "lets the agent become idle")]
    std::thread::sleep(Duration::from_secs(2));
    println!("idle: {}", memory(agent.id()));
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let mut rounds = 0_u64;
    for sample in 1..=samples {
        #[expect(clippy::disallowed_methods, reason = "bounds a benchmark")]
        let started = Instant::now();
        while started.elapsed() < interval {
            round(&listener);
            rounds += 1;
        }
        println!("after {:?} and {rounds} rounds: {}", interval * sample, memory(agent.id()));
    }
    run(Command::new("kill").arg(agent.id().to_string()));
    agent.wait().expect("the agent's exit");
    for line in stderr.map_while(Result::ok).filter(|line| line.contains(" ledger ")) {
        println!("{line}");
    }
}

fn round(listener: &TcpListener) {
    let client = TcpStream::connect(listener.local_addr().expect("own address")).expect("connect");
    let (server, _) = listener.accept().expect("accept");
    for end in [&client, &server] {
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(end, sockopt::Linger, &linger).expect("linger 0");
    }
}

/// Current and peak resident memory.
fn memory(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the agent's state");
    let words =
        status.lines().filter(|line| line.starts_with("VmRSS:") || line.starts_with("VmHWM:"));
    words
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}
