//! The kafka sink in the service, over TLS: neither the unit nor the agent's own confinement blocks
//! librdkafka and OpenSSL. A proxy terminates TLS for the broker, which has none.
//!
//! If the package is built without the sink, the unit runs this build's agent instead of the
//! package's: the one of suite `confinement`, whose hook tries forbidden operations.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use sensor_tests::servers::{KafkaClient, KafkaMessage, Tansu};
use sensor_tests::{Netns, certificates, skip_unless, tls_acceptor};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::machine::Machine;
use super::package;

/// Malicious addresses of the example: one before a restart, one after.
const ADDRESSES: [&str; 2] = ["198.51.100.1", "198.51.100.2"];
const TOPICS: [&str; 3] = ["netsensor.alerts", "netsensor.rows", "netsensor.health"];
const AUTHORITY: &str = "/etc/netsensor/broker.pem";
const CONFIG: &str = "/etc/netsensor/netsensor.toml";
const OTHER: &str = "/usr/local/bin/netsensor-kafka";
/// Time limit for an alert, generous for a busy host.
const LIMIT: Duration = Duration::from_mins(1);

#[test]
fn a_confined_service_sends_to_kafka_before_and_after_a_restart() {
    let Some(package) = package() else { return };
    let netns = Netns::new(&ADDRESSES);
    let front = netns.inside(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let port = front.local_addr().unwrap().port();
    let broker = netns.inside(|| Tansu::start_behind_proxy(Some(port)));
    if skip_unless(broker.is_some(), "tansu is not installed; cargo xtask test does it") {
        return;
    }
    let broker = broker.unwrap();
    let files = certificates();
    let _proxy = netns.inside(|| start_tls_proxy(front, broker.port(), files.path()));
    let servers = format!("127.0.0.1:{port}");
    let client = KafkaClient::new(&servers).over_tls(&files.path().join("ca"));
    netns.inside(|| client.make_topics(&TOPICS, 1));
    let machine = Machine::boot(netns, &package);
    let shipped = include_str!("../../../packaging/netsensor.toml");
    let sink = format!(
        "[[sink]]\nname = \"broker\"\nkind = \"kafka\"\nservers = [\"{servers}\"]\n\
         tls = true\nca_file = \"{AUTHORITY}\"\n"
    );
    machine.sh("apt-get install -y /srv/netsensor.deb </dev/null");
    machine.write(CONFIG, &format!("{shipped}\n{sink}"));
    let authority = std::fs::read_to_string(files.path().join("ca")).unwrap();
    machine.write(AUTHORITY, &authority);
    let program = program_with_sink(&machine);

    for (address, when) in ADDRESSES.into_iter().zip(["started", "restarted"]) {
        machine.sh("systemctl restart netsensor");
        let connect = format!("bash -c 'exec 3<>/dev/tcp/{address}/443'");
        assert!(!machine.attempt(&connect).status.success(), "something listens at {address}");
        let message = wait_for_message(&machine, &client, address);
        println!("{when}: the alert for {address} is at the broker, {}", message.id);
    }
    let status = machine.sh(&format!("{program} status --json --config {CONFIG}"));
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    println!("confined: {}", status["Confined"]);
    assert!(status["Confined"].as_str().unwrap().starts_with("on"), "{status}");
    // The agent logs every refused call; this machine lacks some of the kernel's hooks.
    let refused = "journalctl -u netsensor | grep -v -e ': tried ' -e ': probes off: ' | \
                   grep -F 'not permitted' || true";
    assert_eq!(machine.sh(refused), "");
}

/// Makes sure that the unit's program has the sink; returns the program.
fn program_with_sink(machine: &Machine) -> &'static str {
    let check = format!("netsensor check-config {CONFIG}");
    let checked = machine.attempt(&check);
    if checked.status.success() {
        println!("the package has the sink");
        return "netsensor";
    }
    let error = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(error.contains("is not in this build"), "{error}");
    println!("the package is built without the sink: the tests' own agent has it");
    std::fs::copy(Path::new(env!("CARGO_BIN_EXE_confined")), machine.path(OTHER)).unwrap();
    machine.sh(&check.replace("netsensor check", &format!("{OTHER} check")));
    machine.write(
        "/etc/systemd/system/netsensor.service.d/other.conf",
        &format!("[Service]\nExecStart=\nExecStart={OTHER} run --config {CONFIG}\n"),
    );
    machine.sh("systemctl daemon-reload");
    OTHER
}

/// Waits for the first alert for `address` at the broker.
fn wait_for_message(machine: &Machine, client: &KafkaClient, address: &str) -> KafkaMessage {
    let is_it =
        |message: &KafkaMessage| message.body.get("MatchedIp").is_some_and(|ip| ip == address);
    let deadline = Instant::now() + LIMIT;
    loop {
        let found =
            machine.netns.inside(|| client.read(&TOPICS, 1, |found| found.iter().any(is_it)));
        if let Some(first) = found.iter().find(|message| is_it(message)) {
            assert_eq!(first.topic, "netsensor.alerts", "{first:?}");
            let body = &first.body;
            assert_eq!(body["ProcessPath"], "/usr/bin/bash", "{body}");
            assert_eq!(body["AlertId"], first.id, "{body}");
            return first.clone();
        }
        assert!(Instant::now() < deadline, "no alert for {address}\n{}", machine.journal());
    }
}

/// Terminates TLS, and forwards the data to `port`, on its own threads.
fn start_tls_proxy(front: TcpListener, port: u16, files: &Path) -> Runtime {
    let acceptor = tls_acceptor(files);
    front.set_nonblocking(true).unwrap();
    let runtime = Runtime::new().unwrap();
    runtime.spawn(async move {
        let front = tokio::net::TcpListener::from_std(front).unwrap();
        while let Ok((client, _)) = front.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut client = acceptor.accept(client).await?;
                let mut broker = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
                tokio::io::copy_bidirectional(&mut client, &mut broker).await
            });
        }
    });
    runtime
}
