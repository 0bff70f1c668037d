//! The log with a datagram socket instead of journald's, and a manual clock.

mod rate_limit;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tracing_subscriber::Registry;

use super::line::LINE_MAX;
use super::*;

/// A clock that the test moves.
#[derive(Debug, Default)]
struct ManualClock(Mutex<SignedDuration>);

impl ManualClock {
    fn forward(&self, seconds: i64) {
        *self.0.lock().unwrap() += SignedDuration::from_secs(seconds);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let start: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        start + *self.0.lock().unwrap()
    }
}

/// Captured standard error.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Bench {
    clock: Arc<ManualClock>,
    stderr: Captured,
    logger: Arc<Logger>,
}

impl Bench {
    /// A log without a rate limit.
    fn new(journal: Option<Journal>) -> Self {
        Self::limited(journal, u64::MAX)
    }

    fn limited(journal: Option<Journal>, lines: u64) -> Self {
        let (clock, stderr) = (Arc::new(ManualClock::default()), Captured::default());
        let output = LogOutput::new(journal, Box::new(stderr.clone()));
        let logger = Arc::new(Logger::new(output, lines, Arc::<ManualClock>::clone(&clock)));
        Self { clock, stderr, logger }
    }

    fn logs(&self, work: impl FnOnce()) {
        let subscriber = Registry::default().with(LogLayer(Arc::clone(&self.logger)));
        tracing::subscriber::with_default(subscriber, work);
    }

    fn poll(&self) {
        self.logger.poll();
    }

    fn flush(&self) {
        self.logger.flush();
    }

    /// Returns the lines since the last call, without their times.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.stderr.0.lock().unwrap())).unwrap();
        text.lines().map(|line| line.split_once('Z').unwrap().1.trim().to_owned()).collect()
    }
}

/// One log statement.
fn sink_down(name: &str) {
    tracing::error!(sink = name, "sink down");
}

#[test]
fn a_line_has_time_level_message_and_fields() {
    let bench = Bench::new(None);
    bench.logs(|| tracing::warn!(count = 3, name = "a b", path = %"/x", "queue full"));
    let text = String::from_utf8(bench.stderr.0.lock().unwrap().clone()).unwrap();
    let line = "2026-11-24T10:00:00.000000Z  WARN queue full count=3 name=\"a b\" path=/x\n";
    assert_eq!(text, line);
}

