//! TAXII 2.1 (OASIS): pages of STIX objects out of collections, from where the last pull ended.
//!
//! `next` is repeated with the very same parameters (medallion answers 400 otherwise). It may be
//! forgotten between two pages; the run then goes on from the date of the last page, less a
//! microsecond, since objects that came in one POST have the same date. What comes twice is one.

mod find;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{ACCEPT, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};

use super::body::{Sink, documents};
use super::error::FetchError;
use super::http::{Call, Reply, Session};
use super::scan::Scan;
use super::{MOST_PAGES, Task};
use crate::base::escape::escaped;
use crate::intel::config::query::{Ask, TaxiiAsk};
use crate::intel::pull::Documents;
use crate::intel::pull::{Cursor, Extent, PullOutcome};

/// What is spoken (RFC 6838 form as registered with IANA).
const MEDIA: &str = "application/taxii+json;version=2.1";
/// When the last object of a page came into its collection.
const LAST: HeaderName = HeaderName::from_static("x-taxii-date-added-last");
/// Objects that readers know what to do with.
const TYPES: &str = "indicator,marking-definition";
/// How often a page run that a server forgot is begun anew.
const RESTARTS: u32 = 5;
/// Without a date of the server the next pull begins so long before this one did.
const OVERLAP: SignedDuration = SignedDuration::from_mins(10);

/// Gets what came into the collections since the cursor.
pub(super) async fn pull(
    session: &Session<'_>,
    url: &Url,
    task: Task<'_>,
) -> Result<PullOutcome, FetchError> {
    let usual = TaxiiAsk::default();
    let ask = if let Ask::Taxii(ask) = &task.feed.ask { ask } else { &usual };
    let collections = find::collections(session, url, ask).await?;
    // Where a collection came or went, what is here may hold what nobody offers any more.
    let known = match task.cursor {
        Cursor::Collections(known) if known.keys().eq(collections.keys()) => known,
        _ => &BTreeMap::new(),
    };
    let max = task.feed.max_bytes;
    let mut run = Run {
        session,
        page_size: ask.page_size,
        documents: documents(task.folder, max)?,
        max,
        pages: 0,
    };
    let mut after = BTreeMap::new();
    for (name, collection) in collections {
        let since = known.get(&name).map(String::as_str);
        let end = run.collection(&collection, since).await?;
        after.extend(end.map(|end| (name, end)));
    }
    if run.documents.count() == 0 && !known.is_empty() {
        return Ok(PullOutcome::NotModified);
    }
    let extent =
        if known.is_empty() { Extent::Snapshot } else { Extent::Changes { replaced: Vec::new() } };
    Ok(PullOutcome::New { documents: run.documents, extent, cursor: Cursor::Collections(after) })
}

/// A run over all pages of all collections.
struct Run<'r> {
    session: &'r Session<'r>,
    page_size: u32,
    documents: Documents,
    max: u64,
    pages: u32,
}

/// Where in a collection a page is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct At {
    added_after: Option<String>,
    next: Option<String>,
}

/// What a page says of itself.
struct Page {
    has_objects: bool,
    more: bool,
    next: Option<String>,
    last: Option<Timestamp>,
    /// The server's time.
    date: Timestamp,
}

