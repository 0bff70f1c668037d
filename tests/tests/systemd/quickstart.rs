//! The quick start: a package, a TAXII server, a webhook, ten lines; and its duration.

use std::collections::BTreeSet;
use std::time::Duration;

use sensor_tests::servers::{Medallion, stix_indicator};
use sensor_tests::{Collector, Netns, ScriptedResponse, skip_unless};
use tokio::time::Instant;

use super::machine::Machine;
use super::package;

/// An address that the TAXII server lists, and that the machine connects to.
const MALICIOUS: &str = "203.0.113.200";
const LIMIT: Duration = Duration::from_mins(1);

#[test]
fn the_first_alert_takes_ten_lines_and_less_than_a_minute() {
    let Some(package) = package() else { return };
    // A host's own address is never an indicator, so this one belongs to another host.
    let remote = format!("{MALICIOUS}/24");
    let (netns, _remote) = Netns::veth_pair(&["203.0.113.1/24"], &[&remote]);
    let machine = Machine::boot(netns, &package);
    // Both listen on 127.0.0.1 of the machine's network namespace.
    let (collector, server) = machine
        .netns
        .inside(|| (Collector::start(|_, _| ScriptedResponse::OK), Medallion::start()));
    if skip_unless(server.is_some(), "medallion is not installed; cargo xtask test does it") {
        return;
    }
    let server = server.unwrap();
    machine.netns.inside(|| server.add(Medallion::ID, &[stix_indicator(1, MALICIOUS, 0, false)]));
    machine.write("/srv/password", &format!("{}\n", Medallion::PASSWORD));
    let config = config(&server.url("taxii2/"), &collector.url());
    let lines = config.lines().filter(|line| !line.is_empty()).count();
    assert_eq!(lines, 10, "{config}");

    let began = Instant::now();
    machine.sh("apt-get install -y /srv/netsensor.deb </dev/null");
    let installed = began.elapsed();
    machine.sh("install -m 0600 -o netsensor /srv/password /etc/netsensor/taxii.password");
    machine.write("/etc/netsensor/netsensor.toml", &config);
    machine.sh("netsensor check-config /etc/netsensor/netsensor.toml");
    machine.sh("systemctl reload netsensor");
    machine.wait_for("the feed's indicators", "netsensor feeds taxii --json | grep -q '\"OK\"'");
    let mut tried = BTreeSet::new();
    let first = loop {
        // An indicator applies once its set is loaded, so the connection is repeated.
        let refused = machine.attempt(&format!("bash -c 'exec 3<>/dev/tcp/{MALICIOUS}/443'"));
        tried.insert(refused.status.code());
        let requests = collector.requests();
        let mut items = requests.iter().flat_map(sensor_tests::RecordedRequest::items);
        if let Some(first) = items.find(|item| item.get("MatchedIp").is_some()) {
            break first;
        }
        assert!(began.elapsed() < LIMIT, "no alert; {tried:?}\n{}", machine.journal());
        std::thread::park_timeout(Duration::from_millis(100));
    };
    let duration = began.elapsed();
    println!(
        "from install to the first alert: {:.1} s, including installation {:.1} s",
        duration.as_secs_f32(),
        installed.as_secs_f32()
    );
    assert_eq!(first["MatchedIp"], MALICIOUS, "{first}");
    assert_eq!(first["Feed"], "taxii", "{first}");
    assert_eq!(first["ProcessPath"], "/usr/bin/bash", "{first}");
    assert!(duration < LIMIT, "{duration:?}");
    println!("{}", machine.sh("netsensor status"));
}

/// The configuration that a new user writes.
fn config(taxii: &str, webhook: &str) -> String {
    format!(
        "[[feed]]
name = \"taxii\"
kind = \"taxii2\"
url = \"{taxii}\"
user = \"{}\"
password = {{ file = \"/etc/netsensor/taxii.password\" }}

[[sink]]
name = \"webhook\"
kind = \"http\"
url = \"{webhook}\"
",
        Medallion::USER
    )
}
