//! Feeds that are one document at one URL: requested with `If-None-Match` and `If-Modified-Since`
//! (RFC 9110, 13.1) once their version is known.

use reqwest::header::{
    ETAG, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{StatusCode, Url};

use super::Task;
use super::body::{BodyWriter, documents};
use super::error::FetchError;
use super::http::{Call, Session};
use crate::intel::pull::Validators;
use crate::intel::pull::{Cursor, Extent, PullOutcome};

/// Gets the document, unless it is still the version of the cursor.
pub(super) async fn pull(
    session: &Session<'_>,
    url: &Url,
    task: Task<'_>,
) -> Result<PullOutcome, FetchError> {
    let conditions = match task.cursor {
        Cursor::Version(known) => conditions(known),
        _ => Vec::new(),
    };
    let is_conditional = !conditions.is_empty();
    let call = conditions
        .into_iter()
        .fold(Call::get(url.clone()), |call, (name, value)| call.with(name, value));
    let reply = session.send(call).await?;
    if reply.status() == StatusCode::NOT_MODIFIED && is_conditional {
        return Ok(PullOutcome::NotModified);
    }
    let reply = reply.good()?;
    let cursor = Cursor::Version(Validators {
        etag: reply.header(&ETAG).map(str::to_owned),
        last_modified: reply.header(&LAST_MODIFIED).map(str::to_owned),
    });
    let max = task.feed.max_bytes;
    let mut documents = documents(task.folder, max)?;
    reply.save(BodyWriter::new(&mut documents, max)).await?;
    Ok(PullOutcome::New { documents, extent: Extent::Snapshot, cursor })
}

/// Headers of saved validators; one that is not a valid header value is omitted.
fn conditions(known: &Validators) -> Vec<(HeaderName, HeaderValue)> {
    [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.last_modified)]
        .into_iter()
        .filter_map(|(name, text)| Some((name, HeaderValue::try_from(text.as_deref()?).ok()?)))
        .collect()
}
