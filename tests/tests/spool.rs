//! `netsensor spool`: the built agent on a spool that the library has written.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use sensor_tests::{agent_command, run_on_pty, sample_alert, skip_unless};
use sensor_user::base::clock::{Clock, FixedClock, SystemClock};
use sensor_user::base::counters::Stats;
use sensor_user::deliver::spool::{
    BatchLimit, Commit, DeadLetters, DedupState, Spool, SpoolConfig,
};
use sensor_user::telemetry::control::AgentLock;

const SINKS: [&str; 2] = ["siem", "file"];
const LIMIT: Duration = Duration::from_secs(30);

fn open(state: &Path, clock: Arc<dyn Clock>) -> Spool {
    let sinks = SINKS.map(str::to_owned);
    let (dir, stats) = (state.join("spool"), Arc::<Stats>::default());
    Spool::open(&dir, &SpoolConfig::USUAL, &sinks, clock, &stats).unwrap().0
}

/// Fills a spool with one alert per second of `seconds`.
fn fill(state: &Path, seconds: std::ops::Range<i64>) {
    for second in seconds {
        let spool = open(state, Arc::new(at(second)));
        let alerts = vec![Arc::new(sample_alert(&format!("alert {second}")))];
        spool.put(Commit { alerts, state: Some(DedupState::Snapshot(vec![0; 100])) });
        assert!(spool.close(LIMIT));
    }
}

fn at(second: i64) -> FixedClock {
    FixedClock(Timestamp::from_second(1_900_000_000 + second).unwrap())
}

/// Ids of the alerts that wait for `sink`; acknowledges all of them if `acknowledge`.
async fn waiting(state: &Path, sink: &str, acknowledge: bool) -> Vec<String> {
    let spool = open(state, Arc::new(SystemClock));
    let mut reader = spool.reader(sink).unwrap();
    let mut ids = Vec::new();
    while reader.has_more() {
        let stored = reader.next_batch(BatchLimit { alerts: 100, bytes: 1 << 20 }).await;
        ids.extend(stored.iter().map(|it| it.alert.alert_id.clone()));
        if acknowledge {
            reader.acknowledge(stored.last().unwrap().sequence + 1);
        }
    }
    assert!(spool.close(LIMIT));
    ids
}

fn netsensor(state: &Path, arguments: &[&str]) -> (i32, String, String) {
    let arguments = [&["spool"], arguments, &["--state", state.to_str().unwrap()]].concat();
    let Output { status, stdout, stderr } = agent_command(state, &arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn segment(state: &Path) -> PathBuf {
    let entries =
        std::fs::read_dir(state.join("spool")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|it| it == "log")).max().unwrap()
}

#[tokio::test]
async fn list_shows_segments_sinks_and_rejected_items() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    fill(state, 0..3);
    assert_eq!(waiting(state, "siem", true).await.len(), 3);
    let rejected = DeadLetters::new(&state.join("spool"), Arc::new(at(9)), Arc::default());
    rejected.add("file", "400: \u{1b}[31m", "x", "not JSON");
    let (status, text, errors) = netsensor(state, &["list"]);
    assert_eq!((status, errors.as_str()), (0, ""));
    let name = segment(state).file_name().unwrap().to_str().unwrap().to_owned();
    let bytes = segment(state).metadata().unwrap().len();
    for line in [
        format!(
            "segment     {name}: 3 alerts, 1 to 3, {bytes} bytes, from 2030-03-17T17:46:40Z to \
             2030-03-17T17:46:42Z\n"
        ),
        format!("all         1 segments, 3 alerts, {bytes} bytes\n"),
        "sink        siem: 0 alerts pending, from number 4 on\n".to_owned(),
        "sink        file: 3 alerts pending, from number 1 on\n".to_owned(),
        "rejected    file: 1 items in the dead-letter file\n".to_owned(),
    ] {
        assert!(text.contains(&line), "{line}{text}");
    }
    let (status, _, errors) = netsensor(&state.join("none"), &["list"]);
    assert_eq!(status, 1);
    assert!(errors.contains("none/spool: No such file"), "{errors}");
}

