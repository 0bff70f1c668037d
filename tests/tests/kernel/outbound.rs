//! Outbound connections: process, addresses and timestamps.

use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use sensor_tests::{Netns, run};
use sensor_user::base::clock::{Clock as _, SystemClock};

use crate::harness::{CLIENT_V4, Home, SOON, Server, V4, V6, bracketed, peer, skipped, text};

/// Attempts for the time from the SYN to the alert on the agent's output; the fastest one counts,
/// because the rest measures other load of the machine.
const ATTEMPTS: u32 = 5;
const LIMIT: Duration = Duration::from_millis(100);

/// Runs curl to an address of the list. The alert has the pid, path and command line of that curl,
/// for IPv4, IPv6 and mapped addresses alike, and arrives within 100 ms of the SYN.
fn curl_alerts(server_address: &str, url_address: &str) {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, V6]);
    let (_server, port) = Server::peer(&netns, server_address);
    let mut latencies = Vec::new();
    for _attempt in 0..ATTEMPTS {
        // A new agent each time: a second hit within the dedup window would be counted, not raised.
        let home = Home::new("", "[rows]\nenabled = false");
        let agent = home.run();
        let url = format!("http://{}:{port}/", bracketed(url_address));
        let curl = netns
            .command("curl")
            .args(["--silent", "--max-time", "1", &url])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = curl.id();
        let outbound = |alert: &serde_json::Value| text(alert, "Direction") == "outbound";
        let (_, alert) = agent.wait_for_alert(SOON, outbound);
        let arrived = SystemClock.now();
        let mut curl = curl;
        curl.wait().unwrap();

        let expected = if url_address.contains('.') { V4 } else { V6 };
        assert_eq!(text(&alert, "RemoteIp"), expected);
        assert_eq!(text(&alert, "DestinationIp"), expected);
        assert_eq!(alert["DestinationPort"], port);
        assert_eq!(alert["ProcessId"], pid);
        assert_eq!(text(&alert, "Attribution"), "connect");
        assert_eq!(text(&alert, "ProcessName"), "curl");
        assert_eq!(text(&alert, "ProcessPath"), curl_path());
        assert_eq!(text(&alert, "CommandLine"), format!("curl --silent --max-time 1 {url}"));
        assert_eq!(text(&alert, "UserName"), "root");
        assert_eq!(text(&alert, "Computer"), "host.example.net");
        assert_eq!(text(&alert, "DnsDomain"), "example.net");
        assert_ne!(alert["SourcePort"], serde_json::Value::Null);
        let syn: Timestamp = text(&alert, "VMConnection_TimeGenerated").parse().unwrap();
        latencies.push(Duration::try_from(arrived.duration_since(syn)).unwrap());
        assert!(agent.stop().status.success());
        if latencies.last().is_some_and(|last| *last < LIMIT) {
            return;
        }
    }
    panic!("no alert within {LIMIT:?} of the SYN: {latencies:?}");
}

/// The path of curl as the kernel reports it, with symbolic links resolved.
fn curl_path() -> String {
    std::fs::canonicalize("/usr/bin/curl").unwrap().to_str().unwrap().to_owned()
}

#[test]
fn curl_to_an_ipv4_indicator_alerts_with_its_process() {
    curl_alerts(V4, V4);
}

#[test]
fn curl_to_an_ipv6_indicator_alerts_with_its_process() {
    curl_alerts(V6, V6);
}

#[test]
fn curl_to_a_mapped_address_alerts_as_ipv4() {
    curl_alerts(V4, "::ffff:203.0.113.7");
}

#[test]
fn an_idle_agent_wakes_for_the_first_record() {
    if skipped() {
        return;
    }
    let addresses: Vec<String> = (1..=5).map(|number| format!("2001:db8:51::{number}")).collect();
    let netns = Netns::new(&addresses.iter().map(String::as_str).collect::<Vec<_>>());
    let home = Home::new("", "");
    let agent = home.run();
    let mut latencies = Vec::new();
    for address in &addresses {
        // Without traffic for long enough that the reader sleeps (and would for half a second).
        run(Command::new("sleep").arg("0.8"));
        run(netns.command(peer()).args(["try", &format!("[{address}]:9")]));
        let (_, alert) = agent.wait_for_alert(SOON, |alert| text(alert, "RemoteIp") == address);
        let arrived = SystemClock.now();
        let syn: Timestamp = text(&alert, "VMConnection_TimeGenerated").parse().unwrap();
        latencies.push(Duration::try_from(arrived.duration_since(syn)).unwrap());
    }
    latencies.sort_unstable();
    assert!(latencies[2] < LIMIT, "the median of {latencies:?}");
    assert!(agent.stop().status.success());
}

