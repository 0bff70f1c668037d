//! Translated connections beside other traffic of the host, and UDP flows whose packets are translated.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use sensor_tests::{Agent, Netns, run};
use serde_json::Value;

use crate::harness::{BackgroundTraffic, Home, SOON, START, Server, V4, V6, bracketed, peer, text};
use crate::nat::{nft, no_nat};
use crate::udp::{closed_flows, ends, python};

/// Number of translated connections, each to a service of its own.
const COUNT: usize = 30;
/// First bytes of the services' addresses; none has a host.
const SERVICES: &str = "10.96.78";
/// Address of the client.
const CLIENT: &str = "192.0.2.71";
/// Address of packets that are masqueraded.
const MASKED: &str = "192.0.2.72";

/// A client's namespace with translated services, and the servers behind them.
struct Services {
    netns: Netns,
    udp: u16,
    servers: [Server; 2],
}

impl Services {
    fn new() -> Self {
        let netns = Netns::new(&[V4, CLIENT, MASKED]);
        let (server, tcp) = Server::peer(&netns, V4);
        let mut echo = netns.command(peer());
        echo.args(["udp-echo", &format!("{V4}:0")]);
        let (echo, ready) = Server::start(echo);
        let udp = ready.rsplit(':').next().unwrap().parse().unwrap();
        let network = format!("{SERVICES}.0/24");
        run(netns.command("ip").args(["route", "add", &network, "dev", "lo", "src", CLIENT]));
        nft(
            &netns,
            &format!(
                "table ip n {{ chain o {{ type nat hook output priority -100;
                 ip daddr {network} tcp dport 80 dnat to {V4}:{tcp}
                 ip daddr {network} udp dport 53 dnat to {V4}:{udp}
                 }}\n}}\n"
            ),
        );
        Self { netns, udp, servers: [server, echo] }
    }

    /// Also hides the client's address from the UDP server.
    fn masquerade(&self) {
        let rule = format!("ip saddr {CLIENT} udp dport {} snat to {MASKED}", self.udp);
        let chain = "type nat hook postrouting priority 100";
        nft(&self.netns, &format!("table ip m {{ chain p {{ {chain}; {rule}; }}\n}}\n"));
    }

    fn connect(&self, words: &[&str]) {
        run(self.netns.command(peer()).args(words));
    }
}

/// Services for which there is an alert of this protocol.
fn alerted(agent: &Agent, protocol: &str) -> BTreeSet<String> {
    let own = agent.alerts().into_iter().filter(|it| {
        text(it, "Protocol") == protocol && text(it, "RemoteIp").starts_with(SERVICES)
    });
    own.map(|it| {
        assert_eq!((text(&it, "Via"), text(&it, "MatchedIp")), ("conntrack", V4), "{it}");
        assert_eq!(text(&it, "Direction"), "outbound", "{it}");
        text(&it, "RemoteIp").to_owned()
    })
    .collect()
}

fn all_alert(beside: Option<&str>) {
    let _beside = beside.map(BackgroundTraffic::start);
    let services = Services::new();
    let home = Home::new("", "");
    let agent = home.run();
    for number in 1..=COUNT {
        let service = format!("{SERVICES}.{number}");
        services.connect(&["connect", &format!("{service}:80"), "1"]);
        // An address of its own: dedup takes the protocols together.
        let service = format!("{SERVICES}.{}", 100 + number);
        services.connect(&["udp-query", &format!("{service}:53"), "1"]);
        // At times that have nothing to do with any interval of the agent.
        run(Command::new("sleep").arg("0.07"));
    }
    for protocol in ["tcp", "udp"] {
        let mut found = BTreeSet::new();
        for _attempt in 0..30 {
            found = alerted(&agent, protocol);
            if found.len() == COUNT {
                break;
            }
            run(Command::new("sleep").arg("0.1"));
        }
        assert_eq!(found.len(), COUNT, "{protocol} beside {beside:?}: {found:?}");
    }
    let status = home.command(&["status", "--json"]).output().unwrap().stdout;
    let status: Value = serde_json::from_slice(&status).unwrap();
    let conntrack = &status["Conntrack"];
    assert_eq!(conntrack["Off"], "", "{conntrack}");
    assert!(conntrack["Tracking"].as_u64() >= Some(1), "{conntrack}");
    assert!(conntrack["Namespaces"].as_u64() > conntrack["Tracking"].as_u64(), "{conntrack}");
    assert_eq!(status["Counters"]["nat_lookups_dropped_queue_full"], 0);
    assert!(agent.stop().status.success());
}

