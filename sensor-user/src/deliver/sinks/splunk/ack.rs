//! Indexer acknowledgement: a batch is delivered once the collector reports it as indexed.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::SplunkSink;
use crate::deliver::DeliverError;
use crate::deliver::error::Suffix;
use crate::deliver::sinks::http_client::SinkResponse;
use crate::http::redacted_url;

/// Delay before the first poll; doubled after each poll.
const POLL_FIRST: Duration = Duration::from_millis(250);
/// Maximum delay between polls.
const POLL_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize)]
struct Accepted {
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
}

impl SplunkSink {
    /// Waits until the batch of this `response` is indexed.
    pub(super) async fn wait_for_ack(
        &self,
        response: SinkResponse,
        limit: Duration,
    ) -> Result<(), DeliverError> {
        let Ok(accepted) = serde_json::from_slice::<Accepted>(&response.body) else {
            return Err(response.into_unexpected("the response is not a collector's; check url"));
        };
        let Some(id) = accepted.ack_id else {
            // A retry would not get an id either, and would index the batch again.
            if let Some(count) = self.log_throttle.admit(1, Instant::now()) {
                tracing::warn!(
                    count,
                    server = response.url,
                    "the token has no indexer acknowledgement; enable it, or set acknowledge = false"
                );
            }
            return Ok(());
        };
        let deadline = Instant::now() + limit;
        let mut delay = POLL_FIRST;
        loop {
            tokio::time::sleep(delay).await;
            match self.is_indexed(id).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.hint().is_some() => return Err(error),
                Err(error) => tracing::debug!(error = error.log_text(), "no acknowledgement"),
            }
            if Instant::now() >= deadline {
                let problem = self.health_problem().await.map(|response| response.text());
                let problem = problem.unwrap_or_default();
                let problem = Suffix(": ", &problem);
                let reason =
                    format!("no acknowledgement within {limit:?}{problem}; is the indexer behind?");
                return Err(DeliverError::Unavailable {
                    receiver: redacted_url(&self.ack_url),
                    reason,
                });
            }
            delay = (delay * 2).min(POLL_MAX);
        }
    }

    async fn is_indexed(&self, id: u64) -> Result<bool, DeliverError> {
        let body = json!({ "acks": [id] }).to_string().into_bytes();
        let response = self.post(&self.ack_url, body).await?;
        let hint = match response.status {
            200 => {
                let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
                let ack = body.get("acks").and_then(|acks| acks.get(id.to_string()));
                return Ok(ack.and_then(Value::as_bool).unwrap_or(false));
            }
            400 => "check the token's indexer acknowledgement",
            401 | 403 => "check token",
            _ => "",
        };
        Err(response.into_error(hint))
    }
}
