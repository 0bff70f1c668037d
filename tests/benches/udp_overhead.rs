//! Overhead of monitoring UDP: CPU time of a 64-byte datagram sent and received over loopback, with
//! nothing attached, with the agent without UDP, and with the whole agent, interleaved. Also of 64
//! bytes over a TCP connection, whose packets pass the same programs.
//!
//! One process sends and receives, so that its CPU time is that of the whole exchange. Needs root.
//!
//! `cargo bench -p sensor-tests --bench udp_overhead`. Without cargo's `--bench` argument it makes
//! a hundredth of the exchanges, as a smoke test. Without root it prints a message and exits.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark: it prints or stops")]

use std::env;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command};

use nix::time::{ClockId, clock_gettime};
use sensor_tests::{run, spawn_without_output};

/// Number of series per variant. The minimum is reported, since it has the least interference.
const SERIES: usize = 5;
const PAYLOAD: [u8; 64] = [b'x'; 64];

/// Variants with the body of their `[capture]` section. Without a body, no agent runs.
const VARIANTS: [(&str, Option<&str>); 3] = [
    ("nothing attached", None),
    ("the agent without UDP", Some("disable = [\"udp_egress\", \"udp_ingress\"]")),
    ("the agent", Some("")),
];

/// Kind of exchange. `make` creates the sockets and returns a function that performs one exchange.
struct Exchange {
    name: &'static str,
    make: fn() -> Box<dyn FnMut()>,
}

const EXCHANGES: [Exchange; 3] = [
    Exchange { name: "sendto + recvfrom", make: unconnected },
    Exchange { name: "connected send + recv", make: connected },
    Exchange { name: "TCP write + read", make: stream },
];

fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("udp_overhead: needs root");
        return;
    }
    let full = env::args().any(|argument| argument == "--bench");
    let count = if full { 100_000 } else { 1_000 };
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut minimum = [[u64::MAX; EXCHANGES.len()]; VARIANTS.len()];
    for _ in 0..SERIES {
        for ((_, capture), minimum) in VARIANTS.iter().zip(&mut minimum) {
            let agent = capture.map(|capture| start(capture, folder.path()));
            for (exchange, minimum) in EXCHANGES.iter().zip(minimum) {
                *minimum = (*minimum).min(cpu_time_per_exchange_ns(exchange, count));
            }
            if let Some(agent) = agent {
                stop(agent);
            }
        }
    }
    println!("CPU time of an exchange, ns, minimum of {SERIES} series of {count}:");
    for ((name, _), minimum) in VARIANTS.iter().zip(minimum) {
        let each = EXCHANGES.iter().zip(minimum).map(|(it, ns)| format!("{} {ns}", it.name));
        println!("{name}: {}", each.collect::<Vec<_>>().join(", "));
    }
}

/// Mean CPU time of one exchange in ns.
fn cpu_time_per_exchange_ns(exchange: &Exchange, count: u64) -> u64 {
    let mut exchange_once = (exchange.make)();
    // The first exchange creates the flow's state.
    exchange_once();
    let before = cpu_time_ns();
    for _ in 0..count {
        exchange_once();
    }
    (cpu_time_ns() - before) / count
}

fn cpu_time_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("CPU time");
    let part = |value: i64| u64::try_from(value).expect("not negative");
    part(now.tv_sec()) * 1_000_000_000 + part(now.tv_nsec())
}

fn pair() -> (UdpSocket, UdpSocket) {
    let bind = || UdpSocket::bind("127.0.0.1:0").expect("bind");
    (bind(), bind())
}

fn unconnected() -> Box<dyn FnMut()> {
    let (a, b) = pair();
    let to = b.local_addr().expect("own address");
    Box::new(move || {
        a.send_to(&PAYLOAD, to).expect("send");
        b.recv_from(&mut [0; 64]).expect("receive");
    })
}

fn connected() -> Box<dyn FnMut()> {
    let (a, b) = pair();
    a.connect(b.local_addr().expect("own address")).expect("connect");
    b.connect(a.local_addr().expect("own address")).expect("connect");
    Box::new(move || {
        a.send(&PAYLOAD).expect("send");
        b.recv(&mut [0; 64]).expect("receive");
    })
}

fn stream() -> Box<dyn FnMut()> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let to = listener.local_addr().expect("own address");
    let mut a = TcpStream::connect(to).expect("connect");
    let (mut b, _) = listener.accept().expect("accept");
    a.set_nodelay(true).expect("no delay");
    Box::new(move || {
        a.write_all(&PAYLOAD).expect("write");
        b.read_exact(&mut [0; 64]).expect("read");
    })
}

/// Starts the agent with its probes attached.
fn start(capture: &str, state: &Path) -> Child {
    let config = state.join("netsensor.toml");
    std::fs::write(&config, format!("[capture]\n{capture}\n")).expect("write the configuration");
    spawn_without_output(&config, state)
}

fn stop(mut agent: Child) {
    run(Command::new("kill").arg(agent.id().to_string()));
    agent.wait().expect("the agent's exit");
}
