//! Microsoft Sentinel: the indicators of a workspace, by `queryIndicators` of the management API
//! (threat intelligence indicators, api-version 2025-09-01), with a token of Microsoft Entra ID by
//! client credentials (RFC 6749, 4.4).

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{StatusCode, Url};
use serde_json::{Map, Value};

use super::body::{BodyWriter, documents};
use super::error::FetchError;
use super::http::{Call, Session, is_home};
use super::pages::{PageParameter, Pages};
use super::scan::Scan;
use super::{Task, blocking};
use crate::base::clock::signed;
use crate::http::{AccessError, AccessToken, FORM, form, redacted_url, token_url};
use crate::intel::config::query::{FeedQuery, WorkspaceQuery};
use crate::intel::pull::{Cursor, Extent, PullOutcome};

const API_VERSION: &str = "2025-09-01";
const PAGE: PageParameter =
    PageParameter { name: "the token of its nextLink", remedy: "report it to Microsoft" };
/// Time before its expiry from which a token is replaced.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);

/// A token, and the time at which it is replaced.
#[derive(Clone)]
pub(super) struct Token {
    value: HeaderValue,
    until: Timestamp,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token until {}", self.until)
    }
}

/// Pulls all indicators. `token` is that of the previous pull, and is replaced if it is used up.
pub(super) async fn pull(
    session: &Session<'_>,
    url: &Url,
    task: Task<'_>,
    token: &mut Option<Token>,
) -> Result<PullOutcome, FetchError> {
    let FeedQuery::Sentinel(query) = &task.feed.query else {
        return Err(FetchError::Protocol("no workspace is named; set workspace".to_owned()));
    };
    let bearer = match token.take().filter(|token| token.until > session.now) {
        Some(good) => token.insert(good),
        None => token.insert(log_in(session, query, url).await?),
    };
    let bearer = bearer.value.clone();
    let max = task.feed.max_bytes;
    let mut documents = documents(task.folder, max)?;
    let mut body = Map::new();
    body.insert("pageSize".to_owned(), query.page_size.into());
    body.insert("includeDisabled".to_owned(), false.into());
    let mut url = query_url(url, query)?;
    let mut pages = Pages::new(PAGE, query.page_size);
    loop {
        pages.begin(session)?;
        let text = Value::Object(body.clone()).to_string().into_bytes();
        let call =
            Call::post(url.clone(), "application/json", text).with(AUTHORIZATION, bearer.clone());
        let reply = match session.request(call).await {
            Err(FetchError::Denied { status, url, .. }) => {
                *token = None;
                let hint = match status {
                    StatusCode::FORBIDDEN => {
                        "give client_id the role Microsoft Sentinel Reader on the workspace"
                    }
                    _ => "the token is not for this server; check url and login_url",
                };
                return Err(FetchError::Denied { status, url, hint });
            }
            Err(FetchError::Status { status: status @ StatusCode::NOT_FOUND, url }) => {
                let hint = "check subscription, resource_group and workspace";
                return Err(FetchError::Denied { status, url, hint });
            }
            other => other?,
        };
        let mut scan = Scan::new(&["nextLink"], &[&["value"]]);
        reply.save(BodyWriter::new(&mut documents, max).scanned_by(&mut scan)).await?;
        let next = scan.value("nextLink").filter(|next| !next.is_empty());
        pages.check(&scan, next.is_some())?;
        let Some(next) = next else {
            let cursor = Cursor::Start;
            return Ok(PullOutcome::New { documents, extent: Extent::Snapshot, cursor });
        };
        follow(session.home, &mut url, &mut body, &next)?;
    }
}

