//! Response times: how many answers, and how long they took, as both ends tell.

use sensor_tests::Netns;
use serde_json::Value;

use crate::harness::{Home, Server, V4, V6, skipped, text};

/// Takes turns on a connection to itself, and measures: the last byte goes out, or comes in, between
/// the beginning and the end of a call. Writes for each end how many answers there were, and between
/// which bounds the sum, the shortest and the longest of their times lie, µs.
const TURNS: &str = "
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
def turn(delay):
    asked = timed(client.sendall, b'question')
    heard = timed(server.recv, 100)
    time.sleep(delay)
    server.sendall(b'ans')
    time.sleep(delay)
    answered = timed(server.sendall, b'wer')
    client.recv(100, socket.MSG_PEEK)
    client.recv(2)
    got = timed(client.recv, 100)
    bounds['outbound'].append((got[0] - asked[1], got[1] - asked[0] + 1))
    bounds['inbound'].append((answered[0] - heard[1], answered[1] - heard[0] + 1))
# It speaks first, as ssh does: that is no answer.
server.sendall(b'welcome')
client.recv(100)
for number in range(40):
    turn(0.005 + number * 0.001)
# The last answer is over by its silence, and more of it later is none.
time.sleep(2.5)
server.sendall(b'by the way')
client.recv(100)
time.sleep(2.5)
for number in range(3):
    turn(0.03)
client.close()
server.close()
with open(sys.argv[2], 'w') as said:
    for direction, each in bounds.items():
        low, high = [one[0] for one in each], [one[1] for one in each]
        figures = [len(each), sum(low), sum(high), min(low), min(high), max(low), max(high)]
        print(direction, *figures, file=said)
";

#[test]
fn answers_are_counted_and_timed_at_both_ends() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, V6]);
    let home = Home::new("look_every = \"1s\"", "");
    let folder = tempfile::tempdir().unwrap();
    for address in [V4, V6] {
        let recording = home.record();
        let said = folder.path().join("said");
        let mut command = netns.command("/usr/bin/python3");
        command.args(["-c", TURNS, address]).arg(&said);
        let (mut program, port) = Server::start(command);
        let port: u16 = port.parse().unwrap();
        assert!(program.0.wait().unwrap().success());
        recording.wait_for_closed(port, 2);
        let (records, _) = recording.stop();
        let said = std::fs::read_to_string(&said).unwrap();
        assert_eq!(said.lines().count(), 2);
        for line in said.lines() {
            let (direction, figures) = line.split_once(' ').unwrap();
            let figures: Vec<u64> = figures.split(' ').map(|it| it.parse().unwrap()).collect();
            check(&records, (direction, port), &figures);
        }
    }
}

/// Whether what was recorded of one end lies between the bounds that it tells.
fn check(records: &[Value], (direction, port): (&str, u16), figures: &[u64]) {
    let ours =
        |line: &&Value| line["DestinationPort"] == port && text(line, "Direction") == direction;
    let told: Vec<&Value> =
        records.iter().filter(ours).filter(|line| line["Responses"] != 0).collect();
    // The turns take three seconds, a look comes each second, and the last ones with the end.
    assert!(told.len() >= 3, "{direction}: {told:#?}");
    let each =
        |name: &str| told.iter().map(|line| line[name].as_u64().unwrap()).collect::<Vec<_>>();
    let within = |value: u64, low: u64, high: u64| {
        assert!((low..=high).contains(&value), "{direction}: {value} of {figures:?}: {told:#?}");
    };
    assert_eq!(each("Responses").iter().sum::<u64>(), figures[0], "{direction}: {told:#?}");
    // Each time is rounded down to a microsecond.
    within(each("ResponseTimeSumUs").iter().sum(), figures[1] - figures[0], figures[2]);
    within(*each("ResponseTimeMinUs").iter().min().unwrap(), figures[3] - 1, figures[4]);
    within(*each("ResponseTimeMaxUs").iter().max().unwrap(), figures[5] - 1, figures[6]);
}
