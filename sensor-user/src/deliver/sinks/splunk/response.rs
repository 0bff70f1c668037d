//! Outcome of a request that the collector did not accept as a whole.

use serde::Deserialize;

use crate::base::escape::escaped;
use crate::deliver::DeliverError;
use crate::deliver::batch::SendOutcome;
use crate::deliver::sinks::http_client::SinkResponse;

/// Maximum size of a response, bytes.
pub(super) const RESPONSE_MAX: usize = 64 << 10;

#[derive(Debug, Default, Deserialize)]
struct CollectorResponse {
    #[serde(default)]
    text: String,
    #[serde(default)]
    code: u16,
    /// Index of the refused event; those before it are indexed.
    #[serde(rename = "invalid-event-number")]
    invalid: Option<usize>,
}

/// "Server is busy": the queues are full.
const BUSY: u16 = 9;
/// Health problems: queues are full, the acknowledgement service is unavailable, or both.
const UNHEALTHY: std::ops::RangeInclusive<u16> = 18..=20;
/// Errors of the channel, of acknowledgement and of authentication, which concern every event.
const SETTINGS: [u16; 4] = [10, 11, 14, 16];
/// "Incorrect index": it does not exist, or the token may not write to it.
const BAD_INDEX: u16 = 7;

fn parse(response: &SinkResponse) -> CollectorResponse {
    serde_json::from_slice(&response.body).unwrap_or_default()
}

/// Code of the collector; 0 for a success, or for a response of another server.
pub(super) fn code(response: &SinkResponse) -> u16 {
    parse(response).code
}

/// Outcome of `count` events.
pub(super) fn error_outcome(
    response: SinkResponse,
    count: usize,
) -> Result<SendOutcome, DeliverError> {
    let CollectorResponse { text, code, invalid } = parse(&response);
    let hint = match (response.status, code) {
        (401 | 403, _) => "check token",
        (404, _) => "check url; is the HTTP Event Collector on?",
        // This code counts events from one, and does not concern the event.
        (400, BAD_INDEX) => match invalid {
            Some(number) if (2..=count).contains(&number) => {
                let retry = (number - 1..count).collect();
                return Ok(SendOutcome { retry, ..SendOutcome::default() });
            }
            _ => "check index; the token must be allowed to write to it",
        },
        (400, code) if SETTINGS.contains(&code) => {
            "check acknowledge, and the settings of the token at the collector"
        }
        (400, _) => match invalid {
            Some(index) if index < count => {
                let reason = format!("{} (code {code})", escaped(&text, 200));
                let retry = (index + 1..count).collect();
                let rejected = vec![(index, reason)];
                return Ok(SendOutcome { retry, rejected, ..SendOutcome::default() });
            }
            _ => "",
        },
        (503, BUSY) => "the server is busy: its queues are full",
        (503, code) if UNHEALTHY.contains(&code) => "the collector is unhealthy",
        _ => "",
    };
    Err(response.into_error(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::FailureAction;

    fn outcome(status: u16, body: &str) -> Result<SendOutcome, FailureAction> {
        let url = "http://h/".to_owned();
        let body = body.as_bytes().to_vec();
        let response =
            SinkResponse { url, status, retry_after: None, body, has_credentials: false };
        error_outcome(response, 4).map_err(|error| error.action())
    }

    #[test]
    fn a_response_identifies_the_indexed_events() {
        let later = Err(FailureAction::Retry { after: None });
        let partial = |retry: &[usize], rejected: Vec<(usize, String)>| {
            Ok(SendOutcome { retry: retry.to_vec(), rejected, ..SendOutcome::default() })
        };
        let no_event = |at| vec![(at, "Event field is required (code 12)".to_owned())];
        for (status, body, want) in [
            (503, r#"{"text":"Server is busy","code":9}"#, later.clone()),
            (500, r#"{"text":"Internal server error","code":8}"#, later.clone()),
            (401, r#"{"text":"Token is required","code":2}"#, later.clone()),
            (403, r#"{"text":"Invalid token","code":4}"#, later.clone()),
            (404, "", later.clone()),
            (413, "", Err(FailureAction::Split)),
            (400, r#"{"text":"Invalid data format","code":6}"#, Err(FailureAction::Isolate)),
            (400, "not JSON", Err(FailureAction::Isolate)),
            (
                400,
                r#"{"text":"Event field is required","code":12,"invalid-event-number":1}"#,
                partial(&[2, 3], no_event(1)),
            ),
            (
                400,
                r#"{"text":"Event field is required","code":12,"invalid-event-number":3}"#,
                partial(&[], no_event(3)),
            ),
            (
                400,
                r#"{"text":"Event field is required","code":12,"invalid-event-number":4}"#,
                Err(FailureAction::Isolate),
            ),
            (400, r#"{"text":"Data channel is missing","code":10}"#, later.clone()),
            (400, r#"{"text":"ACK is disabled","code":14}"#, later.clone()),
            (400, r#"{"text":"Incorrect index","code":7,"invalid-event-number":1}"#, later),
            (
                400,
                r#"{"text":"Incorrect index","code":7,"invalid-event-number":3}"#,
                partial(&[2, 3], vec![]),
            ),
        ] {
            assert_eq!(outcome(status, body), want, "{status} {body}");
        }
    }
}
