//! TAXII 2.1 (OASIS): pages of STIX objects from collections, continued at the end of the last pull.
//!
//! `next` is sent with the very same parameters (medallion responds 400 otherwise). A server may forget it
//! between two pages; the run then continues from the date of the last page, less a microsecond, since
//! objects of one POST have the same date. An object that is received twice counts once.

mod find;
mod targets;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{ACCEPT, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::Task;
use super::body::{BodyWriter, documents};
use super::error::FetchError;
use super::http::{Call, Reply, Session};
use super::pages::{PageParameter, Pages};
use super::scan::Scan;
use crate::base::escape::escaped;
use crate::intel::config::query::{FeedQuery, TaxiiQuery};
use crate::intel::pull::Documents;
use crate::intel::pull::{Cursor, Extent, PullOutcome};
use targets::Target;

/// Media type of TAXII 2.1, as registered with IANA (RFC 6838).
const MEDIA: &str = "application/taxii+json;version=2.1";
const MEDIA_TYPE: &str = "application/taxii+json";
/// Header: time at which the last object of a page was added to its collection.
const LAST: HeaderName = HeaderName::from_static("x-taxii-date-added-last");
/// Object types that the parser uses.
const TYPES: &str = "indicator,marking-definition";
/// Maximum number of restarts of a page run that the server forgot.
const RESTARTS: u32 = 5;
const PAGE: PageParameter = PageParameter { name: "next", remedy: "report it to its operator" };
/// Overlap of two pulls if the server reports no date.
const OVERLAP: SignedDuration = SignedDuration::from_mins(10);

/// Pulls the objects that were added to the collections since the cursor.
pub(super) async fn pull(
    session: &Session<'_>,
    url: &Url,
    task: Task<'_>,
) -> Result<PullOutcome, FetchError> {
    let usual = TaxiiQuery::default();
    let query = if let FeedQuery::Taxii(query) = &task.feed.query { query } else { &usual };
    let targets = find::collections(session, url, query).await?;
    if let Cursor::Collections(known) = task.cursor {
        targets.check_known(known)?;
    }
    let collections = targets.readable;
    // After a change of the collections the set may hold objects that no collection has any more.
    let known = match task.cursor {
        Cursor::Collections(known) if known.keys().eq(collections.keys()) => known,
        _ => &BTreeMap::new(),
    };
    let max = task.feed.max_bytes;
    let mut run = Run {
        session,
        page_size: query.page_size,
        documents: documents(task.folder, max)?,
        max,
        pages: Pages::new(PAGE, query.page_size),
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
    pages: Pages,
}

/// Position of a page in a collection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct At {
    added_after: Option<String>,
    next: Option<String>,
}

/// Properties of a page.
struct Page {
    has_objects: bool,
    scan: Scan,
    more: bool,
    next: Option<String>,
    last: Option<Timestamp>,
    /// Time of the server.
    date: Timestamp,
}

#[derive(Deserialize)]
struct ErrorMessage {
    #[serde(rename = "title")]
    _title: String,
}

impl Run<'_> {
    /// Pulls all pages of a collection since `since`; returns the date for the next pull. An empty collection
    /// continues from now, so that a collection that was read always has a date.
    async fn collection(
        &mut self,
        target: &Target,
        since: Option<&str>,
    ) -> Result<Option<String>, FetchError> {
        let mut at = At { added_after: since.map(str::to_owned), next: None };
        let (mut last, mut began): (Option<Timestamp>, Option<Timestamp>) = (None, None);
        let mut restarts = 0;
        self.pages.begin_run();
        loop {
            let Some(page) = self.page(target, &at).await? else {
                restarts += 1;
                if restarts > RESTARTS {
                    return Err(forgets(&target.objects));
                }
                self.pages.begin_run();
                at = At { added_after: last.map(before).or(at.added_after), next: None };
                continue;
            };
            began.get_or_insert(page.date);
            last = last.max(page.last);
            if !page.more {
                self.pages.check(&page.scan, false)?;
                break;
            }
            let following = match (page.next, last) {
                (Some(next), _) => At { added_after: at.added_after.clone(), next: Some(next) },
                (None, Some(last)) => At { added_after: Some(text(last)), next: None },
                (None, None) => return Err(no_end(&target.objects)),
            };
            // medallion returns the same `next` for all pages of a run: only an empty page that links to
            // itself makes no progress.
            if following == at && (following.next.is_none() || !page.has_objects) {
                return Err(no_end(&target.objects));
            }
            self.pages.check(&page.scan, true)?;
            at = following;
        }
        let dateless = began.map(|began| began.checked_sub(OVERLAP).unwrap_or(began));
        Ok(match (last, since) {
            (Some(last), _) => Some(text(last)),
            (None, Some(since)) => Some(since.to_owned()),
            (None, None) => dateless.map(text),
        })
    }

