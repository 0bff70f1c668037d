//! A feed of MISP events (misp-core-format): `manifest.json` lists the events, one file each.
//! Events with a later timestamp are fetched; events that are not listed any more are removed with
//! their attributes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::BufReader;

use reqwest::{StatusCode, Url};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::body::{BodyWriter, documents};
use super::error::FetchError;
use super::http::{Call, Session};
use super::scan::Scan;
use super::{Task, blocking};
use crate::base::json_text::JsonText;
use crate::http::redacted_url;
use crate::intel::pull::{Cursor, Documents, Extent, OpenDocuments, PullOutcome};

/// Maximum size of a manifest, bytes (a thousand events take about half a megabyte).
const MANIFEST_MAX: u64 = 64 << 20;
/// Maximum number of events of a feed.
const EVENTS_MAX: usize = 100_000;

/// Number of events with the same file, which has the id of one event, from which the server is not believed.
const SAME_MAX: u32 = 3;

/// Entry of the manifest for an event.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(deserialize_with = "number")]
    timestamp: i64,
    #[serde(default, rename = "integrity:sha256")]
    sha256: Option<String>,
}

/// Events by UUID; entries with an invalid key or without a time are only counted.
#[derive(Debug, Default)]
struct Manifest {
    events: BTreeMap<String, Line>,
    unusable: u64,
}

/// Gets the events that changed since the cursor.
pub(super) async fn pull(
    session: &Session<'_>,
    url: &Url,
    task: Task<'_>,
) -> Result<PullOutcome, FetchError> {
    let base = folder_of(url);
    let manifest = manifest(session, &base, task).await?;
    if manifest.unusable > 0 {
        let (feed, count) = (&task.feed.name, manifest.unusable);
        tracing::warn!(
            feed,
            count,
            "events whose line in the manifest cannot be used are left out"
        );
    }
    let none = BTreeMap::new();
    let known = if let Cursor::Events(known) = task.cursor { known } else { &none };
    let mut run = Run {
        session,
        base,
        documents: documents(task.folder, task.feed.max_bytes)?,
        max: task.feed.max_bytes,
        have: BTreeMap::new(),
        fetched: Vec::new(),
        digests: HashMap::new(),
    };
    let mut failures = Vec::new();
    for (number, (id, line)) in (1..).zip(&manifest.events) {
        session.progress.set_page(number);
        match known.get(id) {
            Some(time) if *time >= line.timestamp => {
                run.have.insert(id.clone(), *time);
            }
            old => {
                if let Some(error) = run.event(id, line).await? {
                    // Its entries in the set stay, and it is requested again at the next pull.
                    run.have.extend(old.map(|time| (id.clone(), *time)));
                    failures.push((id, error));
                }
            }
        }
    }
    let count = failures.len();
    if let Some((event, error)) = failures.into_iter().next() {
        if run.fetched.is_empty() {
            return Err(error);
        }
        let feed = &task.feed.name;
        tracing::warn!(feed, count, event, %error, "events not fetched, of which this is the first");
    }
    let vanished = known.keys().filter(|id| !manifest.events.contains_key(*id)).cloned();
    run.fetched.extend(vanished);
    if run.fetched.is_empty() && !known.is_empty() {
        return Ok(PullOutcome::NotModified);
    }
    let extent = match task.cursor {
        Cursor::Events(_) => Extent::Changes { replaced: run.fetched },
        _ => Extent::Snapshot,
    };
    Ok(PullOutcome::New { documents: run.documents, extent, cursor: Cursor::Events(run.have) })
}

struct Run<'r> {
    session: &'r Session<'r>,
    base: Url,
    documents: Documents,
    max: u64,
    /// Timestamps of the events that are saved, by UUID.
    have: BTreeMap<String, i64>,
    fetched: Vec<String>,
    /// Number of events with the same file, by its digest; at most one entry per event.
    digests: HashMap<[u8; 32], u32>,
}

impl Run<'_> {
    /// Fetches an event; the reason if only this event failed.
    async fn event(&mut self, id: &str, line: &Line) -> Result<Option<FetchError>, FetchError> {
        let url = under(&self.base, &format!("{id}.json"));
        let reply = self.session.send(Call::get(url)).await?;
        // The manifest may come before its files, and outlive them.
        if matches!(reply.status(), StatusCode::NOT_FOUND | StatusCode::GONE) {
            return Ok(Some(reply.failure()));
        }
        let mut digest = Sha256::new();
        let mut scan = Scan::new(&[], &[]);
        let writer = BodyWriter::new(&mut self.documents, self.max);
        let saved = reply.good()?.save(writer.scanned_by(&mut scan).digested_by(&mut digest)).await;
        match saved {
            Ok(()) => {}
            // Another body instead of one event is no reason to lose the others.
            Err(
                error @ (FetchError::Empty
                | FetchError::Html
                | FetchError::NotText(_)
                | FetchError::Truncated
                | FetchError::Protocol(_)),
            ) => {
                self.documents.discard_unfinished().map_err(FetchError::Write)?;
                return Ok(Some(error));
            }
            Err(error) => return Err(error),
        }
        let digest: [u8; 32] = digest.finalize().into();
        if let Some(want) = &line.sha256
            && !want.eq_ignore_ascii_case(&hex(&digest))
        {
            self.documents.undo_document().map_err(FetchError::Write)?;
            let what =
                "its sha256 is not that of the manifest; it is being written, or was changed";
            return Ok(Some(FetchError::Protocol(what.to_owned())));
        }
        let same = self.digests.entry(digest).or_default();
        *same += 1;
        if *same == SAME_MAX {
            return Err(FetchError::Protocol(format!(
                "{SAME_MAX} events have the same file, the last one {id}: the server ignores the path; check the URL"
            )));
        }
        self.have.insert(id.to_owned(), line.timestamp);
        self.fetched.push(id.to_owned());
        Ok(None)
    }
}

