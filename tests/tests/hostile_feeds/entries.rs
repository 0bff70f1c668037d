//! Single harmful entries: rejected with a reason, and the others stay.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use sensor_tests::skip_unless;
use sensor_user::cli::feeds_view::feeds_view;
use sensor_user::intel::FeedKind;
use sensor_user::telemetry::control::FeedReport;
use serde_json::{Value, json};

use super::{GOOD, TestFeed, address, at, covers, json_kinds, samples};

/// The good list, with further lines.
fn with(more: &str) -> String {
    let good: String = (1..=GOOD).map(|number| address(number) + "\n").collect();
    good + more
}

fn counts(report: &FeedReport) -> BTreeMap<&str, u64> {
    report.rejected.iter().map(|(reason, count)| (reason.as_str(), *count)).collect()
}

#[tokio::test]
async fn too_large_and_private_networks_are_rejected() {
    let feed = TestFeed::list().await;
    let all = "0.0.0.0/0\n::/0\n1.0.0.0/7\n";
    let own = "10.0.0.0/8\n172.16.9.1\n192.168.0.0/16\n127.0.0.1\n169.254.169.254\n::1\nfe80::1\n";
    let report = feed.pull_body(with(&format!("{all}{own}203.0.113.9-203.0.113.1\nevil\n"))).await;
    let expected = [
        ("address range", 1),
        ("not an address", 1),
        ("prefix too short", 3),
        ("private or special range", 7),
    ];
    assert_eq!(counts(&report), BTreeMap::from(expected));
    assert!(report.rejects.iter().map(|it| it.position).eq(21..=32));
    assert_eq!((report.reason.as_str(), report.indicators), ("", 20));
    assert_eq!(feed.stats.feed_entries_rejected.value(), 12);
    feed.assert_holds("with networks");
}

/// Loopback addresses are rejected as special addresses, so they do not count here.
#[tokio::test]
async fn addresses_of_this_host_are_rejected() {
    let addresses = getifaddrs().unwrap().filter_map(|interface| interface.address);
    let addresses = addresses.filter_map(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| Some(address.as_sockaddr_in6()?.ip().into()))
    });
    let own: Vec<String> =
        addresses.filter(|it| !it.is_loopback()).map(|it| it.to_string()).collect();
    if skip_unless(!own.is_empty(), "this host has no address but loopback") {
        return;
    }
    let feed = TestFeed::list().await;
    let report = feed.pull_body(with(&format!("{}\n", own.join("\n")))).await;
    let mut distinct = own.clone();
    distinct.sort();
    distinct.dedup();
    // An own address that is also private is rejected as private.
    let count = |reason: &str| report.rejected.get(reason).copied().unwrap_or(0);
    let left_out = count("an address of this host") + count("private or special range");
    assert_eq!(left_out, distinct.len() as u64, "{report:?}");
    assert_eq!((report.reason.as_str(), report.indicators), ("", 20));
    let set = feed.intel.set().load_full();
    assert!(own.iter().all(|address| !covers(&set, address)), "{own:?}");
}

#[tokio::test]
async fn a_million_entries_with_one_id_are_one_indicator() {
    let feed = TestFeed::list().await;
    let head = format!("HTTP/1.1 200 OK\r\n\r\n{}", with(""));
    let thousand = "203.0.113.7\n".repeat(1000);
    feed.server.serve_repeated(head.as_bytes(), (thousand.as_bytes(), 1000), b"");
    let report = feed.pull().await;
    assert_eq!((report.reason.as_str(), report.indicators), ("", 21));
    assert_eq!((counts(&report), report.duplicates), (BTreeMap::new(), 999_999));
}

#[tokio::test]
async fn a_line_of_a_hundred_megabytes_is_one_reject() {
    let feed = TestFeed::list().await;
    let head = format!("HTTP/1.1 200 OK\r\n\r\n{}", with(""));
    let tail = b"\n203.0.113.7\n";
    feed.server.serve_repeated(head.as_bytes(), (vec![b'1'; 1 << 20].as_slice(), 100), tail);
    let report = feed.pull().await;
    assert_eq!((report.reason.as_str(), report.indicators), ("", 21));
    assert_eq!(counts(&report), BTreeMap::from([("line too long", 1)]));
}

