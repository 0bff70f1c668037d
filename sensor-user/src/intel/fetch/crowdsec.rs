//! `CrowdSec`: the decisions stream of a Local API. The server keeps the position of each
//! key. After a failed pull, or a start of the agent, all decisions are requested.

use reqwest::Url;
use uuid::Uuid;

use super::Task;
use super::body::{BodyWriter, documents};
use super::error::FetchError;
use super::http::{Call, REDIRECTED, Session};
use super::scan::Scan;
use crate::intel::config::query::{CrowdSecQuery, FeedQuery};
use crate::intel::pull::{Cursor, Extent, PullOutcome};

const PATH: &str = "v1/decisions/stream";

/// Pulls all decisions if `all`, else those added and deleted since the last pull.
pub(super) async fn pull(
    session: &Session<'_>,
    url: &Url,
    task: Task<'_>,
    all: bool,
) -> Result<PullOutcome, FetchError> {
    let usual = CrowdSecQuery::default();
    let query = if let FeedQuery::CrowdSec(query) = &task.feed.query { query } else { &usual };
    let reply = match session.request(Call::get(stream_url(url, query, all))).await {
        Err(FetchError::Denied { status, url, hint }) if hint != REDIRECTED => {
            return Err(FetchError::Denied {
                status,
                url,
                hint: "the server does not know the key; create one with cscli bouncers add NAME",
            });
        }
        other => other?,
    };
    let max = task.feed.max_bytes;
    let mut documents = documents(task.folder, max)?;
    let mut scan = Scan::new(&["new", "deleted"], &[&["new"], &["deleted"]]);
    reply.save(BodyWriter::new(&mut documents, max).scanned_by(&mut scan)).await?;
    // The parser refuses a document without both.
    let is_stream = scan.has("new") || scan.has("deleted");
    if !all && is_stream && scan.items() == 0 {
        return Ok(PullOutcome::NotModified);
    }
    let extent = if all { Extent::Snapshot } else { Extent::Changes { replaced: Vec::new() } };
    let cursor = Cursor::After(Uuid::new_v4().to_string());
    Ok(PullOutcome::New { documents, extent, cursor })
}

fn stream_url(url: &Url, query: &CrowdSecQuery, all: bool) -> Url {
    let mut url = url.clone();
    let path = url.path().trim_end_matches('/');
    if !path.ends_with(PATH) {
        let path = format!("{path}/{PATH}");
        url.set_path(&path);
    }
    let mut pairs = url.query_pairs_mut();
    pairs.append_pair("startup", if all { "true" } else { "false" });
    // Else only the longest decision of an address is in the response, and only it is ever deleted: the filters
    // apply afterwards, so that a ban of this host is hidden by a longer one of the community.
    // https://github.com/crowdsecurity/crowdsec/issues/3373
    pairs.append_pair("dedup", "false");
    for (name, words) in [
        ("scopes", &query.scopes),
        ("origins", &query.origins),
        ("scenarios_containing", &query.scenarios_containing),
        ("scenarios_not_containing", &query.scenarios_not_containing),
    ] {
        if !words.is_empty() {
            pairs.append_pair(name, &words.join(","));
        }
    }
    drop(pairs);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_requested_as_configured() {
        let query =
            CrowdSecQuery { scopes: vec!["ip".into(), "range".into()], ..CrowdSecQuery::default() };
        for url in ["http://h:1", "http://h:1/", "http://h:1/v1/decisions/stream"] {
            assert_eq!(
                stream_url(&url.parse().unwrap(), &query, true).as_str(),
                "http://h:1/v1/decisions/stream?startup=true&dedup=false&scopes=ip%2Crange"
            );
        }
        let url = stream_url(&"http://h/lapi".parse().unwrap(), &CrowdSecQuery::default(), false);
        assert_eq!(url.as_str(), "http://h/lapi/v1/decisions/stream?startup=false&dedup=false");
    }
}