#[test]
fn a_refused_connection_alerts_and_is_recorded_with_its_errno() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let home = Home::new("", "");
    let agent = home.run();
    run(netns.command(peer()).args(["try", &format!("{V4}:9")]));
    let (_, alert) = agent.wait_for_alert(SOON, |alert| text(alert, "RemoteIp") == V4);
    assert_eq!(text(&alert, "ProcessName"), "peer");
    assert!(agent.stop().status.success());

    let recording = home.record();
    run(netns.command(peer()).args(["try", &format!("{V4}:9")]));
    let (lines, ledger) = recording.stop();
    let own: Vec<_> = lines.iter().filter(|line| text(line, "RemoteIp") == V4).collect();
    let events: Vec<&str> = own.iter().map(|line| text(line, "Event")).collect();
    assert_eq!(events, ["opened", "failed"]);
    assert_eq!(own[1]["ErrorNumber"], 111);
    assert_eq!(own[1]["LinksFailed"], 1);
    ledger.assert_balances();
}

#[test]
fn an_unanswered_syn_alerts_while_it_is_pending() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[CLIENT_V4]);
    netns.black_hole(V4);
    let home = Home::new("", "");
    let agent = home.run();
    let mut client = netns.command(peer());
    client.args(["try", &format!("{V4}:443")]).stdout(Stdio::null());
    let mut client = client.spawn().unwrap();
    let (_, alert) = agent.wait_for_alert(SOON, |alert| text(alert, "RemoteIp") == V4);
    assert_eq!(alert["ProcessId"], client.id());
    client.wait().unwrap();
    assert!(agent.stop().status.success());
}

#[test]
fn byte_counts_are_payload_without_syn_and_fin() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body");
    std::fs::write(&body, vec![b'x'; 300_000]).unwrap();
    let mut web = netns.command("/usr/bin/python3");
    web.args(["-u", "-c", SERVER, V4, folder.path().to_str().unwrap()]);
    let (_web, port) = Server::start(web);
    let home = Home::new("", "");
    let recording = home.record();
    let format = "%{size_request} %{size_header} %{size_download}";
    let url = format!("http://{V4}:{port}/body");
    let curl =
        ["--silent", "--interface", CLIENT_V4, "--output", "/dev/null", "--write-out", format];
    let output = run(netns.command("curl").args(curl).arg(&url));
    let sizes: Vec<u64> = String::from_utf8(output.stdout)
        .unwrap()
        .split(' ')
        .map(|size| size.parse().unwrap())
        .collect();
    let (request, response) = (sizes[0], sizes[1] + sizes[2]);
    recording.wait_for_closed(port.parse().unwrap(), 2);
    let (lines, _) = recording.stop();
    let closed = |direction: &str| {
        let found = lines.iter().find(|line| {
            text(line, "Event") == "closed"
                && text(line, "Direction") == direction
                && line["DestinationPort"].as_u64() == port.parse().ok()
        });
        let line = found.unwrap_or_else(|| panic!("no closed {direction} in {lines:?}"));
        (line["BytesSent"].as_u64().unwrap(), line["BytesReceived"].as_u64().unwrap())
    };
    assert_eq!(closed("outbound"), (request, response));
    assert_eq!(closed("inbound"), (response, request));
}

/// Serves a directory on any port of an address.
const SERVER: &str = "
import functools, http.server, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass
handler = functools.partial(Handler, directory=sys.argv[2])
server = http.server.HTTPServer((sys.argv[1], 0), handler)
print('ready', server.server_address[1])
server.serve_forever()
";

#[test]
fn a_hostile_process_name_is_escaped_in_all_output() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let (_server, port) = Server::peer(&netns, V4);
    let folder = tempfile::tempdir().unwrap();
    let name = "evil\u{1b}[31m\nname \u{202e}x";
    let program = folder.path().join(name);
    std::fs::copy(peer(), &program).unwrap();
    let home = Home::new(
        "",
        "[[sink]]\nname = \"out\"\nkind = \"stdout\"\n[[sink]]\nname = \"tty\"\nkind = \"console\"",
    );
    let agent = home.run();
    run(netns.command(&program).args(["try", &format!("{V4}:{port}"), "a\nb\u{1b}]0;x\u{7}"]));
    let (_, alert) = agent.wait_for_alert(SOON, |alert| text(alert, "RemoteIp") == V4);
    assert_eq!(text(&alert, "ProcessName"), name);
    let ended = agent.stop();
    for line in &ended.stderr {
        assert!(!line.text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{:?}", line.text);
    }
    // JSON escapes control characters; all others are data there.
    for line in &ended.stdout {
        assert!(!line.text.contains(['\u{1b}', '\u{7}']), "{:?}", line.text);
    }
    let printed = ended.stderr.iter().any(|line| line.text.contains("ALERT outbound"));
    assert!(printed, "{:?}", ended.stderr);
}
