//! Pulls of several documents of which one cannot be read, and lists without any entry.

use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::intel::address::PrefixPolicy;
use crate::intel::formats::list::ListShape;

const IDS: [&str; 3] = ["event-1", "event-2", "event-3"];

struct Runs {
    folder: tempfile::TempDir,
    count: u32,
}

impl Runs {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), count: 0 }
    }

    /// Performs a job with these documents on top of the previous one's set.
    fn perform(
        &mut self,
        kind: FeedKind,
        documents: &[String],
        next: (Extent, Cursor),
    ) -> Result<SetFile, JobError> {
        let path = |name: String| self.folder.path().join(name);
        let previous = path(format!("{}.set", self.count));
        self.count += 1;
        let (body, out) = (path("body".to_owned()), path(format!("{}.set", self.count)));
        fs::write(&body, documents.concat()).unwrap();
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        let (extent, cursor) = next;
        let job = ParseJob {
            kind,
            list: ListFormat::default(),
            documents: body,
            lengths: documents.iter().map(|it| it.len() as u64).collect(),
            max_bytes: 1 << 20,
            extent,
            previous: previous.exists().then_some(previous),
            out: out.clone(),
            policy: ReadPolicy {
                prefixes: PrefixPolicy::default(),
                min_confidence: None,
                now,
                oldest: Timestamp::MIN,
            },
            own: Vec::new(),
            ttl: SignedDuration::from_hours(1),
            confirmed: None,
            memory: 1 << 30,
            origin: String::new(),
            cursor,
        };
        job.open().and_then(|opened| job.perform(opened))?;
        Ok(SetFile::open(&out, SetParts::Merge).unwrap())
    }
}

fn event(id: &str, address: &str) -> String {
    format!(
        "{{\"Event\":{{\"uuid\":\"{id}\",\"Attribute\":[{{\"uuid\":\"{id}-{address}\",\
         \"type\":\"ip-dst\",\"value\":\"{address}\"}}]}}}}"
    )
}

fn events(times: &[(&str, i64)]) -> Cursor {
    Cursor::Events(times.iter().map(|(id, time)| ((*id).to_owned(), *time)).collect())
}

fn prefixes(set: &SetFile) -> Vec<String> {
    let mut all: Vec<String> =
        set.prefixes().map(|(prefix, _)| prefix.addr().to_string()).collect();
    all.sort();
    all
}

fn malformed(set: &SetFile) -> Vec<String> {
    set.meta.rejects.kept().iter().map(|it| it.reason.to_string()).collect()
}

#[test]
fn an_event_that_cannot_be_read_costs_itself_and_is_requested_again() {
    let mut runs = Runs::new();
    let first = [event(IDS[0], "203.0.113.1"), "{\"Event\":{\"uuid\":nul".to_owned()];
    let next = (Extent::Snapshot, events(&[(IDS[0], 10), (IDS[1], 10)]));
    let set = runs.perform(FeedKind::MispFeed, &first, next).unwrap();
    assert_eq!(prefixes(&set), ["203.0.113.1"]);
    assert_eq!(set.meta.cursor, events(&[(IDS[0], 10)]));
    assert!(
        malformed(&set)[0].starts_with("malformed: document 2 of 2: "),
        "{:?}",
        malformed(&set)
    );

    // A later version of the first event is damaged: its entries stay, with their timestamp.
    let second =
        ["[]]".to_owned(), event(IDS[1], "203.0.113.2"), "{\"message\":\"gone\"}".to_owned()];
    let replaced = IDS.map(str::to_owned).to_vec();
    let next = (Extent::Changes { replaced }, events(&[(IDS[0], 20), (IDS[1], 10), (IDS[2], 10)]));
    let set = runs.perform(FeedKind::MispFeed, &second, next).unwrap();
    assert_eq!(prefixes(&set), ["203.0.113.1", "203.0.113.2"]);
    assert_eq!(set.meta.cursor, events(&[(IDS[0], 10), (IDS[1], 10)]));
    assert_eq!(set.meta.rejects.malformed(), 2);

    let third = [event(IDS[0], "203.0.113.9")];
    let replaced = vec![IDS[0].to_owned()];
    let next = (Extent::Changes { replaced }, events(&[(IDS[0], 20), (IDS[1], 10)]));
    let set = runs.perform(FeedKind::MispFeed, &third, next).unwrap();
    assert_eq!(prefixes(&set), ["203.0.113.2", "203.0.113.9"]);
    // If none can be read, the pull is refused.
    let next = (Extent::Snapshot, Cursor::Events(BTreeMap::new()));
    let bad = ["x".to_owned(), "y".to_owned()];
    runs.perform(FeedKind::MispFeed, &bad, next).unwrap_err();
}

#[test]
fn a_page_that_cannot_be_read_costs_itself_and_the_pull_is_repeated() {
    let page = |id: &str, address: &str| {
        format!(
            "{{\"objects\":[{{\"type\":\"indicator\",\"id\":\"indicator--{id}\",\
             \"pattern\":\"[ipv4-addr:value = '{address}']\"}}]}}"
        )
    };
    let since = |time: &str| Cursor::Collections([("c".to_owned(), time.to_owned())].into());
    let mut runs = Runs::new();
    let all = [page("a", "203.0.113.1"), page("b", "203.0.113.2")];
    let set = runs.perform(FeedKind::Taxii2, &all, (Extent::Snapshot, since("1"))).unwrap();
    assert_eq!((prefixes(&set).len(), set.meta.cursor), (2, since("1")));

    // In a snapshot, the entries of the damaged page must not leave the set.
    let damaged = [page("a", "203.0.113.1"), "<oops>".to_owned(), page("c", "203.0.113.3")];
    let set = runs.perform(FeedKind::Taxii2, &damaged, (Extent::Snapshot, since("2"))).unwrap();
    assert_eq!(prefixes(&set), ["203.0.113.1", "203.0.113.2", "203.0.113.3"]);
    assert_eq!(set.meta.cursor, Cursor::Start);

    let mut runs = Runs::new();
    runs.perform(FeedKind::Taxii2, &all, (Extent::Snapshot, since("1"))).unwrap();
    let changes = Extent::Changes { replaced: Vec::new() };
    let set = runs.perform(FeedKind::Taxii2, &damaged, (changes, since("2"))).unwrap();
    assert_eq!((prefixes(&set).len(), set.meta.cursor), (3, since("1")));
}

#[test]
fn a_list_in_which_nothing_is_an_entry_is_refused() {
    let empty = [("# nothing today\n", true), ("\n\n", true), ("10.0.0.1\n", true)];
    let other = [("see 203.0.113.7\n", false), ("# x\nevil.example\n", false)];
    for (text, is_used) in empty.into_iter().chain(other) {
        let next = (Extent::Snapshot, Cursor::Start);
        let set = Runs::new().perform(FeedKind::List, &[text.to_owned()], next);
        assert_eq!(set.is_ok(), is_used, "{text}");
    }
    assert_eq!(ListFormat::default().shape, ListShape::Plain);
}
