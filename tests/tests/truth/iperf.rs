//! iperf3 over TCP and UDP, in both directions.

use sensor_tests::wait_until;
use serde_json::Value;

use crate::ends::End;
use crate::lab::{Lab, Observed, SERVER, path};

const PORT: u16 = 5201;
/// Bytes by which iperf3 identifies the test at the beginning of each TCP stream.
const COOKIE: u64 = 37;
/// Bytes of the datagram that opens a UDP stream, and of its response.
const HELLO: u64 = 4;

/// Runs one test. Returns the records, and the reports of the client and of the server. Asserts the owners.
fn measure(words: &[&str]) -> Option<(Observed, Value, Value)> {
    let lab = Lab::start(&["iperf3"])?;
    let server = ["--server", "--one-off", "--json", "--bind", SERVER];
    let server = lab.listening("iperf3", &server, &format!("{SERVER}:{PORT}"));
    let client = lab.run("iperf3", &[&["--client", SERVER, "--json"], words].concat());
    let server_pid = server.pid();
    wait_until("the server ends after one test", || server.has_exited());
    let server_report = serde_json::from_str(&server.stop()).unwrap();
    let observed = lab.finish();
    for (ends, pid) in [(observed.outbound(PORT), client.pid), (observed.inbound(PORT), server_pid)]
    {
        for end in ends {
            assert_eq!((end.pid, &end.path), (pid, &path("iperf3")), "{end:?}");
        }
    }
    Some((observed, serde_json::from_str(&client.stdout).unwrap(), server_report))
}

/// The end that belongs to a stream of a report, by the client's port.
fn stream<'o>(ends: &[&'o End], report: &Value, index: usize) -> &'o End {
    let start = &report["start"]["connected"][index];
    let is_client = report["start"]["connecting_to"].is_object();
    let port = &start[if is_client { "local_port" } else { "remote_port" }];
    let found = ends.iter().find(|end| *port == end.connection.client.port());
    found.unwrap_or_else(|| panic!("no port {port} in {ends:#?}"))
}

/// Bytes of a stream in a report.
fn bytes(report: &Value, index: usize, side: &str) -> u64 {
    let stream = &report["end"]["streams"][index];
    stream[side]["bytes"].as_u64().unwrap_or_else(|| panic!("no bytes in {report}"))
}

/// Asserts that a stream is between the two reports: the receiving program stops before it has read all, and
/// what is still in the sender's buffer then never leaves.
fn assert_between(sender: &End, sender_report: u64, receiver: &End, receiver_report: u64) {
    let bytes =
        [receiver_report, receiver.connection.received, sender.connection.sent, sender_report];
    assert!(bytes.is_sorted() && receiver_report > 0, "{bytes:?}: {sender:?} {receiver:?}");
}

#[test]
fn streams_over_tcp_have_the_bytes_between_both_reports() {
    let words = ["--bytes", "40M", "--parallel", "2"];
    let Some((observed, client, server)) = measure(&words) else { return };
    let (outbound, inbound) = (observed.outbound(PORT), observed.inbound(PORT));
    assert_eq!((outbound.len(), inbound.len()), (3, 3), "two streams and the control connection");
    for index in 0..2 {
        let (sender, receiver) =
            (stream(&outbound, &client, index), stream(&inbound, &server, index));
        let sent = COOKIE + bytes(&client, index, "sender");
        assert_between(sender, sent, receiver, COOKIE + bytes(&server, index, "receiver"));
    }
}

#[test]
fn a_reversed_stream_over_tcp_is_outbound_and_received() {
    let Some((observed, client, server)) = measure(&["--bytes", "40M", "--reverse"]) else {
        return;
    };
    let (outbound, inbound) = (observed.outbound(PORT), observed.inbound(PORT));
    let (receiver, sender) = (stream(&outbound, &client, 0), stream(&inbound, &server, 0));
    assert_eq!((receiver.connection.sent, sender.connection.received), (COOKIE, COOKIE));
    let sent = bytes(&server, 0, "sender");
    assert_between(sender, sent, receiver, bytes(&client, 0, "receiver"));
}

#[test]
fn datagrams_are_the_ones_that_iperf_sends() {
    let words = ["--udp", "--bytes", "5M", "--bitrate", "100M", "--length", "1400"];
    let Some((observed, client, _)) = measure(&words) else { return };
    let outbound = observed.outbound(PORT);
    let sender = stream(&outbound, &client, 0);
    assert!(sender.connection.is_udp, "{sender:?}");
    let stream = &client["end"]["streams"][0]["udp"];
    assert_eq!(Value::from(sender.connection.sent - HELLO), stream["bytes"], "{sender:?}");
    assert_eq!(sender.connection.received, HELLO);
}