async fn manifest(
    session: &Session<'_>,
    base: &Url,
    task: Task<'_>,
) -> Result<Manifest, FetchError> {
    let url = under(base, "manifest.json");
    let location = redacted_url(&url);
    let reply = session.request(Call::get(url)).await?;
    let max = MANIFEST_MAX.min(task.feed.max_bytes);
    let mut file = documents(task.folder, max)?;
    let mut scan = Scan::new(&[], &[]);
    let saved = reply.save(BodyWriter::new(&mut file, max).scanned_by(&mut scan)).await;
    saved.map_err(|error| match error {
        FetchError::TooLarge { max: MANIFEST_MAX } => FetchError::Protocol(format!(
            "{location}: larger than {MANIFEST_MAX} bytes; split the feed"
        )),
        other => other,
    })?;
    blocking(move || {
        let (path, lengths) = file.finish();
        let mut open = OpenDocuments::open(path, lengths.to_vec()).map_err(FetchError::Write)?;
        let Some(document) = open.next_document() else { return Err(FetchError::Empty) };
        let text = JsonText::new(document).repairing_utf8();
        serde_json::from_reader(BufReader::new(text))
            .map_err(|error| FetchError::Protocol(format!("{location}: not a manifest ({error})")))
    })
    .await
}

impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lines;

        impl<'de> Visitor<'de> for Lines {
            type Value = Manifest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of events by UUID")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Manifest, A::Error> {
                let mut manifest = Manifest::default();
                while let Some(key) = map.next_key::<String>()? {
                    // The key becomes part of a path: only what is a UUID may.
                    if !is_uuid(&key) {
                        map.next_value::<IgnoredAny>()?;
                        manifest.unusable += 1;
                        continue;
                    }
                    let line: MaybeLine = map.next_value()?;
                    match line.0 {
                        Some(line) => {
                            manifest.events.insert(key, line);
                        }
                        None => manifest.unusable += 1,
                    }
                    if manifest.events.len() > EVENTS_MAX {
                        let what = format!("over {EVENTS_MAX} events, split the feed");
                        return Err(serde::de::Error::custom(what));
                    }
                }
                Ok(manifest)
            }
        }

        deserializer.deserialize_map(Lines)
    }
}

/// A line, or `None` if it is invalid; an invalid one is read to its end too.
struct MaybeLine(Option<Line>);

impl<'de> Deserialize<'de> for MaybeLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(serde_json::from_value(value).ok()))
    }
}

/// MISP writes numbers as text, other producers as numbers.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    struct Number;

    impl Visitor<'_> for Number {
        type Value = i64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of seconds")
        }

        fn visit_i64<E>(self, value: i64) -> Result<i64, E> {
            Ok(value)
        }

        fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<i64, E> {
            i64::try_from(value).map_err(E::custom)
        }

        fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<i64, E> {
            value.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_any(Number)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

/// Returns the directory of the feed: `url` without `manifest.json`.
fn folder_of(url: &Url) -> Url {
    let mut base = url.clone();
    let path = url.path().strip_suffix("manifest.json").unwrap_or_else(|| url.path());
    let path = format!("{}/", path.trim_end_matches('/'));
    base.set_path(&path);
    base
}

/// Returns the URL of the file `name` in that directory; a query, which may be a key, is kept.
fn under(base: &Url, name: &str) -> Url {
    let mut url = base.clone();
    let path = format!("{}{name}", base.path());
    url.set_path(&path);
    url
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5a8d5a5c-1f1c-4c0e-9d3b-0a0027000001";

    #[test]
    fn only_events_with_a_uuid_and_a_time_are_fetched() {
        let text = format!(
            r#"{{"{ID}":{{"info":"x","Tag":[{{"name":"tlp:white"}}],"timestamp":"1700000000","integrity:sha256":"ab"}},
               "../../etc/passwd":{{"timestamp":1}},
               "5a8d5a5c1f1c4c0e9d3b0a0027000001":{{"timestamp":1}},
               "{{5a8d5a5c-1f1c-4c0e-9d3b-0a002700000}}":{{"timestamp":1}},
               "5a8d5a5c-1f1c-4c0e-9d3b-0a0027000002":{{"timestamp":1700000001}},
               "5a8d5a5c-1f1c-4c0e-9d3b-0a0027000003":{{"timestamp":null}},
               "5a8d5a5c-1f1c-4c0e-9d3b-0a0027000004":[]}}"#
        );
        let manifest: Manifest = serde_json::from_str(&text).unwrap();
        let found: Vec<_> =
            manifest.events.iter().map(|(id, line)| (id.as_str(), line.timestamp)).collect();
        assert_eq!(
            found,
            [(ID, 1_700_000_000), ("5a8d5a5c-1f1c-4c0e-9d3b-0a0027000002", 1_700_000_001)]
        );
        assert_eq!(manifest.unusable, 5);
        serde_json::from_str::<Manifest>("[]").unwrap_err();
    }

    #[test]
    fn files_are_beside_the_manifest() {
        for (url, want) in [
            ("https://h/f", "https://h/f/x.json"),
            ("https://h/f/", "https://h/f/x.json"),
            ("https://h/f/manifest.json?k=1", "https://h/f/x.json?k=1"),
            ("https://h", "https://h/x.json"),
        ] {
            assert_eq!(under(&folder_of(&url.parse().unwrap()), "x.json").as_str(), want);
        }
    }
}
