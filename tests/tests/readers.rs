//! Feed readers on documents in their publishers' formats. For real documents, independent programs
//! count the contents too.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sensor_tests::{python_with, run_oracle, skip_unless};
use sensor_user::intel::{
    CollectedEntries, EntryContent, Indicator, PRESETS, PrefixPolicy, ReadPolicy, preset,
    read_allowed, read_list, read_misp,
};

fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder)
}

fn open(path: &Path) -> BufReader<File> {
    BufReader::new(File::open(path).unwrap())
}

fn policy(prefixes: PrefixPolicy) -> ReadPolicy {
    let now = "2026-11-24T12:00:00Z".parse().unwrap();
    ReadPolicy { prefixes, min_confidence: None, now, oldest: Timestamp::MIN }
}

/// All indicators of a list's sample, and the number of entries without an indicator.
fn sample(file: &str, preset_name: &str) -> (Vec<Indicator>, usize) {
    let path = fixtures("lists").join(file);
    let format = preset(preset_name).unwrap();
    let mut found = CollectedEntries::default();
    let read = read_list(open(&path), &format, &policy(PrefixPolicy::default()), 1, &mut found);
    assert!(read.unwrap() > 0, "{file}");
    let malformed = found.rejects.malformed();
    assert_eq!(malformed, 0, "{file}: {:?}", found.rejects);
    let mut others = usize::try_from(found.rejects.total()).unwrap();
    let mut all = Vec::new();
    for entry in found.entries {
        match entry.content {
            EntryContent::Indicators(of_entry) => all.extend(of_entry),
            EntryContent::Removed(_) => others += 1,
        }
    }
    (all, others)
}