/// The next page: the same query with the `skipToken` of the link, or the link itself.
fn follow(
    home: &Url,
    url: &mut Url,
    body: &mut Map<String, Value>,
    next: &str,
) -> Result<(), FetchError> {
    let no_link =
        || FetchError::Protocol("its nextLink is not a URL; report it to Microsoft".to_owned());
    let link = url.join(next).map_err(|_invalid| no_link())?;
    let token = link
        .query_pairs()
        .find(|(name, _)| name.trim_start_matches('$').eq_ignore_ascii_case("skipToken"))
        .map(|(_, value)| value.into_owned());
    match token {
        Some(token) if body.get("skipToken").and_then(Value::as_str) == Some(token.as_str()) => {
            Err(FetchError::Protocol(
                "its pages link to themselves; report it to Microsoft".to_owned(),
            ))
        }
        Some(token) => {
            body.insert("skipToken".to_owned(), token.into());
            Ok(())
        }
        None if link == *url => Err(FetchError::Protocol(
            "its pages link to themselves; report it to Microsoft".to_owned(),
        )),
        None if is_home(home, &link) => {
            *url = link;
            Ok(())
        }
        None => Err(FetchError::Protocol(format!(
            "its nextLink is on another server, {}; set url to that one if it is right",
            redacted_url(&link)
        ))),
    }
}

fn query_url(base: &Url, query: &WorkspaceQuery) -> Result<Url, FetchError> {
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| FetchError::Protocol("url is no base; set url to a server".to_owned()))?
        .pop_if_empty()
        .extend(["subscriptions", &query.subscription])
        .extend(["resourceGroups", &query.resource_group])
        .extend(["providers", "Microsoft.OperationalInsights", "workspaces", &query.workspace])
        .extend(["providers", "Microsoft.SecurityInsights", "threatIntelligence", "main"])
        .push("queryIndicators");
    url.query_pairs_mut().append_pair("api-version", API_VERSION);
    Ok(url)
}

async fn log_in(
    session: &Session<'_>,
    query: &WorkspaceQuery,
    management: &Url,
) -> Result<Token, FetchError> {
    let secret = query.client_secret.clone();
    let secret = blocking(move || Ok(secret.read().map_err(AccessError::from)?)).await?;
    let url = token_url(&query.login_url, &query.tenant)
        .ok_or_else(|| FetchError::Protocol("login_url is no base; set a server".to_owned()))?;
    let audience =
        format!("{}://{}", management.scheme(), management.host_str().unwrap_or_default());
    let form = form(&query.login_url, &query.client_id, &secret, &format!("{audience}/.default"));
    let call = Call::post(url, FORM, form);
    let reply = session.send(call).await?;
    let date = reply.date();
    if matches!(reply.status().as_u16(), 400 | 401 | 403) {
        return Err(FetchError::Denied {
            status: reply.status(),
            url: redacted_url(&query.login_url),
            hint: "no token is given; check tenant, client_id and client_secret",
        });
    }
    let bytes = reply.good()?.small().await?;
    let grant = AccessToken::parse(&bytes).ok_or_else(|| {
        FetchError::Protocol("login_url returns no token; check login_url".to_owned())
    })?;
    let life = signed(grant.lifetime) - MARGIN;
    let until = session.now.checked_add(life).unwrap_or(date);
    Ok(Token { value: grant.bearer, until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_on_the_same_server_only() {
        let home: Url = "https://m.example/".parse().unwrap();
        let at: Url = "https://m.example/q?api-version=1".parse().unwrap();
        for (next, want) in [
            ("https://m.example/q?$skipToken=a%20b", Ok(Some("a b"))),
            ("https://evil.example/q?%24skipToken=x", Ok(Some("x"))),
            ("https://m.example/q2", Ok(None)),
            ("https://evil.example/q2", Err("another server")),
            ("https://m.example/q?api-version=1", Err("link to themselves")),
            ("https://[", Err("not a URL")),
        ] {
            let (mut url, mut body) = (at.clone(), Map::new());
            match (follow(&home, &mut url, &mut body, next), want) {
                (Ok(()), Ok(token)) => {
                    assert_eq!(body.get("skipToken").and_then(Value::as_str), token);
                    assert_eq!(url.host_str(), Some("m.example"));
                    assert!(follow(&home, &mut url, &mut body, next).is_err(), "{next} again");
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, _) => panic!("{next}: {found:?}"),
            }
        }
    }
}
