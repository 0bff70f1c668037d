//! Items that sinks reject permanently.

use std::sync::Arc;

use super::super::dead_letters::{
    DeadLetters, dead_letter_files, dead_letter_sinks, read_dead_letters,
};
use super::TestClock;
use crate::base::counters::Stats;
use crate::base::progress::Progress;

fn ids(dir: &std::path::Path, sink: &str) -> Vec<String> {
    let mut ids = Vec::new();
    for path in dead_letter_files(dir, sink) {
        read_dead_letters(&path, &Progress::hidden(), |item| ids.push(item.unwrap().id)).unwrap();
    }
    ids
}

#[test]
fn items_are_saved_one_per_line_with_their_reason() {
    let folder = tempfile::tempdir().unwrap();
    let stats = Arc::<Stats>::default();
    let rejected = DeadLetters::new(folder.path(), Arc::new(TestClock::new()), Arc::clone(&stats));
    assert!(dead_letter_sinks(folder.path()).unwrap().is_empty());
    rejected.add("siem", "400: bad \u{1b}[31m\n", "one", "{\"a\":\n1}");
    rejected.add("siem", &"x".repeat(5000), "two\n", "CEF:0|no JSON\n");
    rejected.add("../up", "why", "three", "{}");
    assert_eq!(dead_letter_sinks(folder.path()).unwrap(), [".._up", "siem"]);
    assert_eq!(ids(folder.path(), "siem"), ["one", "two\n"]);
    assert_eq!(stats.items_dead_lettered.value(), 3);
    let path = &dead_letter_files(folder.path(), "siem")[0];
    let text = std::fs::read_to_string(path).unwrap();
    let first = text.lines().next().unwrap();
    assert_eq!(
        first,
        r#"{"Time":"2027-01-15T08:00:00Z","Sink":"siem","Reason":"400: bad \\u{1b}[31m\\n","Id":"one","Item":{"a": 1}}"#
    );
    assert!(text.lines().nth(1).unwrap().contains(r#""Item":"CEF:0|no JSON\n""#), "{text}");
    assert!(text.len() < 2000);
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!((mode(path) & 0o777, mode(path.parent().unwrap()) & 0o777), (0o600, 0o700));
}

#[test]
fn a_sink_has_at_most_two_files() {
    let folder = tempfile::tempdir().unwrap();
    let rejected = DeadLetters::new(folder.path(), Arc::new(TestClock::new()), Arc::default());
    let item = format!("\"{}\"", "x".repeat(1 << 20));
    for number in 0..40 {
        rejected.add("siem", "413", &number.to_string(), &item);
    }
    let files = dead_letter_files(folder.path(), "siem");
    assert_eq!(files.len(), 2);
    for file in &files {
        assert!(std::fs::metadata(file).unwrap().len() <= 16 << 20);
    }
    let ids = ids(folder.path(), "siem");
    assert_eq!((ids.first().unwrap().as_str(), ids.last().unwrap().as_str()), ("15", "39"));
}
