//! Names, from the response of a real resolver to alert, row and replay; and hostile responses.

use std::path::Path;

use sensor_tests::{Netns, run};
use serde_json::Value;

use crate::harness::{CLIENT_V4, Home, Ledger, SOON, Server, V4, V6, skipped, text};

/// Addresses of the resolver and of the stub, the latter as of `systemd-resolved`.
const RESOLVER: &str = "192.0.2.53";
const STUB: &str = "127.0.0.53";
/// An alias of an alias of a host with two of the suite's addresses.
const NAME: &str = "www.evil.example.test";
const RECORDS: [&str; 3] = [
    "--host-record=c2.example.test,203.0.113.7,2001:db8:51::7",
    "--cname=edge.example.test,c2.example.test",
    "--cname=www.evil.example.test,edge.example.test",
];

/// Resolves a name with the C library, and connects to each of its addresses.
const CLIENT: &str = "
import socket, sys
for family, kind, protocol, _, address in socket.getaddrinfo(sys.argv[1], 9, type=socket.SOCK_STREAM):
    try:
        socket.create_connection(address[:2], timeout=5)
    except ConnectionRefusedError:
        pass
    print(address[0])
";

/// Starts dnsmasq on `address`, with more arguments.
fn dnsmasq(netns: &Netns, address: &str, words: &[&str]) -> Server {
    // The process is dnsmasq itself, so that it ends with the server.
    let mut command = netns.command("bash");
    let usual = "exec dnsmasq --no-daemon --conf-file=/dev/null --no-resolv --no-hosts \
                 --bind-interfaces --except-interface=none --user=root --pid-file= --local-ttl=60 \
                 --listen-address=\"$@\" 2> >(sed -u 's/.*: started, .*/ready /')";
    command.args(["-c", usual, "bash", address]).args(words);
    Server::start(command).0
}

/// Runs the client with `server` as the host's resolver.
fn client(netns: &Netns, folder: &Path, server: &str) -> String {
    let resolv = folder.join("resolv.conf");
    std::fs::write(&resolv, format!("nameserver {server}\n")).unwrap();
    let script = "mount --bind \"$1\" /etc/resolv.conf && exec python3 -c \"$2\" \"$3\"";
    let mut command = netns.command("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(resolv).args([CLIENT, NAME]);
    String::from_utf8(run(&mut command).stdout).unwrap()
}

fn names(lines: &[Value], remote: &str) -> Vec<(String, String)> {
    let rows = lines.iter().filter(|row| text(row, "RemoteIp") == remote);
    let columns = ["RemoteDnsQuestions", "RemoteDnsCanonicalNames"];
    rows.map(|row| columns.map(|column| text(row, column).to_owned()).into()).collect()
}

#[test]
fn a_connection_has_the_dns_names_of_its_address_and_a_country() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, V6, RESOLVER]);
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.jsonl");
    let database = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/geo/city.mmdb");
    let more = format!(
        "[[sink]]\nname = \"out\"\nkind = \"stdout\"\n[[sink]]\nname = \"rows\"\nkind = \"file\"\n\
         path = {rows:?}\ntakes = [\"rows\"]\n[geoip]\ndatabase = {database:?}"
    );
    let home = Home::new("", &more);
    let agent = home.run();
    agent.wait_for_log(SOON, "geoip.database read");
    let _resolver = dnsmasq(&netns, RESOLVER, &RECORDS);
    let _stub = dnsmasq(&netns, STUB, &[&format!("--server={RESOLVER}")]);
    let addresses = client(&netns, folder.path(), STUB);
    assert!(addresses.contains(V4) && addresses.contains(V6), "{addresses}");
    let (question, canonical) = (format!("[\"{NAME}\"]"), "[\"c2.example.test\"]");
    for address in [V4, V6] {
        let (_, alert) =
            agent.wait_for_alert(SOON, |alert: &Value| text(alert, "RemoteIp") == address);
        assert_eq!(text(&alert, "RemoteDnsQuestions"), question, "{alert}");
    }
    let ended = agent.stop();
    let ledger = Ledger::of(&ended);
    ledger.assert_balances();
    // A and AAAA, from the resolver and from the stub.
    assert!(ledger.count("dns_received") >= 4, "{ledger:?}");
    let written = std::fs::read_to_string(&rows).unwrap();
    let written = written.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let written: Vec<Value> = written.filter(|row| row["Type"] == "VMConnection").collect();
    for address in [V4, V6] {
        let found = names(&written, address);
        assert_eq!(found, [(question.clone(), canonical.to_owned())], "{address}");
    }
    let row = written.iter().find(|row| text(row, "RemoteIp") == V4).unwrap();
    assert_eq!(text(row, "RemoteCountry"), "United States");
    assert_eq!(
        (&row["RemoteLatitude"], &row["RemoteLongitude"]),
        (&47.68.into(), &(-122.12).into())
    );
}

