//! The sink `elasticsearch`: `_bulk` of Elasticsearch and `OpenSearch`.
//!
//! Documents are made with `create` under their own id, so a document that exists already (409) was
//! delivered before. Each item of a response is evaluated on its own.

mod config;
mod encode;
mod response;

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::Url;

use super::Sink;
use super::http_client::{SinkClient, SinkRequest};
use crate::base::clock::Clock;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, SendOutcome};

pub use config::ElasticsearchConfig;

/// Posts to one server.
#[derive(Debug)]
pub(super) struct ElasticsearchSink {
    client: SinkClient,
    url: Url,
    config: ElasticsearchConfig,
}

impl ElasticsearchSink {
    pub(super) fn new(config: &ElasticsearchConfig, clock: &Arc<dyn Clock>) -> Self {
        let client = SinkClient::new(&config.server, clock);
        Self { client, url: bulk_url(&config.url), config: config.clone() }
    }
}

#[async_trait]
impl Sink for ElasticsearchSink {
    async fn send(&self, batch: &Batch) -> Result<SendOutcome, DeliverError> {
        let body = encode::bulk_body(&self.config, batch);
        let request = SinkRequest::post(&self.url, "application/x-ndjson", body)
            .response_max(response::RESPONSE_MAX);
        response::outcome(self.client.send(request).await?, batch.len())
    }
}

fn bulk_url(server: &Url) -> Url {
    let mut url = server.clone();
    url.set_path(&format!("{}/_bulk", server.path().trim_end_matches('/')));
    url.query_pairs_mut().append_pair("filter_path", "errors,items.*.status,items.*.error");
    url
}
