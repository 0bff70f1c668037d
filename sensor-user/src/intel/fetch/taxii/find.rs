//! Discovery of the collections: from a discovery resource, an API root, its collections, or one collection.

use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::targets::{Target, Targets};
use super::{check_media_type, good, send};
use crate::base::escape::escaped;
use crate::http::redacted_url;
use crate::intel::config::query::TaxiiQuery;
use crate::intel::fetch::error::FetchError;
use crate::intel::fetch::http::{Session, is_home};

/// Maximum number of API roots of a server, and of collections.
const RESOURCES_MAX: usize = 1024;
/// Maximum number of API roots and collections that a message lists.
const LISTED_MAX: usize = 8;

/// A discovery resource or an API root; the keys distinguish them.
#[derive(Deserialize)]
struct Resource {
    api_roots: Option<Vec<String>>,
    #[serde(default)]
    default: Option<String>,
}

#[derive(Deserialize)]
struct Collections {
    /// OASIS' text has it optional.
    #[serde(default)]
    collections: Vec<Collection>,
}

#[derive(Deserialize)]
struct Collection {
    id: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    alias: Option<String>,
    #[serde(default = "yes")]
    can_read: bool,
}

const fn yes() -> bool {
    true
}

/// A collection and its URL.
struct Found {
    collection: Collection,
    url: Url,
}

/// The collections of a server.
#[derive(Default)]
struct Search {
    found: Vec<Found>,
    /// API roots that were passed over, each with the reason.
    passed: Vec<String>,
    /// Their URLs.
    passed_roots: Vec<Url>,
}

/// The requested collections, by their URLs.
pub(super) async fn collections(
    session: &Session<'_>,
    url: &Url,
    query: &TaxiiQuery,
) -> Result<Targets, FetchError> {
    let mut url = url.clone();
    slash(&mut url);
    let words: Vec<&str> = url.path().trim_matches('/').rsplit('/').collect();
    let search = match words.as_slice() {
        ["objects", _id, "collections", ..] => {
            let target = Target { url: join(&url, "../")?, objects: url, is_listed: false };
            return Ok(Targets::one(target));
        }
        [_id, "collections", ..] => {
            let objects = join(&url, "objects/")?;
            return Ok(Targets::one(Target { url, objects, is_listed: false }));
        }
        ["collections", ..] => Search { found: of_list(session, &url).await?, ..Search::default() },
        _ => of_server(session, &url).await?,
    };
    let mut targets = Targets { unreadable: search.unreadable(), ..Targets::default() };
    for Found { url, .. } in choose(search, query)? {
        let objects = join(&url, "objects/")?;
        targets.readable.insert(url.to_string(), Target { url, objects, is_listed: true });
    }
    Ok(targets)
}

impl Search {
    fn unreadable(&self) -> Vec<Url> {
        let closed = self.found.iter().filter(|it| !it.collection.can_read);
        closed.map(|it| it.url.clone()).chain(self.passed_roots.iter().cloned()).collect()
    }
}

/// True if the server has the collection at `url`, readable for this user.
pub(super) async fn is_readable(session: &Session<'_>, url: &Url) -> bool {
    get::<Collection>(session, url).await.is_ok_and(|collection| collection.can_read)
}

/// Returns the collections of a discovery resource or an API root.
async fn of_server(session: &Session<'_>, url: &Url) -> Result<Search, FetchError> {
    let resource: Resource = get(session, url).await?;
    let (roots, default) = match (resource.api_roots, resource.default) {
        (None, None) => return of_root(session, url).await,
        (roots, default) => (roots.unwrap_or_default(), default),
    };
    let mut search = Search::default();
    let (roots, foreign) = roots_of(session.home, url, default.into_iter().chain(roots))?;
    for root in &roots {
        match of_list(session, &join(root, "collections/")?).await {
            Ok(found) => search.found.extend(found),
            // An API root that is not readable for this user, or is gone.
            Err(
                FetchError::Denied { status: status @ StatusCode::FORBIDDEN, .. }
                | FetchError::Status { status: status @ StatusCode::NOT_FOUND, .. },
            ) => {
                search.passed.push(format!("API root {}: status {status}", redacted_url(root)));
                search.passed_roots.push(root.clone());
            }
            Err(error) => return Err(error),
        }
    }
    search.passed.extend(foreign.iter().map(|root| {
        let is_same = root.host_str() == session.home.host_str();
        let what = if is_same { "has another scheme or port" } else { "is on another server" };
        format!(
            "API root {} {what} than url; set url to its address as this host reaches it",
            redacted_url(root)
        )
    }));
    for reason in &search.passed {
        tracing::info!(%reason, "API root passed over");
    }
    if roots.is_empty() && foreign.is_empty() {
        return Err(FetchError::Protocol(
            "its discovery resource lists no API root; set url to one, or report it to its operator"
                .to_owned(),
        ));
    }
    Ok(search)
}