/// Preset, sample file, indicator ids, number of other entries; then threat type, description, link
/// and confidence of the first indicator.
type Expected =
    (&'static str, &'static str, &'static [&'static str], usize, [&'static str; 3], Option<f64>);

const C2: &str = "C2";
const THREATFOX: [&str; 3] =
    ["botnet_cc", "Cobalt Strike", "https://threatfox.abuse.ch/ioc/1000001/"];

const SAMPLES: [Expected; 13] = [
    (
        "feodo",
        "feodo.json",
        &["203.0.113.10/32:443", "203.0.113.10/32:8080"],
        0,
        [C2, "Emotet", "https://feodotracker.abuse.ch/browse/host/203.0.113.10/"],
        None,
    ),
    (
        "feodo-csv",
        "feodo-csv.csv",
        &["203.0.113.10/32:443", "203.0.113.11/32:8080"],
        0,
        [C2, "Emotet", "https://feodotracker.abuse.ch/browse/host/203.0.113.10/"],
        None,
    ),
    (
        "feodo-txt",
        "feodo-txt.txt",
        &["203.0.113.10/32", "203.0.113.11/32"],
        0,
        [C2, "Botnet C2 server (Feodo Tracker)", "https://feodotracker.abuse.ch/"],
        None,
    ),
    ("threatfox", "threatfox.json", &["1000001", "1000003"], 1, THREATFOX, Some(100.0)),
    ("threatfox", "threatfox-export.json", &["1000001"], 1, THREATFOX, Some(100.0)),
    ("threatfox-csv", "threatfox-csv.csv", &["1000001"], 1, THREATFOX, Some(100.0)),
    (
        "sslbl",
        "sslbl.csv",
        &["203.0.113.30/32:443", "203.0.113.31/32:4444"],
        0,
        [C2, "Botnet C2 server with a known certificate (SSLBL)", "https://sslbl.abuse.ch/"],
        None,
    ),
    (
        "spamhaus-drop",
        "spamhaus-drop.json",
        &["198.51.100.0/24", "2001:db8:bad::/48"],
        0,
        [
            "Malicious",
            "Network to drop (Spamhaus DROP)",
            "https://check.spamhaus.org/sbl/query/SBL123456",
        ],
        None,
    ),
    (
        "spamhaus-drop-txt",
        "spamhaus-drop-txt.txt",
        &["198.51.100.0/24", "203.0.113.128/25"],
        0,
        ["Malicious", "Network to drop (Spamhaus DROP)", "https://www.spamhaus.org/drop/"],
        None,
    ),
    (
        "firehol",
        "firehol.netset",
        &["198.51.100.0/24", "203.0.113.40/32"],
        1,
        ["Malicious", "Listed by FireHOL", "https://iplists.firehol.org/"],
        None,
    ),
    (
        "emerging-threats",
        "emerging-threats.txt",
        &["203.0.113.50/32", "198.51.100.64/26"],
        0,
        [
            "Compromised",
            "Compromised or hostile host (Emerging Threats)",
            "https://rules.emergingthreats.net/",
        ],
        None,
    ),
    (
        "dshield",
        "dshield.txt",
        &["198.51.100.0/24", "203.0.113.0/24"],
        0,
        ["Scanner", "Network that attacks most (DShield)", "https://www.dshield.org/block.txt"],
        None,
    ),
    (
        "otx",
        "otx.json",
        &["4000000001", "4000000004"],
        2,
        ["", "C2 server", "https://otx.alienvault.com/pulse/65f000000000000000000001"],
        None,
    ),
];

#[test]
fn each_preset_reads_its_sample() {
    for (name, file, ids, others, [threat_type, description, url], confidence) in SAMPLES {
        let (found, rejected) = sample(file, name);
        let found_ids: Vec<&str> = found.iter().map(|it| it.id.as_str()).collect();
        assert_eq!((found_ids.as_slice(), rejected), (ids, others), "{file}");
        let first = found.first().unwrap();
        assert_eq!(first.threat_type, threat_type, "{file}");
        assert_eq!(first.description, description, "{file}");
        assert_eq!(first.url, url, "{file}");
        assert_eq!(first.confidence, confidence, "{file}");
    }
    for name in PRESETS {
        assert!(SAMPLES.iter().any(|sample| sample.0 == name), "{name} has a sample");
    }
}

#[test]
fn samples_have_first_reported_time_and_tags() {
    let (feodo, _) = sample("feodo.json", "feodo");
    assert_eq!(feodo[0].first_reported, "2026-10-01T09:12:33Z".parse().ok());
    assert_eq!(feodo[0].additional_information, "tags: online; last seen: 2026-11-24");
    let (export, _) = sample("threatfox-export.json", "threatfox");
    assert_eq!(export[0].entity, "203.0.113.20");
    assert_eq!((export[0].ports.remote[0].first, export[0].ports.remote[0].last), (443, 443));
    assert_eq!(export[0].additional_information, "tags: CobaltStrike,cs");
    let (csv, _) = sample("threatfox-csv.csv", "threatfox-csv");
    assert_eq!(csv[0].first_reported, "2026-11-23T08:00:00Z".parse().ok());
    let (otx, _) = sample("otx.json", "otx");
    assert_eq!((&*otx[1].description, &*otx[1].tlp_level), ("A campaign", "green"));
}

/// For each file the UUID, address and port of each indicator.
type Addresses = BTreeMap<String, Vec<(String, String, Option<u16>)>>;

#[test]
fn all_addresses_of_real_misp_events_are_read() {
    let every = PrefixPolicy { allow_private: true, min_v4: 0, min_v6: 0 };
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(fixtures("misp")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == "json"));
    paths.sort();
    let mut own = Addresses::new();
    for path in &paths {
        let mut found = CollectedEntries::default();
        read_misp(open(path), &policy(every), 1, &mut found).unwrap();
        assert_eq!(found.rejects.total(), 0, "{}", path.display());
        let group = &found.entries[0].group;
        let mut of_file = Vec::new();
        for entry in &found.entries {
            assert_eq!(&entry.group, group, "{}", path.display());
            let EntryContent::Indicators(of_entry) = &entry.content else { continue };
            for it in of_entry {
                assert_eq!(it.tlp_level, "white");
                assert!(["Network activity", "Payload delivery"].contains(&&*it.threat_type));
                let port = it.ports.remote.first().map(|range| range.first);
                of_file.push((entry.id.clone(), it.entity.clone(), port));
            }
        }
        of_file.sort();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        own.insert(name, of_file);
    }
    // The counts of PyMISP 2.5.34.4, from tests/oracles/misp_addresses.py.
    let counts: Vec<(&str, usize)> =
        own.iter().map(|(name, found)| (name.as_str(), found.len())).collect();
    assert_eq!(
        counts,
        [
            ("fallchill.json", 93),
            ("four-element-sword.json", 8),
            ("jrat.json", 2),
            ("qakbot-emotet.json", 43),
            ("sednit.json", 12),
            ("sunorcal.json", 2),
        ]
    );
    let python = python_with("pymisp");
    if skip_unless(python.is_some(), "no Python with the package pymisp") {
        return;
    }
    let expected: Addresses = run_oracle(&python.unwrap(), "misp_addresses.py", &paths);
    assert_eq!(own, expected);
}

#[derive(Debug, serde::Deserialize)]
struct OracleCounts {
    folder: PathBuf,
    lists: usize,
    cidr: usize,
    string: usize,
    left: u64,
}

#[test]
fn the_real_warning_lists_are_read_completely() {
    let python = python_with("pymispwarninglists");
    if skip_unless(python.is_some(), "no Python with the package pymispwarninglists") {
        return;
    }
    let none: [&str; 0] = [];
    let expected: OracleCounts = run_oracle(&python.unwrap(), "warninglists.py", none);
    let own = read_allowed(std::slice::from_ref(&expected.folder)).unwrap();
    assert!(expected.cidr > 100_000, "{expected:?}");
    assert_eq!(own.files, expected.lists);
    assert_eq!(own.networks.len(), expected.cidr + expected.string);
    assert_eq!(own.skipped, expected.left);
}
