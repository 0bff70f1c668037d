//! Outcome of an export request, full or partial success (OTLP 1.x, "OTLP/HTTP Response").

use serde_json::Value;
use tokio::time::Instant;

use super::OtlpProtocol;
use crate::base::escape::escaped;
use crate::deliver::DeliverError;
use crate::deliver::batch::SendOutcome;
use crate::deliver::sinks::http_client::SinkResponse;

/// Maximum size of a response, bytes: the limit that the protocol recommends.
pub(super) const RESPONSE_MAX: usize = 4 << 20;

/// Outcome of `count` records.
pub(super) fn outcome(
    protocol: &OtlpProtocol,
    response: SinkResponse,
    count: usize,
) -> Result<SendOutcome, DeliverError> {
    let hint = match response.status {
        200..=299 if response.is_web_page() => return Err(response.into_web_page()),
        200..=299 => {
            count_rejected(protocol, &response);
            return Ok(SendOutcome::default());
        }
        401 | 403 => "check user, password, token and headers",
        404 => "check url",
        405 | 407 | 415 => "check url, and any proxy before the collector",
        // A redirect is not a response of the protocol.
        429 | 502 | 503 | 504 | 413 | 400 | 300..=399 => "",
        // The protocol forbids to retry these.
        status => {
            let reason = format!("status {status}: {}", response.text());
            let rejected = (0..count).map(|index| (index, reason.clone())).collect();
            return Ok(SendOutcome { rejected, ..SendOutcome::default() });
        }
    };
    Err(response.into_error(hint))
}

/// Counts the records that were rejected out of an accepted request.
fn count_rejected(protocol: &OtlpProtocol, response: &SinkResponse) {
    let Some((count, error)) = rejected(&response.body) else { return };
    protocol.stats.otlp_records_rejected.add(count);
    if let Some(count) = protocol.log_throttle.admit(count, Instant::now()) {
        tracing::error!(count, server = response.url, %error, "log records rejected");
    }
}

/// Number of rejected records and the reason in `partialSuccess`; `None` if there are none.
fn rejected(response: &[u8]) -> Option<(u64, String)> {
    let response: Value = serde_json::from_slice(response).ok()?;
    let partial = response.get("partialSuccess")?;
    let count = partial.get("rejectedLogRecords")?;
    let count = count.as_u64().or_else(|| count.as_str()?.parse().ok())?;
    let reason = partial.get("errorMessage").and_then(Value::as_str).unwrap_or_default();
    (count > 0).then(|| (count, escaped(reason, 300)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_records_are_a_number_or_text() {
        for (response, want) in [
            ("{}", None),
            ("", None),
            (r#"{"partialSuccess":{}}"#, None),
            (r#"{"partialSuccess":{"rejectedLogRecords":"0","errorMessage":"slow down"}}"#, None),
            (r#"{"partialSuccess":{"rejectedLogRecords":2}}"#, Some((2, ""))),
            (
                r#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"too\nold"}}"#,
                Some((3, "too\\nold")),
            ),
        ] {
            let want = want.map(|(count, why)| (count, why.to_owned()));
            assert_eq!(rejected(response.as_bytes()), want, "{response}");
        }
    }
}
