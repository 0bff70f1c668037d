//! Outcome of an export request, full or partial success (OTLP 1.x, "OTLP/HTTP Response").

use serde_json::Value;
use tokio::time::Instant;

use super::OtlpSink;
use crate::base::escape::escaped;
use crate::deliver::DeliverError;
use crate::deliver::batch::SendOutcome;
use crate::deliver::sinks::http_client::SinkResponse;

/// Maximum size of a response, bytes: the limit that the protocol recommends.
pub(super) const RESPONSE_MAX: usize = 4 << 20;

impl OtlpSink {
    /// Outcome of `count` records.
    pub(super) fn outcome(
        &self,
        response: SinkResponse,
        count: usize,
    ) -> Result<SendOutcome, DeliverError> {
        match response.status {
            200..=299 => {
                self.count_rejected(&response);
                Ok(SendOutcome::default())
            }
            401 | 403 => Err(response.into_error("check user, password, token and headers")),
            404 => Err(response.into_error("check url")),
            429 | 502 | 503 | 504 | 413 | 400 => Err(response.into_error("")),
            // The protocol forbids to retry these.
            status => {
                let reason = format!("status {status}: {}", response.text());
                let rejected = (0..count).map(|index| (index, reason.clone())).collect();
                Ok(SendOutcome { rejected, ..SendOutcome::default() })
            }
        }
    }

    /// Counts the records that were rejected out of an accepted request.
    fn count_rejected(&self, response: &SinkResponse) {
        let Some((count, error)) = rejected(&response.body) else { return };
        self.stats.otlp_records_rejected.add(count);
        if let Some(count) = self.log_throttle.admit(count, Instant::now()) {
            tracing::error!(count, server = response.url, %error, "log records rejected");
        }
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
        for (answer, want) in [
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
            assert_eq!(rejected(answer.as_bytes()), want, "{answer}");
        }
    }
}
