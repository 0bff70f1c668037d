//! Outcome of a `_bulk` request.

use std::collections::HashMap;

use serde::Deserialize;

use crate::base::escape::escaped;
use crate::deliver::DeliverError;
use crate::deliver::batch::{ItemError, SendOutcome};
use crate::deliver::sinks::http_client::SinkResponse;

/// Maximum size of a response, bytes: some hundred for each of 10,000 items.
pub(super) const RESPONSE_MAX: usize = 16 << 20;

#[derive(Debug, Deserialize)]
struct BulkResponse {
    errors: bool,
    #[serde(default)]
    items: Vec<HashMap<String, ItemResult>>,
}

#[derive(Debug, Deserialize)]
struct ItemResult {
    status: u16,
    error: Option<BulkError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BulkError {
    r#type: String,
    reason: String,
}

/// Outcome of `count` documents.
pub(super) fn outcome(response: SinkResponse, count: usize) -> Result<SendOutcome, DeliverError> {
    let hint = match response.status {
        200..=299 => return item_outcomes(response, count),
        401 | 403 => "check user, password, token and what they may write",
        404 => "check url",
        _ => "",
    };
    Err(response.into_error(hint))
}

fn item_outcomes(response: SinkResponse, count: usize) -> Result<SendOutcome, DeliverError> {
    let Ok(bulk) = serde_json::from_slice::<BulkResponse>(&response.body) else {
        let reason = "the response is not one to _bulk; check url and any proxy before the server";
        return Err(response.into_unexpected(reason));
    };
    if !bulk.errors {
        return Ok(SendOutcome::default());
    }
    let results: Vec<_> = bulk.items.into_iter().filter_map(|it| it.into_values().next()).collect();
    if results.len() != count {
        let reason = "the response has not one item for each document; check the server";
        return Err(response.into_unexpected(reason));
    }
    let status = results.first().map_or(response.status, |first| first.status);
    let mut outcome = SendOutcome::default();
    for (index, result) in results.into_iter().enumerate() {
        outcome.record(index, result.into_result());
    }
    match outcome.failure(count) {
        Some(text) => {
            let SinkResponse { url, retry_after, .. } = response;
            let hint = "check the indices, and what user or token may write";
            Err(DeliverError::Status { url, status, text, hint, retry_after })
        }
        None => Ok(outcome),
    }
}

impl ItemResult {
    fn into_result(self) -> Result<(), ItemError> {
        let Self { status, error } = self;
        let reason = || {
            error.map_or_else(
                || format!("status {status}"),
                |error| format!("{}: {}", escaped(&error.r#type, 100), escaped(&error.reason, 300)),
            )
        };
        match status {
            // 409: it exists since an earlier attempt.
            200..=299 | 409 => Ok(()),
            // 401, 403 and 404 are not about the document: the index is missing or read-only.
            401 | 403 | 404 | 429 | 500..=599 => Err(ItemError::Retry(reason())),
            _ => Err(ItemError::Rejected(reason())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::FailureAction;

    fn outcome_of(body: &str, count: usize) -> Result<SendOutcome, (FailureAction, String)> {
        let url = "http://h/_bulk".to_owned();
        let body = body.as_bytes().to_vec();
        let response =
            SinkResponse { url, status: 200, retry_after: None, body, has_credentials: false };
        outcome(response, count).map_err(|error| (error.action(), error.to_string()))
    }

    #[test]
    fn each_item_is_evaluated_on_its_own() {
        let items = r#"{"errors":true,"items":[
            {"create":{"status":201}},
            {"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"x"}}},
            {"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"x"}}},
            {"create":{"status":400,"error":{"type":"document_parsing_exception","reason":"bad\n\"ip\""}}},
            {"create":{"status":503}},
            {"create":{"status":422}}]}"#;
        let reason = "document_parsing_exception: bad\\n\\\"ip\\\"".to_owned();
        let want = SendOutcome {
            retry: vec![2, 4],
            retry_after: None,
            retry_reason: None,
            rejected: vec![(3, reason), (5, "status 422".to_owned())],
        };
        assert_eq!(outcome_of(items, 6), Ok(want));
        assert_eq!(outcome_of(r#"{"errors":false}"#, 6), Ok(SendOutcome::default()));
        assert_eq!(outcome_of(r#"{"errors":false,"items":[]}"#, 6), Ok(SendOutcome::default()));
    }

    #[test]
    fn a_response_that_delivers_nothing_keeps_the_batch() {
        let all = r#"{"errors":true,"items":[{"create":{"status":404,"error":{"type":"index_not_found_exception","reason":"no such index"}}}]}"#;
        for (body, count, expected) in [
            (all, 1, "index_not_found_exception: no such index; check the indices"),
            (all, 2, "not one item for each document"),
            ("<html>", 1, "not one to _bulk"),
            ("", 1, "not one to _bulk"),
        ] {
            let (action, error) = outcome_of(body, count).unwrap_err();
            assert_eq!(action, FailureAction::Retry { after: None });
            assert!(error.contains(expected), "{error}");
        }
    }
}
