//! Overhead of monitoring per TCP connection. Measures a whole loopback round (socket, connect,
//! accept, close of both ends) with nothing attached, with the agent, and with a `bpftrace` that
//! prints the same fields of the same tracepoint, interleaved; then the agent's own CPU time.
//!
//! The rounds close with `SO_LINGER` 0, so that no socket stays in `TIME_WAIT`. Needs root. The
//! `bpftrace` series is skipped if it is not installed.
//!
//! `cargo bench -p sensor-tests --bench connection_overhead`. Without cargo's `--bench` argument it
//! makes a hundredth of the rounds, as a smoke test. Without root it prints a message and exits.
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a benchmark: it prints or stops, and its numbers are small"
)]

use std::env;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use sensor_tests::{run, spawn_without_output};

const SERIES: usize = 3;
/// Rounds per second of the series that measures the agent's CPU time.
const RATE: u32 = 1000;

fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("connection_overhead: needs root");
        return;
    }
    let full = env::args().any(|argument| argument == "--bench");
    let (rounds, seconds) = if full { (50_000, 10) } else { (500, 1) };
    let folder = tempfile::tempdir().expect("a temporary directory");
    let config = folder.path().join("netsensor.toml");
    std::fs::write(&config, configuration()).expect("write the configuration");
    let start = || spawn_without_output(&config, folder.path());

    for _ in 0..SERIES {
        let without = series(rounds);
        println!(
            "a round with nothing attached: {:.1} µs, 99th percentile {:.1} µs",
            without.0, without.1
        );
        let agent = start();
        compare("the agent", without, series(rounds));
        stop(agent);
        if let Some(tracer) = start_bpftrace(folder.path()) {
            compare("bpftrace", without, series(rounds));
            stop(tracer);
        }
    }
    let agent = start();
    // Excludes the agent's startup, in which it reads the open connections.
    #[expect(clippy::disallowed_methods, reason = "lets the agent become idle")]
    std::thread::sleep(Duration::from_secs(if full { 4 } else { 1 }));
    let before = cpu_time_ns(agent.id());
    run_at_rate(seconds * RATE);
    let used = cpu_time_ns(agent.id()) - before;
    println!(
        "at {RATE} rounds/s: {:.2} % of a core, resident {}",
        used as f64 / (f64::from(seconds) * 1e7),
        resident(agent.id())
    );
    stop(agent);
}

/// Configuration of the agent. `NETSENSOR_TEST_OBJECT` replaces the embedded BPF object.
fn configuration() -> String {
    let object = env::var("NETSENSOR_TEST_OBJECT").ok();
    let capture = object.map(|path| format!("[capture]\nobject = {path:?}\n"));
    capture.unwrap_or_default() + "[rows]\nenabled = true\n"
}

/// Prints the fields that the agent reads at a TCP state change, to a file as is usual.
const BPFTRACE: &str = r#"tracepoint:sock:inet_sock_set_state {
    printf("%llu %p %d %d %d %d %s %s %d %d %d %s\n", nsecs, args->skaddr, args->oldstate,
        args->newstate, args->sport, args->dport, ntop(args->family, args->saddr),
        ntop(args->family, args->daddr), args->protocol, pid, uid, comm);
}
BEGIN { printf("ready\n"); }"#;

/// Starts bpftrace; `None` if it is not installed. bpftrace expects tracefs below debugfs, which is
/// mounted in its own mount namespace.
fn start_bpftrace(folder: &std::path::Path) -> Option<Child> {
    let out = folder.join("bpftrace.txt");
    let file = std::fs::File::create(&out).expect("bpftrace's output");
    let installed = Command::new("bpftrace").arg("--version").output().is_ok();
    if !installed {
        println!("bpftrace: not installed, skipped");
        return None;
    }
    let mount = "mount -t debugfs none /sys/kernel/debug && exec bpftrace -B line -e \"$0\"";
    let mut tracer = Command::new("unshare")
        .args(["--mount", "sh", "-c", mount, BPFTRACE])
        .stdout(file)
        .stderr(Stdio::null())
        .spawn()
        .expect("start bpftrace");
    let ready = (0..200).any(|_attempt| {
        #[expect(clippy::disallowed_methods, reason = "waits for another program")]
        std::thread::sleep(Duration::from_millis(100));
        std::fs::read_to_string(&out).is_ok_and(|text| text.contains("ready"))
    });
    if !ready {
        tracer.kill().and_then(|()| tracer.wait()).expect("end bpftrace");
        println!("bpftrace: did not start within 20 s, skipped");
        return None;
    }
    Some(tracer)
}

fn compare(monitor: &str, without: (f64, f64), with: (f64, f64)) {
    println!(
        "a round with {monitor}: {:.1} µs, {:.2} µs more (medians), 99th percentile {:.1} µs",
        with.0,
        with.0 - without.0,
        with.1
    );
}

fn stop(mut agent: Child) {
    run(Command::new("kill").arg(agent.id().to_string()));
    agent.wait().expect("the agent's exit");
}

/// Median and 99th percentile of a round in µs.
fn series(rounds: usize) -> (f64, f64) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let mut durations: Vec<Duration> = (0..rounds).map(|_| round(&listener)).collect();
    durations.sort_unstable();
    let percentile = |percent: usize| {
        durations[(durations.len() - 1) * percent / 100].as_nanos() as f64 / 1000.0
    };
    (percentile(50), percentile(99))
}

fn round(listener: &TcpListener) -> Duration {
    let to = listener.local_addr().expect("own address");
    #[expect(clippy::disallowed_methods, reason = "measures the wall clock")]
    let started = Instant::now();
    let client = TcpStream::connect(to).expect("connect");
    let (server, _) = listener.accept().expect("accept");
    for end in [&client, &server] {
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(end, sockopt::Linger, &linger).expect("linger 0");
    }
    drop((client, server));
    started.elapsed()
}

/// Makes `rounds` rounds at [`RATE`], evenly spaced.
fn run_at_rate(rounds: u32) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    #[expect(clippy::disallowed_methods, reason = "measures the wall clock")]
    let started = Instant::now();
    for number in 0..rounds {
        round(&listener);
        let deadline = Duration::from_secs(1) / RATE * number;
        #[expect(clippy::disallowed_methods, reason = "limits the rate of a benchmark")]
        std::thread::sleep(deadline.saturating_sub(started.elapsed()));
    }
}

/// CPU time of all threads in ns, from schedstat.
fn cpu_time_ns(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the agent's threads");
    tasks
        .map(|task| {
            let path = task.expect("a thread").path().join("schedstat");
            let text = std::fs::read_to_string(path).expect("its times");
            text.split(' ').next().expect("a number").parse::<u64>().expect("a number")
        })
        .sum()
}

fn resident(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the agent's state");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.expect("its memory").trim().to_owned()
}
