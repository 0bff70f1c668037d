//! Outcome of a `_bulk` request.

use std::collections::HashMap;

use serde::Deserialize;

use crate::base::escape::escaped;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Accepted, ItemError, SendOutcome};
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
    caused_by: Option<Box<Self>>,
}

/// Errors of one document. It would be refused again.
const DOCUMENT_ERRORS: &[&str] = &[
    "document_parsing_exception",
    "input_coercion_exception",
    "json_parse_exception",
    "mapper_parsing_exception",
    "max_bytes_length_exceeded_exception",
    "parse_exception",
    "parsing_exception",
    "strict_dynamic_mapping_exception",
    "x_content_parse_exception",
];
/// Errors of the index, the cluster or a quota, also with status 400. They hold up every document.
const INDEX_ERRORS: &[&str] = &[
    "alias_not_found_exception",
    "circuit_breaking_exception",
    "cluster_block_exception",
    "index_closed_exception",
    "index_create_block_exception",
    "index_not_found_exception",
    "invalid_alias_name_exception",
    "invalid_index_name_exception",
    "process_cluster_event_timeout_exception",
    "resource_not_found_exception",
    "security_exception",
    "unavailable_shards_exception",
    // The maximum number of open shards is reached.
    "validation_exception",
];
/// Start of the reasons about a limit of the mapping, such as `Limit of total fields [1000] has been
/// exceeded`. The type of these errors is that of any invalid argument.
const MAPPING_LIMIT: &str = "Limit of ";

impl BulkError {
    /// True if the error is about the document. An unknown error is, if the index accepts others.
    fn is_about_document(&self, accepts_others: bool) -> bool {
        let mut causes = std::iter::successors(Some(self), |error| error.caused_by.as_deref());
        if causes.any(|error| error.reason.starts_with(MAPPING_LIMIT)) {
            return false;
        }
        let is_in = |types: &[&str]| types.contains(&&*self.r#type);
        is_in(DOCUMENT_ERRORS) || accepts_others && !is_in(INDEX_ERRORS)
    }
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
    let accepts_others = results.iter().any(ItemResult::is_accepted);
    let mut outcome = SendOutcome::default();
    for (index, result) in results.into_iter().enumerate() {
        outcome.record(index, result.into_result(accepts_others));
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
    fn is_accepted(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    fn into_result(self, accepts_others: bool) -> Result<Accepted, ItemError> {
        let Self { status, error } = self;
        let reason = || match &error {
            None => format!("status {status}"),
            Some(error) => {
                format!("{}: {}", escaped(&error.r#type, 100), escaped(&error.reason, 300))
            }
        };
        match status {
            200..=299 => Ok(Accepted::Stored),
            // A document with its id exists, since an earlier attempt.
            409 => Ok(Accepted::AlreadyStored),
            // 401, 403 and 404 are not about the document: the index is missing or read-only.
            401 | 403 | 404 | 429 | 500..=599 => Err(ItemError::Retry(reason())),
            400 if !error.as_ref().is_some_and(|it| it.is_about_document(accepts_others)) => {
                Err(ItemError::Retry(reason()))
            }
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
            already_stored: 1,
        };
        assert_eq!(outcome_of(items, 6), Ok(want));
        assert_eq!(outcome_of(r#"{"errors":false}"#, 6), Ok(SendOutcome::default()));
        assert_eq!(outcome_of(r#"{"errors":false,"items":[]}"#, 6), Ok(SendOutcome::default()));
    }

    /// Response with one error of status 400 before the documents of `statuses`.
    fn with_error(error: &str, statuses: &[u16]) -> Result<SendOutcome, (FailureAction, String)> {
        let accepted =
            statuses.iter().map(|status| format!(r#",{{"create":{{"status":{status}}}}}"#));
        let accepted: String = accepted.collect();
        let first = format!(r#"{{"create":{{"status":400,"error":{error}}}}}"#);
        let body = format!(r#"{{"errors":true,"items":[{first}{accepted}]}}"#);
        outcome_of(&body, statuses.len() + 1)
    }

    #[test]
    fn an_error_of_the_index_or_the_cluster_holds_the_documents() {
        for error in [
            r#"{"type":"validation_exception","reason":"this action would add [2] shards, but this cluster currently has [1000]/[1000] maximum normal shards open"}"#,
            r#"{"type":"index_closed_exception","reason":"closed"}"#,
            r#"{"type":"invalid_index_name_exception","reason":"Invalid index name [A], must be lowercase"}"#,
            r#"{"type":"illegal_argument_exception","reason":"Limit of total fields [1000] has been exceeded"}"#,
            r#"{"type":"document_parsing_exception","reason":"failed","caused_by":{"type":"illegal_argument_exception","reason":"Limit of total fields [1000] has been exceeded while adding new fields [1]"}}"#,
            r#"{"type":"mapper_parsing_exception","reason":"failed","caused_by":{"type":"x","reason":"y","caused_by":{"type":"z","reason":"Limit of mapping depth [20] has been exceeded"}}}"#,
        ] {
            let (action, _) = with_error(error, &[]).unwrap_err();
            assert_eq!(action, FailureAction::Retry { after: None }, "{error}");
            let outcome = with_error(error, &[201]).unwrap();
            assert_eq!((outcome.retry, outcome.rejected), (vec![0], vec![]), "{error}");
        }
    }

    #[test]
    fn an_unknown_error_is_about_the_document_if_the_index_accepts_others() {
        let unknown =
            r#"{"type":"illegal_argument_exception","reason":"mapper [x] cannot be changed"}"#;
        for (error, statuses, is_rejected) in [
            (unknown, &[201, 429][..], true),
            (unknown, &[409], false),
            (unknown, &[], false),
            (r#"{"type":"document_parsing_exception","reason":"x"}"#, &[], true),
            ("null", &[201], false),
        ] {
            let rejected = with_error(error, statuses).is_ok_and(|it| it.rejected.len() == 1);
            assert_eq!(rejected, is_rejected, "{error} {statuses:?}");
        }
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
