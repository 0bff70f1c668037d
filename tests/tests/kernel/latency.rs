//! Response times: number and duration of responses, compared at both ends.

use sensor_tests::Netns;
use serde_json::Value;

use crate::harness::{Home, Server, V4, V6, skipped, text};

/// Sends requests and responses on a connection to itself, and measures them: the last byte is sent
/// or received between the start and the end of a call. Writes for each end the number of responses
/// and the bounds for the sum, the minimum and the maximum of their times, µs.
const EXCHANGES: &str = "
import socket, sys, time
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
listener = socket.create_server((sys.argv[1], 0), family=family)
client = socket.create_connection(listener.getsockname()[:2])
server = listener.accept()[0]
print('ready', listener.getsockname()[1], flush=True)
now = lambda: time.monotonic_ns() // 1000
bounds = {'outbound': [], 'inbound': []}
def timed(call, *words):
    began = now()
    call(*words)
    return began, now()
def exchange(delay):
    requested = timed(client.sendall, b'request!')
    received = timed(server.recv, 100)
    time.sleep(delay)
    server.sendall(b'rep')
    time.sleep(delay)
    replied = timed(server.sendall, b'ly!')
    client.recv(100, socket.MSG_PEEK)
    client.recv(2)
    got = timed(client.recv, 100)
    bounds['outbound'].append((got[0] - requested[1], got[1] - requested[0] + 1))
    bounds['inbound'].append((replied[0] - received[1], replied[1] - received[0] + 1))
# The server sends first, as ssh does: that is no response.
server.sendall(b'welcome')
client.recv(100)
for number in range(40):
    exchange(0.005 + number * 0.001)
# The last response ends with its silence; later data does not count.
time.sleep(2.5)
server.sendall(b'trailing')
client.recv(100)
time.sleep(2.5)
for number in range(3):
    exchange(0.03)
client.close()
server.close()
with open(sys.argv[2], 'w') as output:
    for direction, each in bounds.items():
        low, high = [pair[0] for pair in each], [pair[1] for pair in each]
        values = [len(each), sum(low), sum(high), min(low), min(high), max(low), max(high)]
        print(direction, *values, file=output)
";

#[test]
fn responses_are_counted_and_timed_at_both_ends() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, V6]);
    let home = Home::new("scan_interval = \"1s\"", "");
    let folder = tempfile::tempdir().unwrap();
    for address in [V4, V6] {
        let recording = home.record();
        let output = folder.path().join("output");
        let mut command = netns.command("/usr/bin/python3");
        command.args(["-c", EXCHANGES, address]).arg(&output);
        let (mut program, port) = Server::start(command);
        let port: u16 = port.parse().unwrap();
        assert!(program.0.wait().unwrap().success());
        recording.wait_for_closed(port, 2);
        let (records, _) = recording.stop();
        let output = std::fs::read_to_string(&output).unwrap();
        assert_eq!(output.lines().count(), 2);
        for line in output.lines() {
            let (direction, bounds) = line.split_once(' ').unwrap();
            let bounds: Vec<u64> = bounds.split(' ').map(|it| it.parse().unwrap()).collect();
            check(&records, (direction, port), &bounds);
        }
    }
}

/// Asserts that the recorded values of one end lie between the bounds measured by the program.
fn check(records: &[Value], (direction, port): (&str, u16), bounds: &[u64]) {
    let own =
        |line: &&Value| line["DestinationPort"] == port && text(line, "Direction") == direction;
    let lines: Vec<&Value> =
        records.iter().filter(own).filter(|line| line["Responses"] != 0).collect();
    // The exchanges take three seconds, a scan runs each second, and the close event has the rest.
    assert!(lines.len() >= 3, "{direction}: {lines:#?}");
    let each =
        |name: &str| lines.iter().map(|line| line[name].as_u64().unwrap()).collect::<Vec<_>>();
    let within = |value: u64, low: u64, high: u64| {
        assert!((low..=high).contains(&value), "{direction}: {value} of {bounds:?}: {lines:#?}");
    };
    assert_eq!(each("Responses").iter().sum::<u64>(), bounds[0], "{direction}: {lines:#?}");
    // Each time is rounded down to a microsecond.
    within(each("ResponseTimeSumUs").iter().sum(), bounds[1] - bounds[0], bounds[2]);
    within(*each("ResponseTimeMinUs").iter().min().unwrap(), bounds[3] - 1, bounds[4]);
    within(*each("ResponseTimeMaxUs").iter().max().unwrap(), bounds[5] - 1, bounds[6]);
}
