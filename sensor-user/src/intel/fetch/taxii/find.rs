//! Discovery of the collections: from a discovery resource, an API root, its collections, or one collection.

use std::collections::BTreeMap;

use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::{check_media_type, send};
use crate::base::escape::escaped;
use crate::http::redacted_url;
use crate::intel::config::query::TaxiiQuery;
use crate::intel::fetch::error::FetchError;
use crate::intel::fetch::http::{Session, is_home};

/// Maximum number of API roots of a server, and of collections.
const RESOURCES_MAX: usize = 256;

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

/// A collection and where it is.
struct Found {
    collection: Collection,
    url: Url,
}

/// URLs of the objects of the requested collections, by the URLs of the collections.
pub(super) async fn collections(
    session: &Session<'_>,
    url: &Url,
    query: &TaxiiQuery,
) -> Result<BTreeMap<String, Url>, FetchError> {
    let mut url = url.clone();
    slash(&mut url);
    let words: Vec<&str> = url.path().trim_matches('/').rsplit('/').collect();
    let found = match words.as_slice() {
        ["objects", _id, "collections", ..] => {
            let collection = join(&url, "../")?;
            return Ok(BTreeMap::from([(collection.to_string(), url)]));
        }
        [_id, "collections", ..] => {
            return Ok(BTreeMap::from([(url.to_string(), join(&url, "objects/")?)]));
        }
        ["collections", ..] => of_list(session, &url).await?,
        _ => of_server(session, &url).await?,
    };
    let mut chosen = BTreeMap::new();
    for found in choose(found, query)? {
        chosen.insert(found.url.to_string(), join(&found.url, "objects/")?);
    }
    Ok(chosen)
}

/// Returns the collections of a discovery resource or an API root.
async fn of_server(session: &Session<'_>, url: &Url) -> Result<Vec<Found>, FetchError> {
    let resource: Resource = get(session, url).await?;
    let Some(roots) = resource.api_roots else {
        return of_list(session, &join(url, "collections/")?).await;
    };
    let mut all = Vec::new();
    for root in roots_of(session.home, url, resource.default.into_iter().chain(roots))? {
        match of_list(session, &join(&root, "collections/")?).await {
            Ok(found) => all.extend(found),
            // An API root that is not readable for this user, or is gone.
            Err(
                FetchError::Denied { status: StatusCode::FORBIDDEN, .. }
                | FetchError::Status(StatusCode::NOT_FOUND),
            ) => {
                tracing::debug!(
                    root = redacted_url(&root),
                    "API root is not readable for this user"
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// The API roots on the feed's own server, each once. They may be relative (opentaxii's are).
fn roots_of(
    home: &Url,
    url: &Url,
    named: impl Iterator<Item = String>,
) -> Result<Vec<Url>, FetchError> {
    let (mut roots, mut foreign): (Vec<Url>, Option<Url>) = (Vec::new(), None);
    for name in named.take(RESOURCES_MAX) {
        let Ok(mut root) = url.join(&name) else { continue };
        slash(&mut root);
        if !is_home(home, &root) {
            foreign = Some(root);
        } else if !roots.contains(&root) {
            roots.push(root);
        }
    }
    match (roots.is_empty(), foreign) {
        (true, Some(root)) => Err(FetchError::Protocol(format!(
            "its API roots are on another server, {}; set url to one if that is right",
            redacted_url(&root)
        ))),
        _ => Ok(roots),
    }
}

async fn of_list(session: &Session<'_>, url: &Url) -> Result<Vec<Found>, FetchError> {
    let list: Collections = get(session, url).await?;
    let mut all = Vec::new();
    for collection in list.collections.into_iter().take(RESOURCES_MAX) {
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
fn choose(found: Vec<Found>, query: &TaxiiQuery) -> Result<Vec<Found>, FetchError> {
    let is_named = |collection: &Collection, name: &String| {
        *name == collection.id
            || *name == collection.title
            || collection.alias.as_ref() == Some(name)
    };
    let there = || {
        let names =
            found.iter().take(8).map(|it| format!("{:?}", escaped(&it.collection.title, 60)));
        names.collect::<Vec<_>>().join(", ")
    };
    for name in &query.collections {
        match found.iter().find(|it| is_named(&it.collection, name)) {
            None => {
                return Err(FetchError::Protocol(format!(
                    "has no collection {name:?}; there are {}",
                    there()
                )));
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
        return Err(FetchError::Protocol(
            "has no collection that this user may read; check user, password and token".to_owned(),
        ));
    }
    Ok(found.into_iter().filter(is_chosen).collect())
}

async fn get<T: serde::de::DeserializeOwned>(
    session: &Session<'_>,
    url: &Url,
) -> Result<T, FetchError> {
    let reply = check_media_type(send(session, url.clone()).await?.good()?)?;
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
            match (choose(all(), &query), want) {
                (Ok(found), Ok(ids)) => {
                    let found: Vec<_> = found.iter().map(|it| it.collection.id.as_str()).collect();
                    assert_eq!(found, ids);
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                _ => panic!("{names:?}"),
            }
        }
        assert!(choose(vec![found("2", "two", false)], &TaxiiQuery::default()).is_err());
    }

    #[test]
    fn api_roots_are_those_of_the_own_server() {
        let home: Url = "https://h/taxii2/".parse().unwrap();
        let roots = |names: &[&str]| {
            roots_of(&home, &home, names.iter().map(ToString::to_string))
                .map(|roots| roots.iter().map(ToString::to_string).collect::<Vec<_>>())
                .map_err(|error| error.to_string())
        };
        let names = ["/taxii2/1/", "https://h/taxii2/1", "/b", "https://evil.example/", "::"];
        assert_eq!(
            roots(&names).unwrap(),
            ["https://h/taxii2/1/", "https://h/b/", "https://h/taxii2/::/"]
        );
        assert!(
            roots(&["https://other/x/"]).unwrap_err().contains("another server, https://other/x/")
        );
        assert_eq!(roots(&[]).unwrap(), [""; 0]);
    }
}
