//! Tests of the configuration file. Every message is a contract with the operator.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Config, ConfigError};
use crate::base::environment::Environment;
use crate::deliver::SinkKind;
use crate::intel::{FeedKind, FeedSource};
use crate::telemetry::metrics::Listen;

const EXAMPLE: &str = include_str!("../../../examples/netsensor.toml");

fn environment() -> Environment {
    Environment { home: Some("/home/user".into()), ..Environment::default() }
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/n.toml"), &environment())
}

/// The messages, without the path.
pub(super) fn problems(text: &str) -> Vec<String> {
    let error = parse(text).expect_err("a problem");
    error.to_string().lines().map(|line| line.replacen("/etc/n.toml:", "", 1)).collect()
}

/// Configurations with one mistake, and its report.
const MISTAKES: &[(&str, &str)] = &[
    (
        "[agent]\nstate_dir = 'here'",
        "2: agent.state_dir: \"here\" is not absolute; use an absolute path in quotes",
    ),
    ("[agent]\ncomputer = 5", "2: agent.computer: 5 is a number; use text in quotes"),
    (
        "[agent]\nlog = 'a=b=c'",
        "2: agent.log: \"a=b=c\" is not a log filter (error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5); use one such as \"info\" or \"warn,sensor_user=debug\"",
    ),
    (
        "[capture]\nring_bytes = 100000",
        "2: capture.ring_bytes: 100000B is not a power of two; use 64KiB, 128KiB and so on",
    ),
    (
        "[capture]\nring_bytes = '32KiB'",
        "2: capture.ring_bytes: \"32KiB\" is out of range; use 64KiB to 1GiB",
    ),
    (
        "[capture]\nring_bytes = '8MB'",
        "2: capture.ring_bytes: \"8MB\" is not a size; use a size such as \"64KiB\", \"8MiB\" or \"1GiB\", or a number of bytes",
    ),
    (
        "[capture]\nring_bytes = true",
        "2: capture.ring_bytes: true is a truth value; use a size such as \"64KiB\", \"8MiB\" or \"1GiB\", or a number of bytes",
    ),
    (
        "[capture]\nscan_interval = '500ms'",
        "2: capture.scan_interval: \"500ms\" is out of range; use 1s to 1h",
    ),
    (
        "\n[allow]\nnetworks = ['::/0',\n '10.0.0.0/33']",
        "4: allow.networks[1]: \"10.0.0.0/33\" is not a network such as 10.0.0.0/8",
    ),
    (
        "[allow]\nnetworks = '10.0.0.0/8'",
        "2: allow.networks: is not a list; use a list of networks in quotes in [ ]",
    ),
    (
        "[allow]\nfiles = ['lists']",
        "2: allow.files[0]: \"lists\" is not absolute; use an absolute path in quotes",
    ),
    (
        "[allow]\nnetworks = [10]",
        "2: allow.networks[0]: 10 is a number; use a network in quotes such as \"10.0.0.0/8\"",
    ),
    (
        "[dedup]\nwindow = '1 our'",
        "2: dedup.window: \"1 our\" is not a duration (unknown time unit \"our\", supported units: ns, us/µs, ms, sec, min, hours, days, weeks, months, years (and few variations)); use one such as \"30s\", \"5m\" or \"1h 30m\"",
    ),
    (
        "[dedup]\nwindow = 3600",
        "2: dedup.window: 3600 is a number; use a duration in quotes such as \"30s\", \"5m\" or \"1h 30m\"",
    ),
    ("[dedup]\nwindow = '8d'", "2: dedup.window: \"8d\" is out of range; use 1s to 7d"),
    (
        "[dedup]\nmax_keys = -1",
        "2: dedup.max_keys: -1 is out of range; use a whole number from 1 to 10000000",
    ),
    ("[rows]\nenabled = 'yes'", "2: rows.enabled: \"yes\" is text; use true or false"),
    ("[rows]\nenabeld = true", "2: rows: unknown key \"enabeld\"; did you mean \"enabled\"?"),
    ("[processes]\nlimit = 5", "2: processes: unknown key \"limit\"; known are max"),
    ("[[feeds]]\nname = 'a'", "1: unknown section \"feeds\"; did you mean \"feed\"?"),
    ("[feed]\nname = 'a'", "1: feed: is not a list of sections; write [[feed]]"),
    ("[[dedup]]\nwindow = '1h'", "1: dedup: is not a section; write [dedup] on a line"),
    ("a = = 1", "1: not TOML: extra `=`, expected nothing"),
    ("[dedup]\nmax_keys = 1\nmax_keys = 2", "3: not TOML: duplicate key"),
];

