//! Connections with a NAT mapping: the address behind NAT is matched too.

use std::io::Write as _;
use std::process::{Command, Stdio};

use sensor_tests::{Agent, Netns, run, skip_unless_kernel_has};
use serde_json::Value;

use crate::harness::{CLIENT_V4, Home, SOON, START, Server, V4, peer, skipped, text};

/// A service's address without a host, mapped to an address of the list.
const SERVICE: &str = "10.96.77.1";
/// An address that is not in the list.
const PLAIN: &str = "192.0.2.61";
const OTHER_PLAIN: &str = "192.0.2.62";

/// True if the running test must return: no root, or no conntrack in this kernel.
pub(crate) fn no_nat() -> bool {
    let has_conntrack = std::path::Path::new("/proc/sys/net/netfilter/nf_conntrack_count").exists();
    skipped() || skip_unless_kernel_has(has_conntrack, "nf_conntrack")
}

pub(crate) fn nft(netns: &Netns, rules: &str) {
    let mut nft = netns.command("nft");
    let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{rules}");
}

/// Redirects connections from this namespace to the service's port 80 to the server on [`V4`].
fn service(netns: &Netns, port: u16) {
    run(netns.command("ip").args(["route", "add", SERVICE, "dev", "lo", "src", PLAIN]));
    let to = format!("ip daddr {SERVICE} tcp dport 80 dnat to {V4}:{port}");
    nft(
        netns,
        &format!("table ip n {{ chain o {{ type nat hook output priority -100; {to}; }}\n}}\n"),
    );
}

fn outbound_alerts(agent: &Agent) -> Vec<Value> {
    let alerts = agent.alerts().into_iter();
    alerts.filter(|it| text(it, "RemoteIp") == SERVICE && it["DestinationPort"] == 80).collect()
}

#[test]
fn an_outbound_connection_to_a_service_matches_its_backend() {
    if no_nat() {
        return;
    }
    let netns = Netns::new(&[V4, PLAIN]);
    let (_server, port) = Server::peer(&netns, V4);
    service(&netns, port);
    let home = Home::new("", "[dedup]\nwindow = \"4s\"\n");
    let agent = home.run();
    run(netns.command(peer()).args(["connect", &format!("{SERVICE}:80"), "1"]));
    let (_, alert) = agent.wait_for_alert(SOON, |alert| text(alert, "RemoteIp") == SERVICE);
    assert_eq!((text(&alert, "Via"), text(&alert, "MatchedIp")), ("conntrack", V4));
    assert_eq!(text(&alert, "MatchedPrefix"), format!("{V4}/32"));
    assert_eq!(text(&alert, "Direction"), "outbound");
    assert_eq!(text(&alert, "ProcessName"), "peer");
    // Later events of the connection, and further connections, raise no further alert.
    run(netns.command(peer()).args(["connect", &format!("{SERVICE}:80"), "3"]));
    run(Command::new("sleep").arg("0.5"));
    assert_eq!(outbound_alerts(&agent).len(), 1);
    // The dedup window ends meanwhile.
    run(Command::new("sleep").arg("4"));
    let ended = agent.stop();
    let own = ended.stdout.iter().map(|line| serde_json::from_str::<Value>(&line.text).unwrap());
    let alerts: Vec<(String, u64)> = own
        .filter(|it| text(it, "RemoteIp") == SERVICE)
        .map(|it| (text(&it, "AlertKind").to_owned(), it["ConnectionCount"].as_u64().unwrap()))
        .collect();
    assert_eq!(alerts, [("new".to_owned(), 1), ("summary".to_owned(), 3)]);
}

#[test]
fn an_inbound_connection_matches_the_client_behind_nat() {
    if no_nat() {
        return;
    }
    let netns = Netns::new(&[PLAIN, OTHER_PLAIN, CLIENT_V4]);
    let (server, port) = Server::peer(&netns, PLAIN);
    let hide = format!("ip saddr {CLIENT_V4} ip daddr {PLAIN} snat to {OTHER_PLAIN}");
    nft(
        &netns,
        &format!(
            "table ip n {{ chain p {{ type nat hook postrouting priority 100; {hide}; }}\n}}\n"
        ),
    );
    let home = Home::new("", "");
    let agent = home.run();
    let client = "
import socket, sys
connection = socket.create_connection((sys.argv[2], int(sys.argv[3])), 5, (sys.argv[1], 0))
connection.close()
";
    let words = ["-c", client, CLIENT_V4, PLAIN, &port.to_string()];
    run(netns.command("/usr/bin/python3").args(words));
    let inbound = |alert: &Value| text(alert, "RemoteIp") == OTHER_PLAIN;
    let (_, alert) = agent.wait_for_alert(SOON, inbound);
    assert_eq!((text(&alert, "Via"), text(&alert, "MatchedIp")), ("conntrack", CLIENT_V4));
    assert_eq!(text(&alert, "Direction"), "inbound");
    assert_eq!(alert["ProcessId"], server.0.id());
    assert!(agent.stop().status.success());
}

