//! Throughput of the feed readers: a million entries each, from memory, without a merge into a set.
//!
//! `cargo bench -p sensor-tests --bench feed_readers`. Without cargo's `--bench` argument it reads
//! a thousand, as a smoke test.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark: it prints or stops")]

use std::fmt::Write as _;

use jiff::Timestamp;
use sensor_user::intel::{
    EntrySink, FeedEntry, ListFormat, PrefixPolicy, ReadPolicy, RejectReason, preset,
    read_crowdsec, read_list, read_misp, read_rows,
};

/// Counts entries and drops them.
#[derive(Default)]
struct EntryCounter {
    accepted: u64,
    rejected: u64,
}

impl EntrySink for EntryCounter {
    fn push(&mut self, _entry: FeedEntry) {
        self.accepted += 1;
    }

    fn reject(&mut self, _position: u64, _reason: RejectReason, _text: &str) {
        self.rejected += 1;
    }
}

fn main() {
    let plain = document("", "", |text, ip| writeln!(text, "{ip}"));
    measure("plain list", &plain, |body, policy, found| {
        read_list(body, &ListFormat::default(), policy, 1, found).unwrap()
    });
    let head = "first_seen_utc,dst_ip,dst_port,c2_status,last_online,malware\n";
    let csv = document(head, "", |text, ip| {
        writeln!(text, "\"2026-10-01 09:12:33\",\"{ip}\",\"443\",\"online\",\"2026-11-24\",\"X\"")
    });
    measure("CSV", &csv, |body, policy, found| {
        read_list(body, &preset("feodo-csv").unwrap(), policy, 1, found).unwrap()
    });
    let json = document("[{}", "]", |text, ip| {
        write!(
            text,
            ",{{\"ip_address\":\"{ip}\",\"port\":443,\"status\":\"online\",\"malware\":\"X\"}}"
        )
    });
    measure("JSON", &json, |body, policy, found| {
        read_list(body, &preset("feodo").unwrap(), policy, 1, found).unwrap()
    });
    let rows = document("", "", |text, ip| {
        writeln!(
            text,
            "{{\"IndicatorId\":\"indicator--{ip}\",\"TimeGenerated\":\"2026-11-24T00:00:00Z\",\
             \"ExpirationDateTime\":\"2026-12-24T00:00:00Z\",\"Active\":true,\"NetworkIP\":\"{ip}\",\
             \"Description\":\"a C2 server of a botnet\",\"ThreatType\":\"C2\",\"ConfidenceScore\":80}}"
        )
    });
    measure("rows", &rows, |body, policy, found| read_rows(body, policy, 1, found).unwrap());
    let misp = document("{\"response\":{\"Attribute\":[{}", "]}}", |text, ip| {
        write!(
            text,
            ",{{\"id\":\"7\",\"event_id\":\"1\",\"category\":\"Network activity\",\"type\":\"ip-dst\",\
             \"to_ids\":true,\"uuid\":\"{ip}\",\"timestamp\":\"1795514400\",\"comment\":\"\",\
             \"deleted\":false,\"value\":\"{ip}\",\"Event\":{{\"uuid\":\"e\",\"info\":\"i\"}}}}"
        )
    });
    measure("MISP", &misp, |body, policy, found| read_misp(body, policy, 1, found).unwrap());
    let decisions = document("{\"new\":[{}", "],\"deleted\":null}", |text, ip| {
        write!(
            text,
            ",{{\"id\":1,\"uuid\":\"{ip}\",\"origin\":\"CAPI\",\"type\":\"ban\",\"scope\":\"Ip\",\
             \"value\":\"{ip}\",\"duration\":\"3h59m57.64s\",\"scenario\":\"x/ssh-bf\"}}"
        )
    });
    measure("CrowdSec", &decisions, |body, policy, found| {
        read_crowdsec(body, policy, 1, found).unwrap()
    });
}

fn document(
    head: &str,
    tail: &str,
    entry: impl Fn(&mut String, std::net::Ipv4Addr) -> std::fmt::Result,
) -> String {
    let mut text = head.to_owned();
    let full = std::env::args().any(|argument| argument == "--bench");
    let count = if full { 1_000_000 } else { 1000 };
    for number in 0..count {
        entry(&mut text, std::net::Ipv4Addr::from(0x2000_0000 + number)).unwrap();
    }
    text + tail
}

fn measure(name: &str, text: &str, read: impl Fn(&[u8], &ReadPolicy, &mut EntryCounter) -> u64) {
    let policy = ReadPolicy {
        prefixes: PrefixPolicy::default(),
        min_confidence: None,
        now: "2026-11-24T12:00:00Z".parse().unwrap(),
        oldest: Timestamp::MIN,
    };
    let mut found = EntryCounter::default();
    let started = tokio::time::Instant::now();
    let positions = read(text.as_bytes(), &policy, &mut found);
    let elapsed = started.elapsed().as_secs_f64();
    let EntryCounter { accepted, rejected } = found;
    println!(
        "{name}: {accepted} accepted, {rejected} rejected, of {positions} positions and {} MB in {elapsed:.2} s",
        text.len() / 1_000_000
    );
}