/// Ids of a megabyte, and texts with terminal control sequences, for every kind.
#[tokio::test]
async fn long_ids_and_hostile_texts_stay_harmless() {
    const HOSTILE: &str = "\u{1b}]0;x\u{7}\u{1b}[2J\r\n\u{202e}\u{0}<script>";
    for (kind, change) in json_kinds() {
        let feed = TestFeed::of(kind, change).await;
        let mut entries: Vec<Value> =
            (1..=GOOD).map(|number| samples::entry(&feed.config, number)).collect();
        for id in ["x".repeat(1 << 20), HOSTILE.repeat(60_000), HOSTILE.to_owned()] {
            let mut entry = samples::entry(&feed.config, GOOD);
            entry[samples::id_key(kind)] = json!(id);
            entries.push(entry);
        }
        for key in ["description", "comment", "scenario", "Description", "malware", "type"] {
            entries[0][key] =
                json!(if key == "type" { entries[0][key].clone() } else { json!(HOSTILE) });
        }
        let texts: Vec<String> = entries.iter().map(Value::to_string).collect();
        let report = feed.pull_body(samples::document(&feed.config, &texts)).await;
        assert_eq!(report.reason, "", "{kind:?}");
        // An entry with a short hostile id is still an indicator, except in a list, where the id
        // has to be an address.
        let expected = if kind == FeedKind::List { GOOD } else { GOOD + 1 };
        assert_eq!(report.indicators, u64::from(expected), "{kind:?}: {:?}", report.rejected);
        let rejected: u64 = report.rejected.values().sum();
        assert!(rejected >= 2, "{kind:?}: {:?}", report.rejected);
        let longest = report.rejects.iter().map(|it| it.text.len() + it.reason.len()).max();
        assert!(longest < Some(4096), "{kind:?}: {longest:?}");
        let text = feeds_view(&[report], at());
        let control = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!text.contains(control), "{kind:?}: {text:?}");
        let set = feed.intel.set().load_full();
        assert!((1..=GOOD).all(|number| covers(&set, &address(number))), "{kind:?}");
    }
}

/// Alternatives that multiply, very many parentheses, and a pattern of a megabyte.
#[tokio::test]
async fn patterns_that_explode_are_rejected() {
    let feed = TestFeed::of(FeedKind::Stix, |_| {}).await;
    let either = "(ipv4-addr:value = '203.0.113.7' OR network-traffic:dst_port = 443)";
    let patterns = [
        format!("[{}]", [either; 40].join(" AND ")),
        format!("{}[ipv4-addr:value = '203.0.113.7']{}", "(".repeat(9999), ")".repeat(9999)),
        format!("[{}", "(".repeat(1 << 19)),
        format!("[{}]", vec!["ipv4-addr:value = '203.0.113.7'"; 40_000].join(" OR ")),
        "[ipv4-addr:value = '203.0.113.7".to_owned(),
        format!("[ipv4-addr:value MATCHES '{}']", "(a*)*".repeat(1000)),
    ];
    let good = (1..=GOOD).map(|number| samples::entry(&feed.config, number));
    let bad = (100..).zip(&patterns).map(|(number, pattern)| {
        let mut object = samples::entry(&feed.config, number);
        object["pattern"] = json!(pattern);
        object
    });
    let texts: Vec<String> = good.chain(bad).map(|it| it.to_string()).collect();
    let report = feed.pull_body(samples::document(&feed.config, &texts)).await;
    assert_eq!((report.reason.as_str(), report.indicators), ("", 20), "{:?}", report.rejected);
    assert_eq!(report.rejected["pattern cannot be read"], 5, "{:?}", report.rejects);
    let reasons: Vec<&str> = report.rejects.iter().map(|it| it.reason.as_str()).collect();
    let errors =
        ["too many alternatives", "nested too deeply", "more than 1048576 bytes", "without end"];
    for error in errors {
        assert!(reasons.iter().any(|it| it.contains(error)), "{error}: {reasons:?}");
    }
    feed.assert_holds("patterns");
}
