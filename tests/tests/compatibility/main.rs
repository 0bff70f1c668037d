//! Suite `compatibility`: the state that an earlier build wrote is read by this one.
//!
//! `tests/fixtures/state-v1` holds a state directory, that build's reports about it, and a recording
//! with the output of its replay; the README lists them. Expected values come from these files only.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

mod detection;
mod run;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sensor_tests::{Collector, RunningSinks, ScriptedResponse, agent_command};
use sensor_user::base::clock::FixedClock;
use sensor_user::deliver::spool::SpoolConfig;
use sensor_user::deliver::{HttpConfig, SinkConfig, SinkKind};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;

/// The feeds of the fixture: name, kind and URL path. A saved set is found by its name, and used only
/// if kind and URL are the same.
const FEEDS: [(&str, &str, &str); 6] = [
    ("plain", "list", "list.txt"),
    ("bundle", "stix", "bundle.json"),
    ("events", "misp", "misp/manifest.json"),
    ("collections", "taxii2", "taxii2/"),
    ("decisions", "crowdsec", ""),
    ("rows", "sentinel", "rows.jsonl"),
];
/// The address of the server of all feeds.
const SERVER: &str = "127.0.0.1:18080";
/// The sinks of the fixture, in the order of its cursors.
const SINKS: [&str; 3] = ["webhook", "strict", "file"];
/// Retains the alerts of the fixture for ten years, the maximum.
const KEEP: &str = "[spool]\nmax_age = \"3650d\"\n";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/state-v1").join(name)
}