/// Returns the collections of an API root. A discovery resource without API roots may be one.
async fn of_root(session: &Session<'_>, url: &Url) -> Result<Search, FetchError> {
    match of_list(session, &join(url, "collections/")?).await {
        Err(FetchError::Status { status: StatusCode::NOT_FOUND, .. }) => {
            Err(FetchError::Protocol(format!(
                "{}: lists no API root, and has no collections of its own; set url to an API root",
                redacted_url(url)
            )))
        }
        found => Ok(Search { found: found?, ..Search::default() }),
    }
}

/// The API roots on the feed's own server, and the others, each once. They may be relative (opentaxii's are).
fn roots_of(
    home: &Url,
    url: &Url,
    named: impl Iterator<Item = String>,
) -> Result<(Vec<Url>, Vec<Url>), FetchError> {
    let (mut roots, mut foreign) = (Vec::new(), Vec::new());
    // A relative reference without text is the discovery resource itself.
    for (number, name) in named.filter(|name| !name.trim().is_empty()).enumerate() {
        if number == RESOURCES_MAX {
            return Err(too_many("API roots"));
        }
        let Ok(mut root) = url.join(name.trim()) else { continue };
        slash(&mut root);
        let list = if is_home(home, &root) { &mut roots } else { &mut foreign };
        if !list.contains(&root) {
            list.push(root);
        }
    }
    Ok((roots, foreign))
}

fn too_many(what: &str) -> FetchError {
    FetchError::Protocol(format!(
        "lists more than {RESOURCES_MAX} {what}; set url to an API root or a collection"
    ))
}

async fn of_list(session: &Session<'_>, url: &Url) -> Result<Vec<Found>, FetchError> {
    let list: Collections = get(session, url).await?;
    if list.collections.len() > RESOURCES_MAX {
        return Err(too_many("collections"));
    }
    let mut all = Vec::new();
    for collection in list.collections {
        // An id is one segment of the path, whatever characters it has.
        let mut collection_url = url.clone();
        if let Ok(mut path) = collection_url.path_segments_mut() {
            path.pop_if_empty().push(&collection.id).push("");
        }
        all.push(Found { collection, url: collection_url });
    }
    Ok(all)
}

/// The requested collections, or all readable ones.
fn choose(search: Search, query: &TaxiiQuery) -> Result<Vec<Found>, FetchError> {
    let Search { found, passed, .. } = search;
    let is_named = |collection: &Collection, name: &String| {
        *name == collection.id
            || *name == collection.title
            || collection.alias.as_ref() == Some(name)
    };
    for name in &query.collections {
        match found.iter().find(|it| is_named(&it.collection, name)) {
            None if found.is_empty() => return Err(none_chosen(&found, &passed)),
            None => {
                let there = titles(&found);
                return Err(FetchError::Protocol(match passed.first() {
                    None => format!("has no collection {name:?}; there are {there}"),
                    Some(reason) => {
                        format!("has no collection {name:?}; there are {there} ({reason})")
                    }
                }));
            }
            Some(it) if !it.collection.can_read => {
                return Err(FetchError::Protocol(format!(
                    "collection {name:?} is not readable for this user; contact its operator"
                )));
            }
            Some(_) => {}
        }
    }
    let is_chosen = |it: &Found| {
        let collection = &it.collection;
        let is_requested = query.collections.is_empty()
            || query.collections.iter().any(|name| is_named(collection, name));
        collection.can_read && is_requested
    };
    if !found.iter().any(is_chosen) {
        return Err(none_chosen(&found, &passed));
    }
    Ok(found.into_iter().filter(is_chosen).collect())
}

/// The error of a server without a readable collection.
fn none_chosen(found: &[Found], passed: &[String]) -> FetchError {
    let reasons = passed.iter().take(LISTED_MAX).cloned().collect::<Vec<_>>().join("; ");
    FetchError::Protocol(match (found.is_empty(), passed.is_empty()) {
        (true, true) => "lists no collection; check the URL, or contact its operator".to_owned(),
        (true, false) => format!("no collection is found: {reasons}"),
        (false, true) => format!(
            "has no collection that this user may read, only {}; check user, password and token",
            titles(found)
        ),
        (false, false) => {
            format!("has no collection that this user may read, only {}; {reasons}", titles(found))
        }
    })
}