#[test]
fn a_recording_contains_dns_answers_and_replays_to_the_same_alerts() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, V6, RESOLVER]);
    let home = Home::new("", "");
    let recording = home.record();
    let _resolver = dnsmasq(&netns, RESOLVER, &RECORDS);
    client(&netns, &home.path(""), RESOLVER);
    recording.wait_for_lines(&["\"Event\":\"failed\"", "\"DestinationPort\":9,"], 2);
    let (_lines, ledger) = recording.stop();
    ledger.assert_balances();
    let (recorded, list) = (home.path("recorded.jsonl"), home.path("list.txt"));
    let mut command = sensor_tests::agent_command(&home.path(""), &["replay", "--live"]);
    command.arg("--connections").arg(recorded).arg("--indicators").arg(list);
    let output = String::from_utf8(run(&mut command).stdout).unwrap();
    let alerts: Vec<Value> =
        output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for address in [V4, V6] {
        let named = alerts.iter().filter(|alert| {
            text(alert, "RemoteIp") == address
                && text(alert, "RemoteDnsQuestions") == format!("[\"{NAME}\"]")
        });
        assert_eq!(named.count(), 1, "{address} in {output}");
    }
}

/// A server that replies to each query with the next of its hostile messages, a client that queries
/// for each, unsolicited responses, and a flood.
const HOSTILE: &str = r#"
import socket, struct, sys
server_ip, victim_ip, remote = sys.argv[1:4]
HEAD = lambda answers, kind=0x8180: struct.pack('>HHHHHH', 7, kind, 1, answers, 0, 0)
def name(*labels):
    return b''.join(bytes([len(it)]) + it for it in labels) + b'\0'
def response(question, address=remote, answers=1):
    record = b'\xc0\x0c' + struct.pack('>HHIH', 1, 1, 60, 4) + socket.inet_aton(address)
    return HEAD(answers) + question + struct.pack('>HH', 1, 1) + record * answers
CONTROL = name(b'\x1b[2J\r\n', b'"evil', b'exa.mple')
MESSAGES = [
    b'\x80' * 400,
    b'',
    b'\0' * 12,
    HEAD(1) + b'\xc0\x0c' + struct.pack('>HH', 1, 1),
    HEAD(1) + b'\xc0\xff' + struct.pack('>HH', 1, 1),
    HEAD(0xffff) + name(b'a') + struct.pack('>HH', 1, 1) + b'\xc0\x0c' * 600,
    HEAD(1) + b'\x3f' * 64 * 20,
    (HEAD(1) + name(*[b'\x01' * 63] * 900))[:65000],
    response(name(b'failed')).replace(b'\x81\x80', b'\x81\x83', 1),
    response(name(b'query')).replace(b'\x81\x80', b'\x01\x00', 1),
    response(name(b'Many', b'TEST'), answers=60) + b'\0' * 60000,
    response(CONTROL),
]
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((server_ip, 53))
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.bind((victim_ip, 0))
client.settimeout(5)
for message in MESSAGES:
    client.sendto(b'?', (server_ip, 53))
    server.recv(9)
    server.sendto(message, client.getsockname())
    assert client.recv(65535) == message
# Unsolicited responses: the socket has sent to another address only.
other_client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
other_client.bind((victim_ip, 0))
other_client.sendto(b'?', (victim_ip, 54))
server.sendto(response(name(b'unsolicited')), other_client.getsockname())
assert other_client.recv(999)
# Responses of a server on another port.
other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
other.bind((server_ip, 5353))
client.sendto(b'?', (server_ip, 5353))
other.sendto(response(name(b'otherport')), client.getsockname())
assert client.recv(999)
try:
    socket.create_connection((remote, 9), timeout=5)
except ConnectionRefusedError:
    pass
for number in range(30000):
    server.sendto(response(name(b'flood%d' % number), '198.51.100.%d' % (number % 250)), client.getsockname())
"#;

#[test]
fn hostile_dns_responses_are_harmless_and_a_flood_is_counted() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, RESOLVER, CLIENT_V4]);
    let home = Home::new("", "");
    let agent = home.run();
    let mut command = netns.command("python3");
    run(command.args(["-c", HOSTILE, RESOLVER, CLIENT_V4, V4]));
    let own = |alert: &Value| text(alert, "RemoteIp") == V4 && text(alert, "Protocol") == "tcp";
    let (_, alert) = agent.wait_for_alert(SOON, own);
    let questions: Vec<String> = serde_json::from_str(text(&alert, "RemoteDnsQuestions")).unwrap();
    let control = r#"\027[2j\013\010."evil.exa\.mple"#;
    assert_eq!(questions, [control, "many.test"], "{alert}");
    let ended = agent.stop();
    let ledger = Ledger::of(&ended);
    ledger.assert_balances();
    assert!(ledger.count("dns_over_rate") > 0, "{ledger:?}");
    assert!(ledger.count("dns_received") > 2000, "{ledger:?}");
    let logged = |mark: &str| ended.stderr.iter().any(|line| line.text.contains(mark));
    assert!(logged("dns over_rate "), "{ended:?}");
    assert!(!logged("\u{1b}[2J"), "{ended:?}");
}