#[test]
fn every_translated_connection_alerts_beside_a_busy_namespace() {
    if !no_nat() {
        all_alert(Some("200"));
    }
}

#[test]
fn every_translated_connection_alerts_beside_a_quiet_namespace() {
    if !no_nat() {
        all_alert(Some("1"));
    }
}

/// Rows and summaries have a short connection in full, although it has ended before conntrack is queried.
#[test]
fn short_translated_connections_are_in_row_and_summary_in_full() {
    if no_nat() {
        return;
    }
    let client = "
import socket, sys
for _ in range(10):
    connection = socket.create_connection((sys.argv[1], 80), 5)
    connection.sendall(b'q' * 33)
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)
    connection.close()
";
    let services = Services::new();
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.jsonl");
    let more = format!(
        "[dedup]\nwindow = \"3s\"\n[[sink]]\nname = \"out\"\nkind = \"stdout\"\n[[sink]]\n\
         name = \"rows\"\nkind = \"file\"\npath = {rows:?}\ntakes = [\"rows\"]"
    );
    let home = Home::new("", &more);
    let agent = home.run();
    let service = format!("{SERVICES}.99");
    let pid = python(&services.netns, client, &[&service]);
    let of_service = |alert: &Value| text(alert, "RemoteIp") == service;
    agent.wait_for_alert(SOON, |it| of_service(it) && text(it, "AlertKind") == "summary");
    let alerts = agent.alerts().into_iter().filter(of_service);
    let sums = alerts.fold((0, 0), |sum, it| {
        let count = |column: &str| it[column].as_u64().unwrap();
        (sum.0 + count("ConnectionCount"), sum.1 + count("BytesSent"))
    });
    assert_eq!(sums, (10, 330));
    assert!(agent.stop().status.success());
    let own = lines(&rows)
        .into_iter()
        .filter(|row| text(row, "Type") == "VMConnection" && row["RemoteIp"] == service.as_str());
    let own: Vec<Value> = own.collect();
    let sum = |column: &str| own.iter().filter_map(|row| row[column].as_u64()).sum::<u64>();
    assert_eq!((sum("LinksEstablished"), sum("LinksTerminated"), sum("BytesSent")), (10, 10, 330));
    assert!(
        own.iter().all(|row| text(row, "MaliciousIp") == V4 && row["ProcessId"] == pid),
        "{own:?}"
    );
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Queries of a resolver as containers have it: on a connected socket, and on one that is not.
const QUERIES: &str = "
import socket, sys
for number in range(10):
    client = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(10)
    service = (sys.argv[1], 53)
    if number % 2:
        client.connect(service)
        client.send(b'?' * 5)
    else:
        client.sendto(b'?' * 5, service)
    assert len(client.recv(99)) == 5
    client.close()
";

#[test]
fn a_translated_udp_flow_is_one_outbound_flow_with_both_ends() {
    if no_nat() {
        return;
    }
    for is_masked in [false, true] {
        let services = Services::new();
        if is_masked {
            services.masquerade();
        }
        let home = Home::new("", "");
        let recording = home.record();
        let service = format!("{SERVICES}.53");
        python(&services.netns, QUERIES, &[&service]);
        let Services { netns, udp, servers } = services;
        drop(servers);
        // Ten of the client; the server has one for each source port.
        let (outbound, inbound) = ends(closed_flows(recording, &netns, 20));
        assert_eq!((outbound.len(), inbound.len()), (10, 10));
        for flow in outbound {
            assert_eq!(flow.remote, (service.clone(), 53), "{:?}", flow.opened);
            assert_eq!((flow.local.0.as_str(), flow.bytes, flow.packets), (CLIENT, (5, 5), (1, 1)));
            let behind = &flow.opened["Translated"];
            let local = if is_masked { MASKED } else { CLIENT };
            assert_eq!((text(behind, "LocalIp"), text(behind, "RemoteIp")), (local, V4));
            assert_eq!(behind["RemotePort"], udp);
        }
        for flow in inbound {
            let client = if is_masked { MASKED } else { CLIENT };
            assert_eq!((flow.remote.0.as_str(), flow.local), (client, (V4.to_owned(), udp.into())));
            assert_eq!((flow.bytes, flow.packets), ((5, 5), (1, 1)));
        }
    }
}

