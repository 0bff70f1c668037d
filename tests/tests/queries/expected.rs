//! The expected result of each query on the workload, computed by hand.

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub(crate) fn results() -> BTreeMap<&'static str, Value> {
    let mut all = BTreeMap::new();
    traffic(&mut all);
    links(&mut all);
    threats(&mut all);
    services(&mut all);
    ports(&mut all);
    hosts(&mut all);
    all
}

const WEB: &str = "web01.example.net";
const DB: &str = "db01.example.net";

fn traffic(all: &mut BTreeMap<&'static str, Value>) {
    let hour = |hour: u32| format!("2026-11-24 {hour}:00:00+00");
    all.insert(
        "bytes-trend",
        json!([
            { "Hour": hour(10), "Computer": WEB, "BytesSent": 5150, "BytesReceived": 1800 },
            { "Hour": hour(11), "Computer": WEB, "BytesSent": 17, "BytesReceived": 23 },
            { "Hour": hour(10), "Computer": DB, "BytesSent": 900, "BytesReceived": 90 },
            { "Hour": hour(11), "Computer": DB, "BytesSent": 60, "BytesReceived": 120 },
        ]),
    );
    all.insert(
        "most-bytes",
        json!([
            { "Computer": WEB, "BytesSent": 5167, "BytesReceived": 1823, "RemoteIps": 4 },
            { "Computer": DB, "BytesSent": 960, "BytesReceived": 210, "RemoteIps": 3 },
        ]),
    );
    all.insert(
        "top-destinations",
        json!([
            { "RemoteIp": "203.0.113.7", "Names": ["evil.example"], "Bytes": 1650,
              "LinksEstablished": 2 },
            { "RemoteIp": "192.0.2.53", "Names": [], "Bytes": 180, "LinksEstablished": 1 },
            { "RemoteIp": "198.51.100.9", "Names": ["a.example", "b.example"], "Bytes": 30,
              "LinksEstablished": 1 },
            { "RemoteIp": "203.0.113.66", "Names": [], "Bytes": 0, "LinksEstablished": 0 },
        ]),
    );
    let port = |direction: &str, protocol: &str, port: u16, sums: [u64; 3]| {
        json!({
            "Direction": direction, "Protocol": protocol, "DestinationPort": port,
            "LinksEstablished": sums[0], "LinksFailed": sums[1], "Bytes": sums[2],
        })
    };
    all.insert(
        "top-ports",
        json!([
            port("inbound", "tcp", 443, [6, 0, 5310]),
            port("outbound", "tcp", 443, [2, 0, 1650]),
            port("inbound", "tcp", 5432, [1, 0, 990]),
            port("outbound", "udp", 53, [1, 0, 180]),
            port("outbound", "tcp", 80, [1, 3, 30]),
            port("outbound", "tcp", 6667, [0, 2, 0]),
        ]),
    );
    let process = |computer: &str, name: &str, user: &str, remotes: u64, ports: u64| {
        json!({
            "Computer": computer, "ProcessName": name, "ProcessPath": format!("/usr/bin/{name}"),
            "UserName": user, "RemoteIps": remotes, "Ports": ports,
        })
    };
    all.insert(
        "talkative-processes",
        json!([
            process(WEB, "curl", "root", 2, 2),
            process(WEB, "nginx", "nginx", 2, 1),
            process(DB, "dnsmasq", "dnsmasq", 1, 1),
            process(DB, "postgres", "postgres", 1, 1),
            process(DB, "xmrig", "xmrig", 1, 1),
        ]),
    );
    all.insert(
        "slow-networks",
        json!([
            { "RemoteIp": "198.51.100.9", "FastestMs": 20.0, "SlowestMs": 30.5 },
            { "RemoteIp": "10.0.0.5", "FastestMs": 0.15, "SlowestMs": 0.3 },
        ]),
    );
}

