//! MISP: attributes of a server by `restSearch`, page by page, until a page is short.
//!
//! The first search is for attributes with `to_ids`. Later ones are for all attributes that
//! changed since the previous pull began, less an overlap, with the deleted ones and those that lost
//! `to_ids`, which must be removed. An attribute that is synchronised from another server keeps its
//! old time, and such a search misses it; `full_refresh_interval` finds it.

use jiff::Timestamp;
use reqwest::Url;
use reqwest::header::{ACCEPT, HeaderValue};
use serde_json::{Map, Value, json};

use super::Task;
use super::body::{BodyWriter, documents};
use super::error::FetchError;
use super::http::{Call, Session};
use super::pages::{PageParameter, Pages};
use super::scan::Scan;
use crate::base::clock::signed;
use crate::intel::config::query::{FeedQuery, MispQuery};
use crate::intel::pull::{Cursor, Extent, PullOutcome};

const PATH: &str = "attributes/restSearch";
const PAGE: PageParameter = PageParameter {
    name: "page",
    remedy: "raise page_size until one page has all attributes, or report it to its operator",
};
/// Parameters with which a server filters a page after it is read: a short page is then not the
/// last one.
const FILTERED_LATER: [&str; 2] = ["enforceWarninglist", "excludeDecayed"];

/// Pulls the attributes that changed since the cursor.
pub(super) async fn pull(
    session: &Session<'_>,
    url: &Url,
    task: Task<'_>,
) -> Result<PullOutcome, FetchError> {
    let usual = MispQuery::default();
    let query = if let FeedQuery::Misp(query) = &task.feed.query { query } else { &usual };
    let since = if let Cursor::Time(since) = task.cursor { Some(*since) } else { None };
    let url = search_url(url);
    let mut body = search(query, since);
    let max = task.feed.max_bytes;
    let mut documents = documents(task.folder, max)?;
    let mut began = None;
    let mut pages = Pages::new(PAGE, query.page_size);
    loop {
        let page = pages.begin(session)?;
        body.insert("page".to_owned(), page.into());
        let text = Value::Object(body.clone()).to_string().into_bytes();
        let call = Call::post(url.clone(), "application/json", text)
            .with(ACCEPT, HeaderValue::from_static("application/json"));
        let reply = session.request(call).await?;
        began.get_or_insert_with(|| reply.date());
        let mut scan = Scan::new(&["response"], &[&["response", "Attribute"]]);
        reply.save(BodyWriter::new(&mut documents, max).scanned_by(&mut scan)).await?;
        let count = scan.count(0);
        if !scan.has("response") {
            return Err(FetchError::Protocol(format!(
                "page {page} is no response of MISP's restSearch; check the URL and the proxies on the path"
            )));
        }
        // A single page stays, also if it is empty.
        if count == 0 && (page > 1 || since.is_some()) {
            documents.undo_document().map_err(FetchError::Write)?;
        }
        let is_last = is_last(query, count);
        pages.check(&scan, !is_last)?;
        if is_last {
            break;
        }
    }
    if documents.count() == 0 {
        return Ok(PullOutcome::NotModified);
    }
    let extent = match since {
        None => Extent::Snapshot,
        Some(_) => Extent::Changes { replaced: Vec::new() },
    };
    let began = began.unwrap_or(session.now);
    let next = began.checked_sub(signed(query.overlap)).unwrap_or(Timestamp::MIN);
    Ok(PullOutcome::New { documents, extent, cursor: Cursor::Time(next) })
}

/// Returns the URL of the search on the server at `url`, which may be that URL already.
fn search_url(url: &Url) -> Url {
    let mut url = url.clone();
    let path = url.path().trim_end_matches('/');
    if !path.ends_with(PATH) {
        let path = format!("{path}/{PATH}");
        url.set_path(&path);
    }
    url
}

/// Returns the parameters of the search without the page.
fn search(query: &MispQuery, since: Option<Timestamp>) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("returnFormat".to_owned(), json!("json"));
    body.insert("limit".to_owned(), query.page_size.into());
    // Other servers with the MISP API accept one type at a time.
    body.insert(
        "type".to_owned(),
        match query.types.as_slice() {
            [one] => json!(one),
            all => json!(all),
        },
    );
    match since {
        None => body.insert("to_ids".to_owned(), json!(1)),
        Some(since) => {
            body.insert("deleted".to_owned(), json!([0, 1]));
            body.insert("attribute_timestamp".to_owned(), since.as_second().into())
        }
    };
    body.insert("includeEventTags".to_owned(), json!(true));
    for (name, value) in &query.filter {
        // By an empty list the operator removes a parameter that a server does not know.
        if value.as_array().is_some_and(Vec::is_empty) {
            body.remove(name);
        } else {
            body.insert(name.clone(), value.clone());
        }
    }
    body
}

fn is_last(query: &MispQuery, count: u64) -> bool {
    let is_filtered = FILTERED_LATER.iter().any(|name| query.filter.contains_key(*name));
    count == 0 || (count < u64::from(query.page_size) && !is_filtered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_search_is_for_detection_and_later_ones_for_what_changed() {
        let mut query =
            MispQuery { types: vec!["ip-dst".into()], page_size: 7, ..MispQuery::default() };
        let text = |query: &MispQuery, since| Value::Object(search(query, since)).to_string();
        assert_eq!(
            text(&query, None),
            r#"{"includeEventTags":true,"limit":7,"returnFormat":"json","to_ids":1,"type":"ip-dst"}"#
        );
        let since = Some(Timestamp::from_second(1_700_000_000).unwrap());
        query.types.push("ip-src".into());
        query.filter.insert("published".into(), json!(true));
        query.filter.insert("includeEventTags".into(), json!([]));
        assert_eq!(
            text(&query, since),
            r#"{"attribute_timestamp":1700000000,"deleted":[0,1],"limit":7,"published":true,"returnFormat":"json","type":["ip-dst","ip-src"]}"#
        );
    }

    #[test]
    fn a_short_page_is_the_last_unless_it_was_filtered_later() {
        let mut query = MispQuery { page_size: 10, ..MispQuery::default() };
        assert_eq!([0, 9, 10].map(|count| is_last(&query, count)), [true, true, false]);
        query.filter.insert("enforceWarninglist".into(), json!(true));
        assert_eq!([0, 9, 10].map(|count| is_last(&query, count)), [true, false, false]);
    }

    #[test]
    fn the_url_is_that_of_the_server_or_of_its_search() {
        for url in [
            "https://h/",
            "https://h",
            "https://h/attributes/restSearch",
            "https://h/attributes/restSearch/",
        ] {
            let found = search_url(&url.parse().unwrap());
            assert_eq!(found.path().trim_end_matches('/'), "/attributes/restSearch", "{url}");
        }
        let found = search_url(&"https://h/misp/".parse().unwrap());
        assert_eq!(found.as_str(), "https://h/misp/attributes/restSearch");
    }
}