#[test]
fn an_ipv6_flow_that_is_translated_is_one_flow_too() {
    if no_nat() {
        return;
    }
    let (service, client) = ("fd00:78::53", "2001:db8:99::1");
    let netns = Netns::new(&[V6, client]);
    let mut echo = netns.command(peer());
    echo.args(["udp-echo", &format!("{}:0", bracketed(V6))]);
    let (echo, ready) = Server::start(echo);
    let port = ready.rsplit(':').next().unwrap();
    run(netns.command("ip").args(["route", "add", service, "dev", "lo", "src", client]));
    nft(
        &netns,
        &format!(
            "table ip6 n {{ chain o {{ type nat hook output priority -100;
             ip6 daddr {service} udp dport 53 dnat to [{V6}]:{port}; }}\n}}\n"
        ),
    );
    let home = Home::new("", "");
    let recording = home.record();
    python(&netns, QUERIES, &[service]);
    drop(echo);
    let (outbound, inbound) = ends(closed_flows(recording, &netns, 20));
    assert_eq!((outbound.len(), inbound.len()), (10, 10));
    for flow in outbound {
        assert_eq!((flow.remote.0.as_str(), flow.bytes), (service, (5, 5)), "{:?}", flow.opened);
        assert_eq!(text(&flow.opened["Translated"], "RemoteIp"), V6);
    }
}

/// An indicator of the address that the program sent to matches, although no packet has it. The agent is in
/// another network namespace, or in that of the program.
#[test]
fn the_address_that_the_program_sent_to_matches() {
    if no_nat() {
        return;
    }
    let services = Services::new();
    for is_own in [false, true] {
        let home = Home::new("", "");
        std::fs::write(home.path("list.txt"), format!("{SERVICES}.0/24\n")).unwrap();
        let command = home.command(&["run"]);
        let agent =
            Agent::spawn(if is_own { services.netns.wrap_command(&command) } else { command });
        agent.wait_for_log(START, "state: ");
        for number in 1..=6 {
            let service = format!("{SERVICES}.{number}");
            services.connect(&["udp-query", &format!("{service}:53"), "1"]);
            let of_service = |alert: &Value| text(alert, "RemoteIp") == service;
            let (_, alert) = agent.wait_for_alert(SOON, of_service);
            assert_eq!((text(&alert, "Via"), text(&alert, "Direction")), ("direct", "outbound"));
            assert_eq!((text(&alert, "SourceIp"), &alert["DestinationPort"]), (CLIENT, &53.into()));
        }
        let inbound = agent.alerts().into_iter().filter(|it| text(it, "Direction") == "inbound");
        assert_eq!(inbound.count(), 0);
        assert!(agent.stop().status.success());
    }
}

/// The setup of a container: its datagrams are translated by the host, in the agent's namespace.
#[test]
fn a_container_flow_is_matched_through_the_hosts_nat() {
    if no_nat() {
        return;
    }
    let host = Netns::new(&[V4]);
    let container = Netns::new(&[]);
    host.link_to(&container, ("192.0.2.73", "192.0.2.74"));
    run(container.command("ip").args(["route", "add", "default", "via", "192.0.2.73"]));
    let mut echo = host.command(peer());
    echo.args(["udp-echo", &format!("{V4}:0")]);
    let (_echo, ready) = Server::start(echo);
    let port = ready.rsplit(':').next().unwrap();
    let service = format!("{SERVICES}.53");
    let to = format!("ip daddr {service} udp dport 53 dnat to {V4}:{port}");
    let chain = "type nat hook prerouting priority -100";
    nft(&host, &format!("table ip n {{ chain p {{ {chain}; {to}; }}\n}}\n"));
    let home = Home::new("", "");
    let agent = Agent::spawn(host.wrap_command(&home.command(&["run"])));
    agent.wait_for_log(START, "state: ");
    run(container.command(peer()).args(["udp-query", &format!("{service}:53"), "1"]));
    let (_, alert) = agent.wait_for_alert(SOON, |alert| text(alert, "RemoteIp") == service);
    assert_eq!((text(&alert, "Via"), text(&alert, "MatchedIp")), ("conntrack", V4));
    assert_eq!((text(&alert, "SourceIp"), text(&alert, "Direction")), ("192.0.2.74", "outbound"));
    assert!(agent.stop().status.success());
}