#[test]
fn the_example_is_accepted() {
    let config = parse(EXAMPLE).unwrap();
    assert_eq!(config.agent.state_dir, Path::new("/var/lib/netsensor"));
    assert_eq!(config.agent.computer.as_deref(), Some("web01.example.net"));
    assert_eq!(config.capture.ring_bytes, 4 << 20);
    let [example, rows, columns, ..] = &config.feeds[..] else { panic!("{:?}", config.feeds) };
    assert_eq!(example.source, FeedSource::File("/etc/indicators.txt".into()));
    assert_eq!((example.kind, rows.kind), (FeedKind::List, FeedKind::Sentinel));
    assert_eq!(columns.access.secrets().len(), 3);
    let kinds: Vec<FeedKind> = config.feeds.iter().skip(3).map(|feed| feed.kind).collect();
    let others = [
        FeedKind::Stix,
        FeedKind::Taxii2,
        FeedKind::Misp,
        FeedKind::CrowdSec,
        FeedKind::SentinelQuery,
    ];
    assert_eq!(kinds, others);
    assert_eq!(config.allow.networks.len(), 2);
    let [collector, gateway, partner, .., archive, tables, siem, bus, _west] = &config.sinks[..]
    else {
        panic!("{:?}", config.sinks)
    };
    let kinds: Vec<&str> = EXAMPLE.split("\n[[sink]]\n").skip(1).map(kind_of).collect();
    let others = [
        "azure",
        "azure",
        "splunk",
        "elasticsearch",
        "otlp",
        "file",
        "parquet",
        "syslog",
        "nats",
        "nats",
    ];
    assert_eq!(kinds, [&["http"; 3][..], &others].concat());
    let (SinkKind::Http(gateway), SinkKind::Http(partner)) = (&gateway.kind, &partner.kind) else {
        panic!("{gateway:?} {partner:?}")
    };
    assert!(gateway.server.compress && !partner.server.compress);
    assert_eq!(gateway.server.access.secrets().len(), 3);
    assert_eq!(partner.server.access.secrets().len(), 1);
    assert!(collector.alerts && collector.rows && archive.alerts && !archive.rows);
    assert!(matches!(&collector.kind, SinkKind::Http(http) if !http.lines));
    assert!(!tables.alerts && tables.rows && matches!(&tables.kind, SinkKind::Parquet(_)));
    assert!(matches!(&siem.kind, SinkKind::Syslog(syslog) if syslog.tls.is_some()));
    assert!(matches!(&bus.kind, SinkKind::Nats(nats) if nats.create_stream.is_some()));
}

fn kind_of(section: &str) -> &str {
    section.split("\nkind = \"").nth(1).unwrap().split('"').next().unwrap()
}

#[test]
fn the_values_shown_in_the_example_are_the_defaults() {
    let shown = parse(EXAMPLE).unwrap();
    let bare = parse("[[feed]]\nname='example'\nkind='list'\nurl='file:indicators.txt'").unwrap();
    assert_eq!(shown.feeds[0], bare.feeds[0]);
    assert_eq!(shown.dedup, bare.dedup);
    assert_eq!(shown.rows, bare.rows);
    assert_eq!(shown.capture.ring_bytes, bare.capture.ring_bytes);
    assert_eq!(shown.capture.scan_interval, bare.capture.scan_interval);
    assert_eq!(shown.agent.log, bare.agent.log);
    assert_eq!(
        (shown.max_connections, shown.max_processes),
        (bare.max_connections, bare.max_processes)
    );
    let sink = parse("[[sink]]\nname='collector'\nkind='http'\ntakes=['alerts','rows']\nurl='https://collector.example.net/netsensor'").unwrap();
    assert_eq!(shown.sinks[0], sink.sinks[0]);
    let sink =
        parse("[[sink]]\nname='tables'\nkind='parquet'\npath='/var/lib/netsensor/rows'").unwrap();
    assert_eq!(shown.sinks.iter().find(|sink| sink.name == "tables"), sink.sinks.first());
}

#[test]
fn without_a_file_the_example_indicators_alert_to_the_terminal() {
    let config = Config::embedded("/s".into()).unwrap();
    assert_eq!(config.agent.state_dir, Path::new("/s"));
    assert!(matches!(&config.feeds[..], [feed] if matches!(feed.source, FeedSource::Embedded(_))));
    let kinds: Vec<_> = config.sinks.iter().map(|sink| &sink.kind).collect();
    assert_eq!(kinds, [&SinkKind::Stdout, &SinkKind::Console]);
    assert!(config.sinks.iter().all(|sink| sink.alerts && !sink.rows));
}

#[test]
fn each_mistake_is_reported_with_its_line_value_and_remedy() {
    for (text, message) in MISTAKES {
        assert_eq!(problems(text), [*message], "{text}");
    }
}