fn links(all: &mut BTreeMap<&'static str, Value>) {
    all.insert(
        "link-status-trend",
        json!([
            { "Hour": "2026-11-24 10:00:00+00", "LinksEstablished": 8, "LinksTerminated": 6,
              "LinksFailed": 0, "LinksLive": 1 },
            { "Hour": "2026-11-24 11:00:00+00", "LinksEstablished": 3, "LinksTerminated": 3,
              "LinksFailed": 5, "LinksLive": 0 },
        ]),
    );
    all.insert("failures-by-hour", json!([{ "HourOfDay": 11, "LinksFailed": 5 }]));
    all.insert(
        "failed-destinations",
        json!([
            { "Computer": WEB, "ProcessName": "curl", "DestinationIp": "198.51.100.9",
              "DestinationPort": 80, "LinksFailed": 3, "Share": 0.75 },
            { "Computer": DB, "ProcessName": "xmrig", "DestinationIp": "203.0.113.66",
              "DestinationPort": 6667, "LinksFailed": 2, "Share": 1.0 },
        ]),
    );
}

fn threats(all: &mut BTreeMap<&'static str, Value>) {
    all.insert(
        "malicious",
        json!([
            { "MaliciousIp": "203.0.113.66", "IndicatorThreatType": "Botnet", "Severity": 5,
              "Confidence": null, "Who": ["db01.example.net xmrig"], "Directions": ["outbound"],
              "LinksEstablished": 0, "LinksFailed": 2, "BytesSent": 0,
              "FirstSeen": "2026-11-24 11:45:00+00", "LastSeen": "2026-11-24 11:45:00+00" },
            { "MaliciousIp": "203.0.113.7", "IndicatorThreatType": "C2", "Severity": 4,
              "Confidence": 80, "Who": ["web01.example.net curl"], "Directions": ["outbound"],
              "LinksEstablished": 2, "LinksFailed": 0, "BytesSent": 150,
              "FirstSeen": "2026-11-24 10:00:00+00", "LastSeen": "2026-11-24 10:01:00+00" },
        ]),
    );
    all.insert("malicious-by-country", json!([
        { "RemoteCountry": "Germany", "MaliciousIps": 1, "BytesSent": 150, "BytesReceived": 1500,
          "Latitude": 51.5, "Longitude": 10.5 },
        { "RemoteCountry": "France", "MaliciousIps": 1, "BytesSent": 0, "BytesReceived": 0,
          "Latitude": 46.5, "Longitude": 2.5 },
    ]));
}

fn services(all: &mut BTreeMap<&'static str, Value>) {
    all.insert(
        "response-times",
        json!([
            { "DestinationIp": "198.51.100.9", "DestinationPort": 80, "Responses": 1,
              "Fastest": 200, "Average": 200.0, "Slowest": 200 },
            { "DestinationIp": "203.0.113.7", "DestinationPort": 443, "Responses": 2,
              "Fastest": 10, "Average": 20.0, "Slowest": 30 },
        ]),
    );
    all.insert(
        "clients",
        json!([
            { "Computer": WEB, "ProcessName": "nginx", "Protocol": "tcp", "DestinationPort": 443,
              "Clients": 2, "LinksEstablished": 6, "BytesReceived": 303, "BytesSent": 5007 },
            { "Computer": DB, "ProcessName": "postgres", "Protocol": "tcp", "DestinationPort": 5432,
              "Clients": 1, "LinksEstablished": 1, "BytesReceived": 90, "BytesSent": 900 },
        ]),
    );
    all.insert(
        "outbound-of-a-group",
        json!([
            { "Computer": WEB, "ProcessName": "curl", "DestinationIp": "198.51.100.9",
              "DestinationPort": 80, "Protocol": "tcp", "BytesSent": 10, "BytesReceived": 20,
              "LinksEstablished": 1, "LinksFailed": 3, "LinksTerminated": 1, "LinksLive": 0,
              "Responses": 1, "AverageResponse": 200.0 },
            { "Computer": WEB, "ProcessName": "curl", "DestinationIp": "203.0.113.7",
              "DestinationPort": 443, "Protocol": "tcp", "BytesSent": 150, "BytesReceived": 1500,
              "LinksEstablished": 2, "LinksFailed": 0, "LinksTerminated": 2, "LinksLive": 0,
              "Responses": 2, "AverageResponse": 20.0 },
        ]),
    );
}

