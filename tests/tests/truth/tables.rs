//! Rows and alerts that the live pipeline makes of a recording, compared with the recorded ends.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sensor_tests::{agent_command, run};
use serde_json::Value;

use crate::ends::{End, count, text};
use crate::lab::MARKER_PORT;

/// Runs the ends' lines of a recording through the live pipeline, with an indicator for each remote address.
/// Asserts that the rows have each group's connections and bytes, and the alerts each connection.
pub(crate) fn assert_equal(folder: &Path, lines: &[Value], ends: &[End]) {
    let namespaces: BTreeSet<u64> = ends.iter().map(|end| end.netns).collect();
    let is_own = |line: &&Value| {
        let netns = line["NetworkNamespace"].as_u64();
        netns.is_some_and(|netns| namespaces.contains(&netns))
            && line["DestinationPort"] != MARKER_PORT
    };
    let own: Vec<String> = lines.iter().filter(is_own).map(Value::to_string).collect();
    let remotes: BTreeSet<String> = ends.iter().map(End::remote).collect();
    let indicators: Vec<String> = remotes.into_iter().collect();
    let path = |name: &str| folder.join(name);
    std::fs::write(path("own.jsonl"), own.join("\n")).unwrap();
    std::fs::write(path("indicators.txt"), indicators.join("\n")).unwrap();
    let mut replay = agent_command(folder, &["replay", "--live", "--quiet"]);
    replay.arg("--connections").arg(path("own.jsonl"));
    replay.arg("--indicators").arg(path("indicators.txt"));
    run(replay.arg("--rows").arg(path("rows.jsonl")).arg("--out").arg(path("alerts.jsonl")));
    assert_rows(&read(&path("rows.jsonl")), ends);
    assert_alerts(&read(&path("alerts.jsonl")), ends);
}

fn assert_rows(rows: &[Value], ends: &[End]) {
    type Group = [String; 4];
    let mut expected: BTreeMap<Group, [u64; 4]> = BTreeMap::new();
    for end in ends {
        let protocol = if end.connection.is_udp { "udp" } else { "tcp" };
        let group = [end.direction(), protocol, &end.path, &end.remote()].map(str::to_owned);
        let established = u64::from(end.connection.is_established);
        // A refused connection has failed, and is not one that was terminated.
        let counts = [established, established, end.connection.sent, end.connection.received];
        add(expected.entry(group).or_default(), counts);
    }
    let mut found: BTreeMap<Group, [u64; 4]> = BTreeMap::new();
    for row in rows.iter().filter(|row| text(row, "Type") == "VMConnection") {
        let columns = ["Direction", "Protocol", "ProcessPath", "RemoteIp"];
        let group = columns.map(|column| text(row, column).to_owned());
        let counts = ["LinksEstablished", "LinksTerminated", "BytesSent", "BytesReceived"];
        add(found.entry(group).or_default(), counts.map(|column| count(row, column)));
    }
    assert_eq!(found, expected, "rows");
}

/// Sums by direction and remote address: the process of a first alert may be a guess.
fn assert_alerts(alerts: &[Value], ends: &[End]) {
    let mut expected: BTreeMap<[String; 2], [u64; 1]> = BTreeMap::new();
    for end in ends {
        let key = [end.direction(), &end.remote()].map(str::to_owned);
        add(expected.entry(key).or_default(), [1]);
    }
    let mut found: BTreeMap<[String; 2], [u64; 1]> = BTreeMap::new();
    for alert in alerts {
        let key = ["Direction", "RemoteIp"].map(|column| text(alert, column).to_owned());
        add(found.entry(key).or_default(), [count(alert, "ConnectionCount")]);
    }
    assert_eq!(found, expected, "alerts");
}

fn add<const N: usize>(sums: &mut [u64; N], counts: [u64; N]) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum += count;
    }
}

fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