#[tokio::test]
async fn verify_finds_missing_segments_with_the_number_of_their_alerts() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    let config = SpoolConfig { segment_bytes: 4096, ..SpoolConfig::USUAL };
    let sinks = SINKS.map(str::to_owned);
    let spool =
        Spool::open(&state.join("spool"), &config, &sinks, Arc::new(at(0)), &Arc::default());
    let spool = spool.unwrap().0;
    for number in 0..20 {
        let alerts = vec![Arc::new(sample_alert(&format!("alert {number}")))];
        spool.put(Commit { alerts, state: Some(DedupState::Snapshot(vec![0; 100])) });
        assert!(spool.flush(LIMIT));
    }
    assert!(spool.close(LIMIT));
    let entries =
        std::fs::read_dir(state.join("spool")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|it| it == "log")).collect();
    segments.sort();
    let first = |path: &Path| -> u64 {
        let name = path.file_stem().unwrap().to_str().unwrap();
        name.split_once('-').unwrap().0.parse().unwrap()
    };
    let (gone, next) = (&segments[1], &segments[2]);
    let numbers = first(gone)..first(next);
    std::fs::remove_file(gone).unwrap();
    let (status, text, _) = netsensor(state, &["verify"]);
    let expected = format!(
        "{}:0: segments before it are missing, with {} alerts that were not delivered to every sink, \
         numbers {} to {}; restore the files, or find out what removed them\n",
        next.display(),
        numbers.end - numbers.start,
        numbers.start,
        numbers.end - 1
    );
    assert_eq!((status, text), (1, expected));
    // The others are delivered.
    let left = waiting(state, "siem", false).await;
    assert_eq!(left.len() as u64, 20 - (numbers.end - numbers.start));
}

#[tokio::test]
async fn verify_reports_damage_with_its_offset_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    fill(state, 0..3);
    let (status, text, _) = netsensor(state, &["verify"]);
    let dir = state.join("spool");
    assert_eq!((status, text), (0, format!("{}: good, 3 commits\n", dir.display())));
    let path = segment(state);
    let whole = std::fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    bytes[200] ^= 1;
    bytes.truncate(whole.len() - 1);
    std::fs::write(&path, &bytes).unwrap();
    let (status, text, _) = netsensor(state, &["verify"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((status, lines.len()), (1, 2), "{text}");
    let location = path.display();
    assert!(
        lines[0].starts_with(&format!("{location}:32: frame checksum does not match; ")),
        "{text}"
    );
    assert!(lines[1].starts_with(&format!("{location}:")), "{text}");
    assert!(lines[1].contains(": frame is truncated; the last "), "{text}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    // The agent continues with the intact commits.
    assert_eq!(waiting(state, "siem", false).await, ["alert 1"]);
}

#[tokio::test]
async fn replay_moves_the_cursor_of_one_sink_back() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    fill(state, 0..5);
    for sink in SINKS {
        assert_eq!(waiting(state, sink, true).await.len(), 5);
    }
    let from = at(3).0.to_string();
    let (status, text, errors) = netsensor(state, &["replay", "--sink", "siem", "--from", &from]);
    assert_eq!((status, errors.as_str()), (0, ""));
    assert_eq!(text, "sink siem receives 2 alerts at the next start, from number 4 on\n");
    assert_eq!(waiting(state, "siem", true).await, ["alert 3", "alert 4"]);
    assert!(waiting(state, "file", false).await.is_empty());
    assert_eq!(netsensor(state, &["replay", "--sink", "file"]).0, 0);
    assert_eq!(waiting(state, "file", false).await.len(), 5);
    let (status, _, errors) = netsensor(state, &["replay", "--sink", "fil\u{1b}"]);
    assert_eq!(status, 1);
    assert!(errors.contains("sink \"fil\\u{1b}\": has no cursor in "), "{errors}");
    assert!(errors.contains("known sinks: siem, file"), "{errors}");
}

#[tokio::test]
async fn replay_appends_rejected_alerts_to_the_spool() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    fill(state, 0..1);
    let rejected = DeadLetters::new(&state.join("spool"), Arc::new(at(9)), Arc::default());
    for id in ["first", "second"] {
        rejected.add("siem", "400", id, &serde_json::to_string(&sample_alert(id)).unwrap());
    }
    rejected.add("siem", "400", "row", "{\"Type\":\"VMConnection\"}");
    let (status, text, errors) = netsensor(state, &["replay", "--sink", "siem", "--rejected"]);
    assert_eq!((status, errors.as_str()), (0, ""), "{text}");
    assert!(
        text.starts_with("2 alerts that sink siem rejected are in the spool again; 1 other items")
    );
    for sink in SINKS {
        assert_eq!(waiting(state, sink, false).await, ["alert 0", "first", "second"]);
    }
    let left = std::fs::read_to_string(state.join("spool/rejected/siem.jsonl")).unwrap();
    assert_eq!(left.lines().count(), 1);
    assert!(left.contains("\"Id\":\"row\""), "{left}");
    let (_, text, _) = netsensor(state, &["replay", "--sink", "siem", "--rejected"]);
    assert!(text.starts_with("0 alerts"), "{text}");
}