#[test]
fn a_renamed_key_is_refused_with_its_new_name() {
    let cases = [
        (
            "[capture]\nlook_every = '1m'",
            "2: capture.look_every: was renamed; use capture.scan_interval",
        ),
        ("[geo]\ndatabase = '/x'", "1: section \"geo\" was renamed; use [geoip]"),
        (
            "[[feed]]\nname = 'a'\nkind = 'taxii2'\nurl = 'https://h/t/'\nfull_every = '2h'",
            "5: feed.full_every: was renamed; use feed.full_refresh_interval",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(problems(text), [message], "{text}");
    }
}

#[test]
fn a_feed_needs_a_name_a_kind_and_a_source() {
    let feed =
        |more: &str| format!("\n\n[[feed]]\nname = 'a'\nkind = 'list'\nurl = 'file:x'\n{more}");
    parse(&feed("")).unwrap();
    let cases = [
        (
            feed("intervall = '1h'"),
            "7: feed: unknown key \"intervall\"; did you mean \"interval\"?",
        ),
        (
            feed("min_prefix_v4 = 33"),
            "7: feed.min_prefix_v4: 33 is out of range; use a whole number from 0 to 32",
        ),
        (
            feed("[[feed]]\nname = 'a'\nkind = 'list'\nurl = 'file:y'"),
            "8: feed.name: \"a\" is taken by line 4; use another name",
        ),
        (
            "[[feed]]\nkind = 'list'\nurl = 'file:x'".into(),
            "1: feed.name: is missing; set it to a short unique name",
        ),
        (
            "[[feed]]\nname = 'a b'\nkind = 'list'\nurl = 'file:x'".into(),
            "2: feed.name: \"a b\" is not a name; use 1 to 64 letters, digits, -, _ or . in quotes",
        ),
        (
            "[[feed]]\nname = 'a'\nkind = 'taxii'\nurl = 'file:x'".into(),
            "3: feed.kind: \"taxii\" is not known here; use \"list\" or \"sentinel\" or \"stix\" or \"taxii2\" or \"misp\" or \"crowdsec\"",
        ),
        (
            "[[feed]]\nname = 'a'\nkind = 'list'\nurl = 'ftp://u:secret@h/'".into(),
            "4: feed.url: has scheme ftp; use \"file:PATH\" or an http: or https: URL",
        ),
        (
            "[[feed]]\nname = 'a'\nkind = 'list'\nurl = 'http://u:secret@h/'".into(),
            "4: feed.url: holds a user name or password; leave it out, secrets must not be in this file: set user, and password = { file = \"/path\" }",
        ),
        (
            "[[feed]]\nname = 'a'\nkind = 'list'\nurl = 'list.txt'".into(),
            "4: feed.url: is not a URL (relative URL without a base); use \"file:PATH\" or an http: or https: URL",
        ),
        (
            "[[feed]]\nname = 'a'\nkind = 'list'\nurl = 'file://host/x'".into(),
            "4: feed.url: \"file://host/x\" names a host; use file:/absolute/path or file:relative",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(problems(&text), [message], "{text}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_file() {
    let found = problems("[rows]\nenabled = 1\n[dedup]\nmax_keys = 0\n[agent]\nlog = 1\n[nope]");
    let lines: Vec<_> = found.iter().map(|problem| problem.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["2", "4", "6", "7"], "{found:?}");
}

#[test]
fn feed_files_are_relative_to_the_configuration() {
    for (url, path) in [
        ("file:x/y.txt", "/etc/x/y.txt"),
        ("file:/abs.txt", "/abs.txt"),
        ("file:///abs.txt", "/abs.txt"),
    ] {
        let config = parse(&format!("[[feed]]\nname='a'\nkind='list'\nurl='{url}'")).unwrap();
        assert_eq!(config.feeds[0].source, FeedSource::File(path.into()), "{url}");
    }
}

#[test]
fn values_are_taken_as_written() {
    let config = parse(
        "[capture]\nring_bytes = 0x10000\n[dedup]\nmax_keys = 12_000\nwindow = '1h 30m'\n[allow]\nnetworks = ['10.1.2.3/8', '::1']\nfiles = ['/etc/allowed.txt']",
    )
    .unwrap();
    assert_eq!(config.capture.ring_bytes, 65536);
    assert_eq!(config.dedup.window, Duration::from_mins(90));
    assert_eq!(config.dedup.max_keys, 12_000);
    let allowed: Vec<_> = config.allow.networks.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["10.0.0.0/8", "::1/128"]);
    assert_eq!(config.allow.files, [Path::new("/etc/allowed.txt")]);
}

#[test]
fn the_state_directory_follows_the_environment() {
    let of = |state: Option<&str>, xdg: Option<&str>, home: Option<&str>| Environment {
        state_directory: state.map(Into::into),
        xdg_state_home: xdg.map(Into::into),
        home: home.map(Into::into),
        ..Environment::default()
    };
    for (environment, dir) in [
        (of(Some("/var/lib/n:/other"), Some("/x"), Some("/h")), Some("/var/lib/n")),
        (of(None, Some("/x"), Some("/h")), Some("/x/netsensor")),
        (of(None, Some("relative"), Some("/h")), Some("/h/.local/state/netsensor")),
        (of(None, None, None), None),
    ] {
        assert_eq!(environment.state_dir(), dir.map(PathBuf::from), "{environment:?}");
    }
}

#[test]
fn a_file_that_cannot_be_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let load = |name: &str| Config::load(&dir.path().join(name), &environment());
    assert!(matches!(load("absent"), Err(ConfigError::Read { .. })));
    std::fs::write(dir.path().join("large"), vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(matches!(load("large"), Err(ConfigError::TooLarge { .. })));
    std::fs::write(dir.path().join("binary"), [0xff, 0xfe]).unwrap();
    assert!(matches!(load("binary"), Err(ConfigError::Read { .. })));
}

#[test]
fn the_example_shows_every_key() {
    // The only key that is commented out, since it has no default.
    let text = EXAMPLE.replace("# object = ", "object = ");
    // What only some builds have is commented out, without the space that prose has.
    let shown = text.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.is_empty() && !key.starts_with(' ') => key,
        _ => line,
    });
    let document: toml::Table = shown.collect::<Vec<_>>().join("\n").parse().unwrap();
    let mut keys = BTreeMap::<&str, BTreeSet<String>>::new();
    for section in super::declarations() {
        let names = section.keys.iter().map(|key| key.name.to_owned());
        keys.entry(section.section).or_default().extend(names);
    }
    for (section, keys) in keys {
        let shown: BTreeSet<String> = match &document[section] {
            toml::Value::Array(all) => {
                all.iter().flat_map(|one| one.as_table().unwrap().keys().cloned()).collect()
            }
            one => one.as_table().unwrap().keys().cloned().collect(),
        };
        assert_eq!(shown, keys, "[{section}]");
    }
}

#[test]
fn metrics_stay_on_this_host() {
    assert_eq!(parse("").unwrap().metrics, None);
    let config = parse("[metrics]\nlisten = \"unix:/run/n/m.sock\"\ngroup = \"prometheus\"\n");
    let metrics = config.unwrap().metrics.unwrap();
    assert_eq!(metrics.listen, Listen::Unix("/run/n/m.sock".into()));
    assert_eq!(metrics.group.as_deref(), Some("prometheus"));
    for loopback in ["127.0.0.1:9477", "127.9.9.9:1", "[::1]:9477", "[::ffff:127.0.0.1]:9"] {
        let config = parse(&format!("[metrics]\nlisten = \"{loopback}\"\n")).unwrap();
        let listen = Listen::Loopback(loopback.parse().unwrap());
        assert_eq!(config.metrics.unwrap().listen, listen);
    }
    for (listen, why) in [
        ("0.0.0.0:9477", "is not a loopback address, and metrics are sent without encryption"),
        ("[::]:9477", "is not a loopback address"),
        ("192.0.2.1:9477", "is not a loopback address"),
        ("127.0.0.1:0", "has no port"),
        ("127.0.0.1", "is not an address with a port"),
        ("localhost:9477", "is not an address with a port"),
        ("unix:m.sock", "is not absolute"),
    ] {
        let error = parse(&format!("[metrics]\nlisten = \"{listen}\"\n")).unwrap_err().to_string();
        assert!(error.starts_with("/etc/n.toml:2: metrics.listen: "), "{error}");
        assert!(error.contains(why), "{error}");
    }
    let error =
        parse("[metrics]\nlisten = \"127.0.0.1:1\"\ngroup = \"a\"\n").unwrap_err().to_string();
    assert!(error.contains("metrics.group: has no meaning"), "{error}");
}

proptest::proptest! {
    /// Any text gives a configuration, or problems in lines that exist.
    #[test]
    fn any_text_is_read_or_refused(
        at in 0..EXAMPLE.len(),
        removed in 0..200_usize,
        put in proptest::string::string_regex("[ -~\n\u{e9}]{0,12}").unwrap(),
    ) {
        let mut text = EXAMPLE.as_bytes().to_vec();
        text.splice(at..(at + removed).min(EXAMPLE.len()), put.bytes());
        let text = String::from_utf8_lossy(&text).into_owned();
        if let Err(error) = parse(&text) {
            let ConfigError::Invalid { problems, .. } = error else { panic!("{error}") };
            proptest::prop_assert!(!problems.is_empty());
            for problem in problems {
                let lines = text.lines().count() + 1;
                proptest::prop_assert!((1..=lines).contains(&problem.line), "{problem:?}");
            }
        }
    }
}