fn titles(found: &[Found]) -> String {
    let title = |it: &Found| {
        let Collection { id, title, .. } = &it.collection;
        format!("\"{}\"", escaped(if title.is_empty() { id } else { title }, 60))
    };
    found.iter().take(LISTED_MAX).map(title).collect::<Vec<_>>().join(", ")
}

async fn get<T: serde::de::DeserializeOwned>(
    session: &Session<'_>,
    url: &Url,
) -> Result<T, FetchError> {
    let reply = check_media_type(good(send(session, url.clone()).await?)?)?;
    let bytes = reply.small().await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        FetchError::Protocol(format!(
            "{}: is no resource of TAXII 2.1 ({error})",
            redacted_url(url)
        ))
    })
}

fn join(url: &Url, more: &str) -> Result<Url, FetchError> {
    url.join(more).map_err(|error| FetchError::Protocol(format!("{}: {error}", redacted_url(url))))
}

/// Adds the slash with which all paths of TAXII end; a query is not part of the path.
fn slash(url: &mut Url) {
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(id: &str, title: &str, can_read: bool) -> Found {
        let collection = Collection { id: id.into(), title: title.into(), alias: None, can_read };
        Found { collection, url: format!("https://h/{id}/").parse().unwrap() }
    }

    #[test]
    fn collections_are_chosen_by_id_or_title() {
        let all =
            || vec![found("1", "one", true), found("2", "two", false), found("3", "three", true)];
        for (names, want) in [
            (&[][..], Ok(&["1", "3"][..])),
            (&["1"], Ok(&["1"])),
            (&["three"], Ok(&["3"])),
            (&["one", "3"], Ok(&["1", "3"])),
            (&["two"], Err("not readable for this user")),
            (&["four"], Err("has no collection \"four\"; there are \"one\", \"two\", \"three\"")),
        ] {
            let collections = names.iter().map(ToString::to_string).collect();
            let query = TaxiiQuery { collections, ..TaxiiQuery::default() };
            match (choose(Search { found: all(), ..Search::default() }, &query), want) {
                (Ok(found), Ok(ids)) => {
                    let found: Vec<_> = found.iter().map(|it| it.collection.id.as_str()).collect();
                    assert_eq!(found, ids);
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                _ => panic!("{names:?}"),
            }
        }
    }

    #[test]
    fn the_reason_for_no_collection_is_reported() {
        let passed = || vec!["API root https://h/b/: status 404 Not Found".to_owned()];
        for (found, passed, error) in [
            (vec![], vec![], "lists no collection; check the URL"),
            (vec![], passed(), "no collection is found: API root https://h/b/: status 404"),
            (vec![found("2", "two", false)], vec![], "may read, only \"two\"; check user"),
            (vec![found("2", "", false)], passed(), "may read, only \"2\"; API root https://h/b/"),
        ] {
            for collections in [vec![], vec!["nope".to_owned()]] {
                if !found.is_empty() && !collections.is_empty() {
                    continue;
                }
                let found = found
                    .iter()
                    .map(|it| self::found(&it.collection.id, &it.collection.title, false))
                    .collect();
                let search = Search { found, passed: passed.clone(), ..Search::default() };
                let query = TaxiiQuery { collections, ..TaxiiQuery::default() };
                let failed = choose(search, &query).err().expect("an error").to_string();
                assert!(failed.contains(error), "{failed}");
            }
        }
    }

    #[test]
    fn api_roots_are_those_of_the_own_server() {
        let home: Url = "https://h/taxii2/".parse().unwrap();
        let roots = |names: &[&str]| {
            let (own, foreign) =
                roots_of(&home, &home, names.iter().map(ToString::to_string)).unwrap();
            [own, foreign].map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let names = ["/taxii2/1/", "https://h/taxii2/1", "/b", "https://evil.example/", "::", " "];
        assert_eq!(
            roots(&names),
            [
                &["https://h/taxii2/1/", "https://h/b/", "https://h/taxii2/::/"][..],
                &["https://evil.example/"]
            ]
        );
        assert_eq!(roots(&["http://h/x/"]), [&[][..], &["http://h/x/"]]);
        assert_eq!(roots(&["", ""]), [[""; 0]; 2]);
        let many = (0..=RESOURCES_MAX).map(|number| format!("/{number}"));
        roots_of(&home, &home, many).unwrap_err();
    }
}