#[test]
fn a_terminal_shows_progress_and_a_pipe_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    fill(state, 0..3);
    let rejected = DeadLetters::new(&state.join("spool"), Arc::new(at(9)), Arc::default());
    rejected.add("siem", "400", "first", &serde_json::to_string(&sample_alert("first")).unwrap());
    let terminal_output = |words: &[&str], variable: (&str, &str)| {
        let words = [&["spool"], words, &["--state", state.to_str().unwrap()]].concat();
        let (output, terminal_output) = run_on_pty(agent_command(state, &words), variable);
        assert_eq!(output.status.code(), Some(0), "{terminal_output}");
        terminal_output
    };
    let commands = [&["verify"][..], &["list"], &["replay", "--sink", "siem"]];
    let rejected = ["replay", "--sink", "siem", "--rejected"];
    for words in commands.iter().chain([&&rejected[..]]) {
        let text = terminal_output(words, ("LANG", "C"));
        assert!(text.contains("\u{1b}[") && text.contains(" left"), "no bar: {words:?} {text:?}");
        assert!(text.ends_with("\u{1b}[2K"), "removed at the end: {words:?} {text:?}");
    }
    let hidden_progress = [&["verify", "--quiet"][..], &["list", "--quiet"]];
    for words in hidden_progress {
        assert_eq!(terminal_output(words, ("LANG", "C")), "");
    }
    for words in commands {
        for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            assert_eq!(terminal_output(words, variable), "");
        }
        let (status, _, piped) = netsensor(state, words);
        assert_eq!((status, piped.as_str()), (0, ""));
    }
}

#[test]
fn replay_is_refused_while_an_agent_runs() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    fill(state, 0..1);
    let _agent = AgentLock::acquire(&state.join("netsensor.sock")).unwrap();
    let (status, _, errors) = netsensor(state, &["replay", "--sink", "siem"]);
    assert_eq!(status, 1);
    let message = format!("another netsensor (process {}) is running", std::process::id());
    assert!(errors.contains(&message), "{errors}");
    assert_eq!(netsensor(state, &["list"]).0, 0);
}

