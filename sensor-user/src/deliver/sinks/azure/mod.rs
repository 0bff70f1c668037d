//! The sink `azure`: Logs Ingestion API of Azure Monitor (api-version 2023-01-01), one request per
//! stream.
//!
//! The API has no idempotency key: items that are retried after a timeout may exist twice, with the
//! same `AlertId` or `ConnectionId`.

mod config;
mod encode;
mod response;
mod token;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::Url;
use reqwest::header::AUTHORIZATION;
use uuid::Uuid;

use self::token::TokenCache;
use super::Sink;
use super::http_client::{SinkClient, SinkRequest, SinkResponse};
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::deliver::batch::{Batch, BatchItem, ItemKind, SendOutcome};
use crate::deliver::{DeliverError, FailureAction};

pub use config::{AzureLogin, LogsIngestionConfig};

/// Maximum size of one request before compression: 1 MB.
const REQUEST_MAX: usize = 1_000_000;

/// Posts to the streams of one data collection rule.
#[derive(Debug)]
pub(super) struct AzureSink {
    client: SinkClient,
    tokens: TokenCache,
    config: LogsIngestionConfig,
    stats: Arc<Stats>,
}

impl AzureSink {
    pub(super) fn new(
        config: &LogsIngestionConfig,
        stats: &Arc<Stats>,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        Self {
            client: SinkClient::new(&config.server, clock),
            tokens: TokenCache::new(config, clock),
            config: config.clone(),
            stats: Arc::clone(stats),
        }
    }

    /// Indices of the items of each stream.
    fn streams(&self, batch: &Batch) -> BTreeMap<String, Vec<usize>> {
        let mut streams: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, item) in batch.items.iter().enumerate() {
            let table = (batch.kind == ItemKind::Rows).then(|| item.item.type_name());
            streams.entry(self.config.stream(table)).or_default().push(index);
        }
        streams
    }

    async fn send_to(
        &self,
        stream: &str,
        batch: &Batch,
        indices: &[usize],
    ) -> Result<(), DeliverError> {
        let items: Vec<&BatchItem> =
            indices.iter().filter_map(|index| batch.items.get(*index)).collect();
        let (body, truncated) = encode::array(&items);
        self.stats.azure_fields_truncated.add(truncated);
        if body.len() > REQUEST_MAX {
            return Err(DeliverError::TooLarge { bytes: body.len(), max: REQUEST_MAX });
        }
        let url = self.url(stream)?;
        let mut response = self.post(&url, body.clone()).await?;
        if response.status == 401 {
            // The token or its signing key was revoked.
            self.tokens.clear().await;
            response = self.post(&url, body).await?;
        }
        response::outcome(response)
    }

    async fn post(&self, url: &Url, body: Vec<u8>) -> Result<SinkResponse, DeliverError> {
        let bearer = self.tokens.bearer(&self.client).await?;
        let mut request = SinkRequest::post(url, "application/json", body)
            .header("x-ms-client-request-id", &Uuid::new_v4().to_string());
        request.headers.insert(AUTHORIZATION, bearer);
        self.client.send(request).await
    }

    fn url(&self, stream: &str) -> Result<Url, DeliverError> {
        let mut url = self.config.endpoint.clone();
        url.path_segments_mut()
            .map_err(|()| DeliverError::Setting("endpoint is no base; set it to a server"))?
            .pop_if_empty()
            .extend(["dataCollectionRules", &self.config.dcr, "streams", stream]);
        url.query_pairs_mut().append_pair("api-version", "2023-01-01");
        Ok(url)
    }
}

#[async_trait]
impl Sink for AzureSink {
    async fn send(&self, batch: &Batch) -> Result<SendOutcome, DeliverError> {
        let streams = self.streams(batch);
        let count = streams.len();
        let mut outcome = SendOutcome::default();
        let mut errors = Vec::new();
        for (stream, indices) in streams {
            if let Err(error) = self.send_to(&stream, batch, &indices).await {
                if let FailureAction::Retry { after } = error.action() {
                    outcome.retry_after = outcome.retry_after.max(after);
                }
                outcome.retry.extend(indices);
                errors.push(error);
            }
        }
        if errors.len() == count {
            return errors.into_iter().next().map_or(Ok(outcome), Err);
        }
        // The failed streams are retried in a batch of their own, and the action follows from that.
        for error in errors {
            tracing::debug!(error = error.log_text(), "one stream of several failed");
        }
        outcome.retry.sort_unstable();
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;
    use crate::deliver::sinks::http_client::ServerConfig;

    fn config() -> LogsIngestionConfig {
        LogsIngestionConfig {
            endpoint: "https://e.ingest.monitor.azure.com/".parse().unwrap(),
            dcr: "dcr-0".to_owned(),
            alerts_stream: LogsIngestionConfig::ALERTS_STREAM.to_owned(),
            streams: BTreeMap::from([("VMProcess".to_owned(), "Custom-P".to_owned())]),
            audience: "https://monitor.azure.com".to_owned(),
            login: AzureLogin::ManagedIdentity { imds_url: None, client_id: None },
            server: ServerConfig::new(true),
        }
    }

    #[test]
    fn each_stream_has_its_url() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let sink = AzureSink::new(&config(), &Arc::default(), &clock);
        let url = sink.url("Custom-NetsensorAlert_CL").unwrap();
        let want = "https://e.ingest.monitor.azure.com/dataCollectionRules/dcr-0/streams/\
                    Custom-NetsensorAlert_CL?api-version=2023-01-01";
        assert_eq!(url.as_str(), want);
        for (table, stream) in [
            (None, "Custom-NetsensorAlert_CL"),
            (Some("VMConnection"), "Custom-VMConnection_CL"),
            (Some("VMProcess"), "Custom-P"),
            (Some("NetsensorLoss"), "Custom-NetsensorLoss_CL"),
        ] {
            assert_eq!(config().stream(table), stream);
        }
    }
}