fn ports(all: &mut BTreeMap<&'static str, Value>) {
    let bound = |computer: &str, protocol: &str, port: u16, process: &str| {
        json!({
            "Computer": computer, "Protocol": protocol, "Port": port, "ProcessName": process,
        })
    };
    all.insert(
        "bound-ports",
        json!([
            bound(DB, "tcp", 53, "dnsmasq"),
            bound(DB, "udp", 53, "dnsmasq"),
            bound(DB, "tcp", 5432, "postgres"),
            bound(WEB, "tcp", 22, "sshd"),
            bound(WEB, "tcp", 443, "nginx"),
            bound(WEB, "tcp", 6379, "redis"),
        ]),
    );
    all.insert(
        "open-ports-by-computer",
        json!([
            { "Computer": DB, "OpenPorts": 3 },
            { "Computer": WEB, "OpenPorts": 2 },
        ]),
    );
    all.insert(
        "open-ports-by-process",
        json!([
            { "ProcessName": "dnsmasq", "OpenPorts": 2 },
            { "ProcessName": "nginx", "OpenPorts": 1 },
            { "ProcessName": "postgres", "OpenPorts": 1 },
            { "ProcessName": "sshd", "OpenPorts": 1 },
        ]),
    );
    let traffic = |(computer, process): (&str, &str),
                   (ip, port, wildcard): (&str, u16, Option<bool>),
                   sums: [u64; 5]| {
        json!({
            "Computer": computer, "ProcessName": process, "Ip": ip, "Port": port,
            "IsWildcardBind": wildcard, "BytesSent": sums[0], "BytesReceived": sums[1],
            "LinksEstablished": sums[2], "LinksTerminated": sums[3], "LinksLive": sums[4],
        })
    };
    all.insert(
        "port-traffic",
        json!([
            traffic((WEB, "nginx"), ("10.0.0.4", 443, Some(true)), [5007, 303, 6, 5, 1]),
            traffic((DB, "postgres"), ("10.0.0.4", 5432, Some(false)), [900, 90, 1, 0, 1]),
            traffic((DB, "dnsmasq"), ("0.0.0.0", 53, None), [60, 30, 1, 1, 0]),
            traffic((DB, "dnsmasq"), ("0.0.0.0", 53, Some(true)), [0, 0, 0, 0, 0]),
            traffic((WEB, "sshd"), ("0.0.0.0", 22, Some(true)), [0, 0, 0, 0, 0]),
        ]),
    );
    let unused = |computer: &str, process: &str, port: u16, time: &str| {
        json!({
            "Computer": computer, "ProcessName": process, "Protocol": "tcp", "Port": port,
            "LastSeen": format!("2026-11-24 {time}:00+00"),
        })
    };
    all.insert(
        "unused-ports",
        json!([unused(DB, "dnsmasq", 53, "10:30"), unused(WEB, "sshd", 22, "11:00"),]),
    );
}

fn hosts(all: &mut BTreeMap<&'static str, Value>) {
    let computer = |name: &str, machine: &str, address: &str, boot: Value| {
        json!({
            "Machine": machine, "Computer": name, "OperatingSystem": "Debian GNU/Linux 13",
            "PhysicalMemoryMB": 2048, "Ipv4Addresses": ["127.0.0.1", address], "BootTime": boot,
        })
    };
    all.insert(
        "computers",
        json!([
            computer(DB, "m-db01", "10.0.0.5", Value::Null),
            computer(WEB, "m-web01", "10.0.0.7", json!("2026-11-01 00:00:00+00")),
        ]),
    );
    all.insert("computer-of-address", json!([{ "Computer": DB, "Machine": "m-db01" }]));
    all.insert(
        "processes-by-command-line",
        json!([{
            "Computer": DB, "ExecutablePath": "/usr/bin/postgres",
            "CommandLine": "postgres -D /srv/PostgreSQL", "UserName": "postgres",
            "StartTime": "2026-11-01 00:00:09+00",
        }]),
    );
}