impl Run<'_> {
    /// All pages of a collection since `since`; what to go on from the next time. `None` is never
    /// given for a collection that was read: an empty one goes on from now.
    async fn collection(
        &mut self,
        objects: &Url,
        since: Option<&str>,
    ) -> Result<Option<String>, FetchError> {
        let mut at = At { added_after: since.map(str::to_owned), next: None };
        let (mut last, mut began): (Option<Timestamp>, Option<Timestamp>) = (None, None);
        let mut restarts = 0;
        loop {
            let Some(page) = self.page(objects, &at).await? else {
                restarts += 1;
                if restarts > RESTARTS {
                    return Err(forgets(objects));
                }
                at = At { added_after: last.map(before).or(at.added_after), next: None };
                continue;
            };
            began.get_or_insert(page.date);
            last = last.max(page.last);
            if !page.more {
                break;
            }
            let following = match (page.next, last) {
                (Some(next), _) => At { added_after: at.added_after.clone(), next: Some(next) },
                (None, Some(last)) => At { added_after: Some(text(last)), next: None },
                (None, None) => return Err(no_end(objects)),
            };
            // medallion gives the same `next` for all pages of a run: there, only an empty page
            // that leads to itself goes nowhere.
            if following == at && (following.next.is_none() || !page.has_objects) {
                return Err(no_end(objects));
            }
            at = following;
        }
        let dateless = began.map(|began| began.checked_sub(OVERLAP).unwrap_or(began));
        Ok(match (last, since) {
            (Some(last), _) => Some(text(last)),
            (None, Some(since)) => Some(since.to_owned()),
            (None, None) => dateless.map(text),
        })
    }

    /// One page, written as a document where it has objects; `None` where the server does not know
    /// `next` any more.
    async fn page(&mut self, objects: &Url, at: &At) -> Result<Option<Page>, FetchError> {
        self.pages += 1;
        if self.pages > MOST_PAGES {
            return Err(FetchError::TooManyPages(MOST_PAGES));
        }
        let mut url = objects.clone();
        url.query_pairs_mut()
            .append_pair("limit", &self.page_size.to_string())
            .append_pair("match[type]", TYPES);
        for (name, value) in [("added_after", &at.added_after), ("next", &at.next)] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        let reply = send(self.session, url).await?;
        if reply.status() == StatusCode::BAD_REQUEST && at.next.is_some() {
            return Ok(None);
        }
        let reply = spoken(reply.good()?)?;
        let last = reply.header(&LAST).and_then(|text| text.trim().parse().ok());
        let date = reply.date();
        let mut scan = Scan::new(&["more", "next"], &[&["objects"]]);
        let sink = Sink::new(&mut self.documents, self.max).watched_by(&mut scan);
        reply.keep(sink).await?;
        let has_objects = scan.count(0) > 0;
        let next = scan.value("next").filter(|next| !next.is_empty());
        if !has_objects {
            self.documents.undo_document().map_err(FetchError::Keep)?;
        }
        Ok(Some(Page { has_objects, more: scan.is_true("more"), next, last, date }))
    }
}

/// Asks for `url` in the words of TAXII.
async fn send(session: &Session<'_>, url: Url) -> Result<Reply, FetchError> {
    session.send(Call::get(url).with(ACCEPT, HeaderValue::from_static(MEDIA))).await
}

/// Refuses an answer that is none of TAXII 2.1.
fn spoken(reply: Reply) -> Result<Reply, FetchError> {
    let kind = reply.content_type();
    if reply.is_html() {
        return Err(FetchError::Html);
    }
    let version = kind.split_once("version=").map(|(_, version)| version.trim_matches('"'));
    if kind.starts_with("application/taxii+json") && version.is_none_or(|it| it.starts_with("2.1"))
    {
        return Ok(reply);
    }
    Err(FetchError::Protocol(format!(
        "answers with {:?}, which is not TAXII 2.1 ({MEDIA}); check the URL",
        escaped(&kind, 80)
    )))
}

/// A time as every server takes it: with six digits after the point (opentaxii refuses less).
fn text(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// So that what has this very time comes again.
fn before(time: Timestamp) -> String {
    text(time.checked_sub(SignedDuration::from_micros(1)).unwrap_or(time))
}

fn forgets(objects: &Url) -> FetchError {
    FetchError::Protocol(format!(
        "{}: answers 400 to the next page, {RESTARTS} times from the beginning; raise page_size",
        crate::http::redacted_url(objects)
    ))
}

fn no_end(objects: &Url) -> FetchError {
    FetchError::Protocol(format!(
        "{}: says that there is more and not where; tell those who run it",
        crate::http::redacted_url(objects)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_six_digits() {
        for (time, want, less) in [
            ("2026-11-24T12:00:00Z", "2026-11-24T12:00:00.000000Z", "2026-11-24T11:59:59.999999Z"),
            (
                "2026-11-24T13:00:00.5+01:00",
                "2026-11-24T12:00:00.500000Z",
                "2026-11-24T12:00:00.499999Z",
            ),
            (
                "2026-11-24T12:00:00.1234567Z",
                "2026-11-24T12:00:00.123456Z",
                "2026-11-24T12:00:00.123455Z",
            ),
        ] {
            let time: Timestamp = time.parse().unwrap();
            assert_eq!((text(time).as_str(), before(time).as_str()), (want, less));
        }
    }
}