    /// True if a response of 404 stands for no objects, as of old versions of medallion: TAXII itself reports
    /// it, of a collection that exists. Such a response of a proxy is an error.
    async fn is_empty(&self, target: &Target, reply: Reply) -> bool {
        let kind = reply.content_type();
        let is_taxii = kind.starts_with(MEDIA_TYPE)
            || (kind.starts_with("application/json") && is_error_message(reply).await);
        is_taxii && (target.is_listed || find::is_readable(self.session, &target.url).await)
    }

    /// Pulls one page, written as a document if it has objects; `None` if the server has forgotten `next`.
    async fn page(&mut self, target: &Target, at: &At) -> Result<Option<Page>, FetchError> {
        self.pages.begin(self.session)?;
        let mut url = target.objects.clone();
        url.query_pairs_mut()
            .append_pair("limit", &self.page_size.to_string())
            .append_pair("match[type]", TYPES);
        for (name, value) in [("added_after", &at.added_after), ("next", &at.next)] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        let reply = send(self.session, url).await?;
        let is_gone = matches!(reply.status(), StatusCode::NOT_FOUND | StatusCode::GONE);
        if at.next.is_some() && (is_gone || reply.status() == StatusCode::BAD_REQUEST) {
            return Ok(None);
        }
        if is_gone {
            let (error, date) = (reply.failure(), reply.date());
            let is_empty = self.is_empty(target, reply).await;
            return if is_empty { Ok(Some(Page::empty(date))) } else { Err(error) };
        }
        let reply = check_media_type(good(reply)?)?;
        let last = reply.header(&LAST).and_then(|text| text.trim().parse().ok());
        let date = reply.date();
        let mut scan = Scan::new(&["more", "next"], &[&["objects"]]);
        let writer = BodyWriter::new(&mut self.documents, self.max).scanned_by(&mut scan);
        reply.save(writer).await?;
        let has_objects = scan.count(0) > 0;
        let next = scan.value("next").filter(|next| !next.is_empty());
        if !has_objects {
            self.documents.undo_document().map_err(FetchError::Write)?;
        }
        let more = scan.is_true("more");
        Ok(Some(Page { has_objects, scan, more, next, last, date }))
    }
}

impl Page {
    fn empty(date: Timestamp) -> Self {
        let scan = Scan::new(&[], &[]);
        Self { has_objects: false, scan, more: false, next: None, last: None, date }
    }
}

/// True if the body is an error message of TAXII 2.1 (section 3.6.1), whose `title` is required.
async fn is_error_message(reply: Reply) -> bool {
    let body = reply.small().await.unwrap_or_default();
    serde_json::from_slice::<ErrorMessage>(&body).is_ok()
}

/// The response itself if its status is 200, else the error.
fn good(reply: Reply) -> Result<Reply, FetchError> {
    let status = reply.status();
    if matches!(status, StatusCode::NOT_ACCEPTABLE | StatusCode::UNSUPPORTED_MEDIA_TYPE) {
        return Err(FetchError::Protocol(format!(
            "status {status}: the server has no TAXII 2.1 ({MEDIA}) there; check the URL and the \
             server's version of TAXII"
        )));
    }
    reply.good()
}

/// Requests `url` with the media type of TAXII.
async fn send(session: &Session<'_>, url: Url) -> Result<Reply, FetchError> {
    session.send(Call::get(url).with(ACCEPT, HeaderValue::from_static(MEDIA))).await
}

/// Refuses a response that is not TAXII 2.1.
fn check_media_type(reply: Reply) -> Result<Reply, FetchError> {
    let kind = reply.content_type();
    if reply.is_html() {
        return Err(FetchError::Html);
    }
    let version = kind.split_once("version=").map(|(_, version)| version.trim_matches('"'));
    if kind.starts_with(MEDIA_TYPE) && version.is_none_or(|it| it.starts_with("2.1")) {
        return Ok(reply);
    }
    Err(FetchError::Protocol(format!(
        "media type {:?} is not that of TAXII 2.1 ({MEDIA}); check the URL",
        escaped(&kind, 80)
    )))
}

/// A time with six fractional digits, which every server accepts (opentaxii refuses fewer).
fn text(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// A time just before, so that objects of exactly this time are returned again.
fn before(time: Timestamp) -> String {
    text(time.checked_sub(SignedDuration::from_micros(1)).unwrap_or(time))
}

fn forgets(objects: &Url) -> FetchError {
    FetchError::Protocol(format!(
        "{}: refuses its own link to the next page, also after {RESTARTS} restarts; raise page_size, or report it to its operator",
        crate::http::redacted_url(objects)
    ))
}

fn no_end(objects: &Url) -> FetchError {
    FetchError::Protocol(format!(
        "{}: reports more pages without a link to them; report it to its operator",
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