/// The setup of a container: the NAT mapping is the host's, not that of the socket's namespace.
#[test]
fn a_container_connection_is_matched_through_the_hosts_nat() {
    if no_nat() {
        return;
    }
    let host = Netns::new(&[V4]);
    let container = Netns::new(&[]);
    host.link_to(&container, ("192.0.2.65", "192.0.2.66"));
    run(container.command("ip").args(["route", "add", "default", "via", "192.0.2.65"]));
    let (_server, port) = Server::peer(&host, V4);
    let to = format!("ip daddr {SERVICE} tcp dport 80 dnat to {V4}:{port}");
    nft(
        &host,
        &format!("table ip n {{ chain p {{ type nat hook prerouting priority -100; {to}; }}\n}}\n"),
    );
    let home = Home::new("", "");
    // The agent runs in the host's namespace.
    let agent = Agent::spawn(host.wrap_command(&home.command(&["run"])));
    agent.wait_for_log(START, "state: ");
    run(container.command(peer()).args(["connect", &format!("{SERVICE}:80"), "1"]));
    let (_, alert) = agent.wait_for_alert(SOON, |alert| text(alert, "RemoteIp") == SERVICE);
    assert_eq!((text(&alert, "Via"), text(&alert, "MatchedIp")), ("conntrack", V4));
    assert_eq!(text(&alert, "SourceIp"), "192.0.2.66");
    assert!(agent.stop().status.success());
}

#[test]
fn a_recording_contains_the_nat_mapping_and_replays_to_the_same_alert() {
    if no_nat() {
        return;
    }
    let netns = Netns::new(&[V4, PLAIN]);
    let (_server, port) = Server::peer(&netns, V4);
    service(&netns, port);
    let home = Home::new("", "");
    let recording = home.record();
    run(netns.command(peer()).args(["connect", &format!("{SERVICE}:80"), "2"]));
    recording.wait_for_closed(port, 2);
    let (lines, ledger) = recording.stop();
    ledger.assert_balances();
    let own: Vec<&Value> = lines.iter().filter(|line| text(line, "RemoteIp") == SERVICE).collect();
    let mapped: Vec<&&Value> =
        own.iter().filter(|line| text(line, "Event") == "translated").collect();
    assert_eq!(mapped.len(), 2, "{own:?}");
    for line in mapped {
        assert_eq!(text(&line["Translated"], "RemoteIp"), V4);
        assert_eq!(line["Translated"]["RemotePort"], port);
        assert_eq!(
            (line["BytesSent"].as_u64(), line["LinksEstablished"].as_u64()),
            (Some(0), Some(0))
        );
    }
    // At the server's end, the mapping gives the address that the client connected to.
    let inbound = lines.iter().find(|line| {
        text(line, "Event") == "translated"
            && text(line, "Direction") == "inbound"
            && line["DestinationPort"] == port
    });
    let inbound = inbound.unwrap_or_else(|| panic!("{lines:?}"));
    assert_eq!(text(&inbound["Translated"], "LocalIp"), SERVICE);
    assert_eq!(inbound["Translated"]["LocalPort"], 80);

    let recorded = home.path("recorded.jsonl");
    let list = home.path("list.txt");
    for mode in [&["--live"][..], &["--at", text(lines.last().unwrap(), "TimeGenerated")]] {
        let words = ["replay", "--connections", recorded.to_str().unwrap(), "--indicators"];
        let words = [&words[..], &[list.to_str().unwrap()], mode].concat();
        let output = run(&mut sensor_tests::agent_command(&home.path(""), &words));
        let alerts = String::from_utf8(output.stdout).unwrap();
        let alerts = alerts.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let own: Vec<Value> = alerts.filter(|it| text(it, "RemoteIp") == SERVICE).collect();
        assert_eq!(text(&own[0], "Via"), "conntrack", "{mode:?}: {own:?}");
        assert_eq!(text(&own[0], "MatchedIp"), V4);
        let connections: u64 = own.iter().filter_map(|it| it["ConnectionCount"].as_u64()).sum();
        assert_eq!(connections, 2, "{mode:?}: {own:?}");
    }
}

#[test]
fn inactive_conntrack_is_reported() {
    if no_nat() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let home = Home::new("", "");
    let agent = Agent::spawn(netns.wrap_command(&home.command(&["run"])));
    agent.wait_for_log(START, "conntrack (no connection is tracked here now");
    // Once a connection is tracked, the agent queries conntrack.
    let (_server, port) = Server::peer(&netns, V4);
    run(netns.command("ip").args(["address", "add", PLAIN, "dev", "lo"]));
    service(&netns, port);
    run(netns.command(peer()).args(["connect", &format!("{SERVICE}:80"), "1"]));
    agent.wait_for_alert(SOON, |alert| text(alert, "RemoteIp") == SERVICE);
    assert!(agent.stop().status.success());
    let home = Home::new("conntrack = false", "");
    let agent = home.run();
    let ended = agent.stop();
    let off = ended.stderr.iter().find(|line| line.text.starts_with("probes off: ")).unwrap();
    assert!(off.text.contains("conntrack (disabled by the configuration)"), "{}", off.text);
}