#[test]
fn the_first_line_is_logged_at_once_and_its_repeats_once_with_their_number() {
    let bench = Bench::new(None);
    bench.logs(|| (0..1000).for_each(|_| sink_down("siem")));
    assert_eq!(bench.lines(), [r#"ERROR sink down sink="siem""#]);
    bench.clock.forward(9);
    bench.poll();
    assert!(bench.lines().is_empty());
    bench.clock.forward(1);
    bench.poll();
    assert_eq!(bench.lines(), [r#"ERROR sink down sink="siem" (repeated 999 times)"#]);
    // While it continues: once in ten seconds.
    bench.logs(|| sink_down("siem"));
    assert!(bench.lines().is_empty());
    bench.clock.forward(10);
    bench.poll();
    assert_eq!(bench.lines(), [r#"ERROR sink down sink="siem" (repeated once)"#]);
    // After it has stopped, the next line is a first line.
    bench.clock.forward(10);
    bench.poll();
    bench.logs(|| sink_down("siem"));
    assert_eq!(bench.lines(), [r#"ERROR sink down sink="siem""#]);
}

#[test]
fn another_statement_message_or_value_is_another_line() {
    let bench = Bench::new(None);
    bench.logs(|| {
        sink_down("siem");
        sink_down("lake");
        tracing::error!(sink = "siem", "sink down");
    });
    assert_eq!(bench.lines().len(), 3);
}

#[test]
fn the_end_and_a_full_table_flush_repeats() {
    let bench = Bench::new(None);
    let names: Vec<String> = (0..repeats::LINES_MAX).map(|number| number.to_string()).collect();
    bench.logs(|| {
        sink_down("first");
        sink_down("first");
        for name in &names {
            sink_down(name);
        }
    });
    let lines = bench.lines();
    assert_eq!(lines.len(), repeats::LINES_MAX + 2, "all first lines, and one repeat");
    assert!(lines.contains(&r#"ERROR sink down sink="first" (repeated once)"#.to_owned()));
    bench.logs(|| sink_down("7"));
    assert!(bench.lines().is_empty());
    bench.flush();
    assert_eq!(bench.lines(), [r#"ERROR sink down sink="7" (repeated once)"#]);
}

#[test]
fn after_the_clock_is_set_back_lines_are_logged_at_once() {
    let bench = Bench::new(None);
    bench.logs(|| sink_down("siem"));
    bench.clock.forward(-3600);
    bench.logs(|| sink_down("siem"));
    assert_eq!(bench.lines().len(), 2);
}

#[test]
fn hostile_text_stays_on_its_line() {
    let bench = Bench::new(None);
    let name = "x\n2026-11-24T10:00:00Z ERROR forged\u{1b}[31m\u{202e}\u{2028}\r\0";
    bench.logs(|| {
        let message = format!("seen {name}");
        tracing::warn!(message, text = name, shown = %name, debug = ?name);
    });
    let text = String::from_utf8(bench.stderr.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    assert!(text.ends_with('\n'));
    for bad in ['\u{1b}', '\u{202e}', '\u{2028}', '\r', '\0'] {
        assert!(!text.contains(bad), "{bad:?} in {text:?}");
    }
    assert!(text.contains("seen x\\n2026-11-24T10:00:00Z ERROR forged\\u{1b}[31m\\u{202e}"));
}

#[test]
fn a_long_line_is_truncated_and_logged() {
    let bench = Bench::new(None);
    let long = "\u{202e}".repeat(LINE_MAX);
    bench.logs(|| tracing::warn!(long, "message"));
    let line = bench.lines().pop().unwrap();
    assert!(line.starts_with("WARN message long=\"\\u{202e}") && line.ends_with('…'));
    assert!(line.len() < LINE_MAX + 30, "{}", line.len());
}

/// The fields of a datagram of journald's protocol.
fn fields(datagram: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut rest = datagram;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
        let name = String::from_utf8(rest[..end].to_vec()).unwrap();
        let length = u64::from_le_bytes(rest[end + 1..end + 9].try_into().unwrap());
        let value = &rest[end + 9..][..usize::try_from(length).unwrap()];
        assert_eq!(rest[end + 9 + value.len()], b'\n');
        fields.insert(name, String::from_utf8(value.to_vec()).unwrap());
        rest = &rest[end + 10 + value.len()..];
    }
    fields
}

/// A socket like journald's, and a connection to it.
fn journald(folder: &TempDir) -> (UnixDatagram, Journal) {
    let path = folder.path().join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    (socket, Journal::open(path).unwrap())
}

fn receive(socket: &UnixDatagram) -> Option<BTreeMap<String, String>> {
    let mut buffer = vec![0; 256 << 10];
    let length = socket.recv(&mut buffer).ok()?;
    Some(fields(&buffer[..length]))
}

#[test]
fn the_journal_gets_message_priority_and_fields() {
    let folder = TempDir::new().unwrap();
    let (socket, journal) = journald(&folder);
    let bench = Bench::new(Some(journal));
    bench.logs(|| {
        for _ in 0..3 {
            tracing::error!(sink = "si\nem", count = 7, "sink down");
        }
        tracing::info!("started");
    });
    let first = receive(&socket).unwrap();
    assert_eq!(first["MESSAGE"], r#"sink down sink="si\nem" count=7"#);
    assert_eq!(first["PRIORITY"], "3");
    assert_eq!(first["SYSLOG_IDENTIFIER"], "netsensor");
    assert_eq!((&*first["NETSENSOR_SINK"], &*first["NETSENSOR_COUNT"]), ("si\\nem", "7"));
    assert!(first["CODE_FILE"].ends_with("log/tests/mod.rs") && first.contains_key("CODE_LINE"));
    assert!(!first.contains_key("NETSENSOR_REPEATED"));
    assert_eq!(receive(&socket).unwrap()["PRIORITY"], "6");
    bench.flush();
    let repeats = receive(&socket).unwrap();
    assert_eq!(repeats["NETSENSOR_REPEATED"], "2");
    assert!(repeats["MESSAGE"].ends_with("(repeated 2 times)"));
    assert!(bench.lines().is_empty(), "also on standard error");
}

#[test]
fn the_longest_line_arrives_complete() {
    let folder = TempDir::new().unwrap();
    let (socket, journal) = journald(&folder);
    let bench = Bench::new(Some(journal));
    let long = "\u{1b}".repeat(LINE_MAX);
    bench.logs(|| tracing::warn!(message = long, a = long, b = long, c = %long));
    let line = receive(&socket).unwrap();
    assert!(line["MESSAGE"].len() >= LINE_MAX && line["NETSENSOR_A"].len() >= LINE_MAX);
}

#[test]
fn a_journal_that_does_not_read_loses_counted_lines_and_blocks_nothing() {
    let folder = TempDir::new().unwrap();
    let (socket, journal) = journald(&folder);
    let bench = Bench::new(Some(journal));
    // Far more than the socket's buffer: a blocking send would never return.
    bench.logs(|| (0..20_000).for_each(|number| sink_down(&number.to_string())));
    let mut arrived = 0;
    while receive(&socket).is_some() {
        arrived += 1;
    }
    assert!(arrived > 0 && arrived < 20_000, "{arrived}");
    bench.logs(|| sink_down("after"));
    assert_eq!(receive(&socket).unwrap()["NETSENSOR_SINK"], "after");
    assert_eq!(receive(&socket).unwrap()["NETSENSOR_LOST"], (20_000 - arrived).to_string());
    let stats = Stats::default();
    bench.logger.count_dropped(&stats);
    assert_eq!(stats.log_lines_dropped_journal.value(), 20_000 - arrived);
    assert!(bench.lines().is_empty());
}

#[test]
fn without_a_journal_lines_go_to_standard_error() {
    let folder = TempDir::new().unwrap();
    let (socket, journal) = journald(&folder);
    assert!(journal.is_listening());
    let bench = Bench::new(Some(journal));
    drop(socket);
    bench.logs(|| sink_down("closed"));
    std::fs::remove_file(folder.path().join("socket")).unwrap();
    bench.logs(|| sink_down("removed"));
    assert_eq!(bench.lines().len(), 2);
    let (socket, another) = journald(&folder);
    assert!(another.is_listening());
    assert!(receive(&socket).unwrap().is_empty());
    bench.logs(|| sink_down("again"));
    assert_eq!(receive(&socket).unwrap()["NETSENSOR_SINK"], "again");
    assert!(bench.lines().is_empty());
}

#[test]
fn standard_error_is_the_journal_if_journal_stream_identifies_it() {
    let file = tempfile::tempfile().unwrap();
    let meta = file.metadata().unwrap();
    let is = |variable: &str| journal::is_journal(Some(OsStr::new(variable)), &file);
    assert!(is(&format!("{}:{}", meta.dev(), meta.ino())));
    assert!(!is(&format!("{}:{}", meta.dev(), meta.ino() + 1)));
    assert!(!is(&format!("{}:{}", meta.dev() + 1, meta.ino())));
    assert!(!is("") && !is("8") && !is(":") && !is("a:b"));
    assert!(!journal::is_journal(None, &file));
}

#[test]
fn an_invalid_filter_is_refused() {
    let error = parse("a=b=c").unwrap_err().to_string();
    assert!(error.starts_with("\"a=b=c\" is not a log filter; use one such as"), "{error}");
    parse("warn,sensor_user=debug").unwrap();
}

#[test]
fn a_word_alone_is_a_level() {
    for filter in
        ["info", "WARN", "off", "3", "warn,sensor_user=debug", "sensor_user::agent=trace", "info,"]
    {
        assert_eq!(check_filter(filter), Ok(()), "{filter}");
    }
    for (filter, reason) in [
        ("lowd", "\"lowd\" is not a level: error, warn, info, debug, trace or off"),
        (
            "warn,sensor_user",
            "\"sensor_user\" is not a level: error, warn, info, debug, trace or off",
        ),
        ("debug, in fo", "\"in fo\" is not a level"),
        (" ", "it is empty"),
    ] {
        let error = check_filter(filter).unwrap_err();
        assert!(error.contains(reason) && error.ends_with("\"warn,sensor_user=debug\""), "{error}");
    }
}

#[test]
fn the_nats_client_is_logged_only_if_the_filter_names_it() {
    for (filter, is_off) in [
        ("info", true),
        ("warn,sensor_user=debug", true),
        ("info,async_nats=debug", false),
        ("async_nats=debug,info", false),
    ] {
        let text = parse(filter).unwrap().to_string();
        assert_eq!(text.contains("async_nats=off"), is_off, "{text}");
        assert_eq!(text.contains("async_nats=debug"), !is_off, "{text}");
    }
}
