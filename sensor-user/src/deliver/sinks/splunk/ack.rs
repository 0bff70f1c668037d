//! Indexer acknowledgement: a batch is delivered when the collector says that it is indexed.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::SplunkSink;
use crate::base::clock::Clock;
use crate::deliver::DeliverError;
use crate::deliver::sinks::http_post::Answer;
use crate::http::redacted_url;

/// First wait before it is asked; it doubles.
const FIRST: Duration = Duration::from_millis(250);
/// Longest such wait.
const LONGEST: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize)]
struct Taken {
    #[serde(rename = "ackId")]
    id: Option<u64>,
}

impl SplunkSink {
    /// Waits until what `answer` took is indexed.
    pub(super) async fn acknowledged(
        &self,
        answer: Answer,
        limit: Duration,
        clock: &dyn Clock,
    ) -> Result<(), DeliverError> {
        let Ok(taken) = serde_json::from_slice::<Taken>(&answer.body) else {
            return Err(answer.odd("the answer is none of a collector; check url"));
        };
        let Some(id) = taken.id else {
            // To send it again would not give it one, and index it again and again.
            if let Some(count) = self.quiet.admit(1, Instant::now()) {
                tracing::warn!(
                    count,
                    server = answer.url,
                    "the token has no indexer acknowledgement; turn it on, or set acknowledge = false"
                );
            }
            return Ok(());
        };
        let until = Instant::now() + limit;
        let mut wait = FIRST;
        loop {
            tokio::time::sleep(wait).await;
            match self.is_indexed(id, clock).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error @ DeliverError::Held { .. }) => return Err(error),
                Err(error) => {
                    tracing::debug!(error = crate::deliver::chain(&error), "no acknowledgement");
                }
            }
            if Instant::now() >= until {
                let url = redacted_url(&self.acks);
                let text = self.ailment(clock).await.map(|answer| answer.text());
                let text = text.unwrap_or_default();
                return Err(DeliverError::Unacknowledged { url, limit, text });
            }
            wait = (wait * 2).min(LONGEST);
        }
    }

    async fn is_indexed(&self, id: u64, clock: &dyn Clock) -> Result<bool, DeliverError> {
        let body = json!({ "acks": [id] }).to_string().into_bytes();
        let answer = self.poster.post(self.post(&self.acks, body), clock).await?;
        match answer.status {
            200 => {
                let acks: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                let told = acks.get("acks").and_then(|acks| acks.get(id.to_string()));
                Ok(told.and_then(Value::as_bool).unwrap_or(false))
            }
            400 => Err(answer.held("check the token's indexer acknowledgement")),
            401 | 403 => Err(answer.held("check token")),
            _ => Err(answer.refusal()),
        }
    }
}