/// The lines of a JSON-lines file of the fixture.
fn lines(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fixture(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A value of the earlier build's report about its state, by JSON pointer.
fn fact<T: DeserializeOwned>(pointer: &str) -> T {
    let text = std::fs::read_to_string(fixture("expected/facts.json")).unwrap();
    let facts: Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(facts.pointer(pointer).unwrap().clone()).unwrap()
}

/// The time at which the run that wrote the state ended.
fn written() -> Timestamp {
    fact("/at")
}

fn ids(alerts: &[Value]) -> Vec<String> {
    alerts.iter().map(|alert| alert["AlertId"].as_str().unwrap().to_owned()).collect()
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

/// A copy of the fixture's state, with a configuration.
struct State {
    folder: TempDir,
}

impl State {
    fn new() -> Self {
        Self::configured("")
    }

    /// `more` is further text of the configuration.
    fn configured(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = Self { folder };
        copy(&fixture("state"), &state.path());
        let token = state.folder.path().join("token");
        std::fs::write(&token, "key of a bouncer\n").unwrap();
        let token = format!("token = {{ file = \"{}\" }}\n", token.display());
        let feeds = FEEDS.map(|(name, kind, path)| {
            let token = if kind == "crowdsec" { &*token } else { "" };
            let url = format!("http://{SERVER}/{path}");
            format!("[[feed]]\nname = \"{name}\"\nkind = \"{kind}\"\nurl = \"{url}\"\n{token}")
        });
        let text = format!(
            "[agent]\ncomputer = \"web01.example.net\"\nstate_dir = \"{}\"\n{KEEP}{more}\n{}",
            state.path().display(),
            feeds.concat()
        );
        std::fs::write(state.config(), text).unwrap();
        state
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("netsensor.toml")
    }

    /// Standard output of `netsensor words --config FILE`, which succeeds.
    fn netsensor(&self, words: &[&str]) -> String {
        let config = self.config();
        let words = [words, &["--config", config.to_str().unwrap()]].concat();
        let output = agent_command(self.folder.path(), &words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The ids of the alerts delivered to each of these sinks. All sinks of the fixture run, since the
    /// spool drops the cursors of others.
    fn delivered<const N: usize>(self, names: [&str; N]) -> [Vec<String>; N] {
        let collectors = SINKS.map(|_| Collector::start(|_, _| ScriptedResponse::OK));
        let sinks: Vec<SinkConfig> = SINKS
            .iter()
            .zip(&collectors)
            .map(|(name, collector)| {
                let url = collector.url().parse().unwrap();
                SinkConfig::new((*name).to_owned(), SinkKind::Http(HttpConfig::new(url)))
            })
            .collect();
        let spool = tempfile::tempdir().unwrap();
        copy(&self.path().join("spool"), spool.path());
        let clock = FixedClock(written());
        let running = RunningSinks::start_in(spool, &SpoolConfig::USUAL, &sinks, clock);
        let (_, left) = running.drain();
        assert_eq!(left, []);
        names.map(|name| {
            let (_, collector) =
                SINKS.iter().zip(&collectors).find(|(it, _)| **it == name).unwrap();
            collector.accepted_ids()
        })
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The integers that follow `name` in each line of `text`.
fn numbers(text: &str, name: &str) -> Vec<Vec<u64>> {
    let behind = |line: &str| {
        let (_, rest) = line.split_once(&format!(" {name}: "))?;
        let words = rest.split(|c: char| !c.is_ascii_alphanumeric());
        Some(words.filter_map(|word| word.parse().ok()).collect())
    };
    text.lines().filter_map(behind).collect()
}

#[test]
fn the_spool_is_listed_and_has_no_damage() {
    let state = State::new();
    let text = state.netsensor(&["spool", "list"]);
    for kind in ["segments", "sinks", "rejected"] {
        let expected: BTreeMap<String, Vec<u64>> = fact(&format!("/spool/{kind}"));
        for (name, expected) in expected {
            let found = numbers(&text, &name);
            assert!(
                found.iter().any(|it| it.starts_with(&expected)),
                "{name} {expected:?}\n{text}"
            );
        }
    }
    let text = state.netsensor(&["spool", "verify"]);
    let commits: u64 = fact("/spool/commits");
    assert!(text.ends_with(&format!("{commits} commits\n")), "{text}");
}

#[test]
fn pending_alerts_are_delivered_with_their_ids() {
    let [webhook, strict, file] = State::new().delivered(SINKS);
    assert_eq!(webhook, ids(&lines("expected/alerts.jsonl")));
    assert_eq!((strict, file), (Vec::new(), Vec::new()), "both have all alerts already");
}

#[test]
fn replayed_and_rejected_alerts_are_delivered_with_their_ids() {
    let state = State::new();
    state.netsensor(&["spool", "replay", "--sink", "strict"]);
    let [strict, file] = state.delivered(["strict", "file"]);
    assert_eq!(strict, ids(&lines("expected/alerts.jsonl")));
    assert_eq!(file, Vec::<String>::new());

    let state = State::new();
    state.netsensor(&["spool", "replay", "--sink", "strict", "--rejected"]);
    let rejected = lines("state/spool/rejected/strict.jsonl");
    let rejected: Vec<Value> = rejected.into_iter().map(|mut it| it["Item"].take()).collect();
    let refused: u64 = fact("/spool/rejected/strict/0");
    assert_eq!(rejected.len() as u64, refused);
    let [strict] = state.delivered(["strict"]);
    assert_eq!(strict, ids(&rejected));
}

#[test]
fn saved_feeds_are_known_without_a_pull() {
    let state = State::new();
    let expected: BTreeMap<String, Vec<Value>> = fact("/explain");
    assert!(expected.values().any(|found| !found.is_empty()));
    let at = written().to_string();
    let later = "2326-12-01T00:00:00Z";
    for (address, found) in expected {
        let text = state.netsensor(&["explain", &address, "--at", &at]);
        let count = format!("{address}: {} ", found.len());
        assert!(text.starts_with(&count), "{count:?}\n{text}");
        let mut rest = text.lines().skip(1);
        for indicator in &found {
            let part = |name: &str| indicator[name].as_str().unwrap();
            let named = format!("{} {}", part("Prefix"), part("IndicatorId"));
            let fits = |line: &&str| {
                line.starts_with(&format!("feed {} ", part("Feed"))) && line.ends_with(&named)
            };
            assert!(rest.by_ref().any(|line| fits(&line)), "{named}\n{text}");
            assert!(rest.by_ref().any(|line| line.trim() == part("Verdict")), "{named}\n{text}");
        }
        // Each indicator keeps its expiry.
        let text = state.netsensor(&["explain", &address, "--at", later]);
        let is_live = |line: &str| line.trim().starts_with("would alert");
        assert!(!text.lines().any(is_live), "{text}");
    }
}

/// A line without the columns that were added since, which come last.
fn without_later_columns(line: &str) -> String {
    match line.split_once(",\"CommunityId\":\"") {
        Some((earlier, id)) => {
            assert!(id == "\"}" || id.starts_with("1:") && id.ends_with("=\"}"), "{line}");
            format!("{earlier}}}")
        }
        None => line.to_owned(),
    }
}

#[test]
fn a_replay_gives_the_same_bytes() {
    let out = tempfile::tempdir().unwrap();
    let file = |name: &str| out.path().join(name).to_str().unwrap().to_owned();
    let at = std::fs::read_to_string(fixture("replay/at.txt")).unwrap();
    let (live, rows, at_out) = (file("live.jsonl"), file("rows.jsonl"), file("at.jsonl"));
    let indicators = ["--indicators", "list.txt", "bundle.json", "event.json"];
    let modes: [&[&str]; 2] = [
        &["--live", "--out", &live, "--rows", &rows, "--connections", "recorded.jsonl"],
        &["--at", at.trim_end(), "--out", &at_out, "--connections", "rows.jsonl"],
    ];
    for mode in modes {
        let words = [&["replay"], mode, &indicators].concat();
        let output =
            agent_command(out.path(), &words).current_dir(fixture("replay")).output().unwrap();
        // 3: the list has a malformed entry.
        assert_eq!(output.status.code(), Some(3), "{output:?}");
    }
    for name in ["live.jsonl", "rows.jsonl", "at.jsonl"] {
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let (new, old) = (read(&out.path().join(name)), read(&fixture("replay").join(name)));
        let lines: Vec<String> = new.lines().map(without_later_columns).collect();
        let new = lines.join("\n") + "\n";
        for (new, old) in new.lines().zip(old.lines()) {
            assert_eq!(new, old, "{name}");
        }
        assert_eq!(new, old, "{name}");
    }
}
