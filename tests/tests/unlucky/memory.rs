//! Feeds that are too large for the memory of the agent.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use sensor_tests::{Agent, FeedServer, agent_binary, skip_unless};

use crate::harness::{ALERT, START, skipped};
use crate::memory_cgroup::MemoryCgroup;

/// Memory of the agent and its parsers. Half of it is too little for the large lists.
const MEMORY: u64 = 256 << 20;
const LARGE_LISTS: usize = 3;
const ADDRESSES: u32 = 6_000_000;
/// Connections that must alert, at least.
const ROUNDS: u32 = 10;

/// Lists that are too large are refused one by one, each with its reason, while connections alert in
/// time.
#[tokio::test(flavor = "multi_thread")]
async fn feeds_that_are_too_large_end_their_parser_and_not_the_agent() {
    if skipped() {
        return;
    }
    let group = match MemoryCgroup::new(MEMORY) {
        Ok(group) => group,
        Err(error) => {
            let reason = format!("no control group with a limit of memory: {error}");
            assert!(skip_unless(false, &reason));
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let listener = TcpListener::bind("127.0.0.7:0").unwrap();
    let target = listener.local_addr().unwrap();
    std::fs::write(home.join("small.txt"), "127.0.0.7\n").unwrap();
    let server = FeedServer::start().await;
    server.serve("", &large_list());
    let mut config = feed("small", &format!("file:{}/small.txt", home.display()));
    config += "[[sink]]\nname = \"out\"\nkind = \"stdout\"\n";
    for number in 0..LARGE_LISTS {
        config += &feed(&format!("large{number}"), server.url());
    }
    // Every second is a window of its own, so that each connection alerts.
    config += "[dedup]\nwindow = \"1s\"\n";
    let file = home.join("netsensor.toml");
    std::fs::write(&file, config).unwrap();
    let program = |word: &str| {
        let mut command = Command::new(agent_binary());
        command.args([word, "--config"]).arg(&file).env("HOME", home);
        command.env("PATH", std::env::var("PATH").unwrap_or_default());
        command
    };
    let agent = Agent::spawn(group.command(&program("run")));
    agent.wait_for_log(START, "state: ");
    let status = || {
        let output = program("status").output().unwrap();
        String::from_utf8_lossy(&output.stdout).replace("\n          ", " ")
    };

    let (begin, mut rounds, mut parsers) = (now(), 0, 0);
    let refused = loop {
        assert!(begin.elapsed() < START * 2, "the feeds are not done: {}", status());
        drop(std::net::TcpStream::connect(target).unwrap());
        rounds += 1;
        let alerts = agent.alerts().len();
        wait(ALERT, || agent.alerts().len() > alerts)
            .unwrap_or_else(|()| panic!("no alert within 2 s in round {rounds}: {}", status()));
        parsers = parsers.max(parsers_of(agent.pid()));
        let text = status();
        let refused = text.matches("the parser exited early").count();
        if refused == LARGE_LISTS && rounds >= ROUNDS {
            break text;
        }
    };
    assert!(parsers <= 1, "{parsers} parsers at once");
    assert!(refused.contains("OK small: 1 indicators"), "{refused}");
    assert!(refused.contains("is the feed too large for its 128 MiB of memory"), "{refused}");
    assert!(agent.stop().status.success());
}

fn feed(name: &str, url: &str) -> String {
    format!(
        "[[feed]]\nname = \"{name}\"\nkind = \"list\"\nurl = \"{url}\"\nallow_private = true\n\
         interval = \"1h\"\n"
    )
}

/// A list of different addresses in 45.0.0.0/8.
fn large_list() -> Vec<u8> {
    let mut list = String::new();
    for number in 0..ADDRESSES {
        let [_, a, b, c] = number.to_be_bytes();
        writeln!(list, "45.{a}.{b}.{c}").unwrap();
    }
    list.into_bytes()
}

/// Number of parsers among the processes below `agent`.
fn parsers_of(agent: u32) -> usize {
    let (mut count, mut parents) = (0, vec![agent]);
    while let Some(parent) = parents.pop() {
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        for child in children.unwrap_or_default().split_ascii_whitespace() {
            let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            count += usize::from(line.windows(10).any(|part| part == b"parse-feed"));
            parents.push(child.parse().unwrap());
        }
    }
    count
}

#[expect(clippy::disallowed_methods, reason = "measures how long the agent takes")]
fn now() -> Instant {
    Instant::now()
}

fn wait(limit: Duration, is_done: impl Fn() -> bool) -> Result<(), ()> {
    let begin = now();
    while begin.elapsed() < limit {
        if is_done() {
            return Ok(());
        }
        #[expect(clippy::disallowed_methods, reason = "no runtime waits for this test")]
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(())
}