/// Runs in a child process (this test, started again), which is killed.
#[tokio::test]
async fn a_killed_process_leaves_every_alert_it_reported_written() {
    const CHILD: &str = "NETSENSOR_TEST_SPOOL";
    if let Some(state) = std::env::var_os(CHILD) {
        let spool = open(Path::new(&state), Arc::new(SystemClock));
        for id in 0_u64.. {
            let state = DedupState::Change(id.to_le_bytes().to_vec());
            let state = if id % 10 == 0 { DedupState::Snapshot(vec![1; 500]) } else { state };
            let alerts = vec![Arc::new(sample_alert(&id.to_string()))];
            let number = spool.put(Commit { alerts, state: Some(state) });
            while spool.last_written() < number {
                tokio::task::yield_now().await;
            }
            println!("\nwritten {id}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    let name = "a_killed_process_leaves_every_alert_it_reported_written";
    let mut next = 0;
    for _round in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", name])
            .env(CHILD, state)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut written = 0;
        for line in lines {
            let Some(id) = line.strip_prefix("written ") else { continue };
            written = id.parse().unwrap();
            if written == 50 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(written >= 50, "{written}");
        let ids = waiting(state, "siem", true).await;
        let ids: Vec<u64> = ids.iter().map(|id| id.parse().unwrap()).collect();
        assert_eq!(ids[..=written], (0..=written as u64).collect::<Vec<_>>());
        assert!(ids.len() <= written + 2, "one more may be there");
        next += ids.len();
        let (status, text, _) = netsensor(state, &["list"]);
        assert_eq!(status, 0);
        assert!(
            text.contains(&format!("siem: 0 alerts pending, from number {} on", next + 1)),
            "{text}"
        );
    }
}

/// Mounts a tmpfs of one MiB at `path`, in a mount namespace of this thread and its children.
fn small_disk(path: &Path) -> bool {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| {
            mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some("size=1m,mode=700"))
        })
        .is_ok()
}

/// Polls until `fits`, for at most ten seconds.
async fn until(what: &str, fits: impl Fn() -> bool) {
    for _attempt in 0..1000 {
        if fits() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(fits(), "{what}");
}

#[tokio::test]
async fn a_full_or_read_only_disk_loses_nothing_and_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    if skip_unless(small_disk(state), "mounting needs root") {
        return;
    }
    let spool = open(state, Arc::new(SystemClock));
    let put = |ids: std::ops::Range<usize>| {
        let alerts = ids.map(|id| Arc::new(sample_alert(&id.to_string()))).collect();
        spool.put(Commit { alerts, state: None })
    };
    let mut reader = spool.reader("siem").unwrap();
    let first = put(0..10);
    until("the disk takes it", || spool.last_written() >= first).await;
    let filler = state.join("filler");
    let full = std::fs::write(&filler, vec![0; 2 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    // More than the free space of the segment.
    put(10..310);
    until("a write error", || spool.status().error.is_some()).await;
    let error = spool.status().error.unwrap();
    assert!(error.contains(": No space left on device; free space 0 MiB; alerts are"), "{error}");
    let mut ids = Vec::new();
    while ids.len() < 310 {
        let stored = reader.next_batch(BatchLimit { alerts: 1000, bytes: 1 << 20 }).await;
        ids.extend(stored.iter().map(|it| it.alert.alert_id.parse::<usize>().unwrap()));
    }
    assert_eq!(ids, (0..310).collect::<Vec<_>>(), "all are readable");
    std::fs::remove_file(&filler).unwrap();
    until("it works again", || spool.status().error.is_none()).await;
    assert!(spool.close(LIMIT));
    drop((reader, spool));
    remount(state, MsFlags::MS_RDONLY);
    let spool = open(state, Arc::new(SystemClock));
    let error = spool.status().error.unwrap();
    assert!(error.contains("Read-only file system"), "{error}");
    let last = spool.put(Commit { alerts: vec![Arc::new(sample_alert("310"))], state: None });
    let mut reader = spool.reader("siem").unwrap();
    let mut count = 0;
    while count < 311 {
        count += reader.next_batch(BatchLimit { alerts: 1000, bytes: 1 << 20 }).await.len();
    }
    remount(state, MsFlags::empty());
    until("it is written", || spool.last_written() >= last && spool.status().error.is_none()).await;
    assert!(spool.close(LIMIT));
    drop((reader, spool));
    assert_eq!(waiting(state, "siem", false).await.len(), 311);
}

fn remount(path: &Path, flags: MsFlags) {
    let flags = flags | MsFlags::MS_REMOUNT;
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>).unwrap();
}
