//! The sink `elasticsearch`: `_bulk` of Elasticsearch and `OpenSearch`.
//!
//! Documents are made with `create` under their own id, so a document that exists already (409) was
//! delivered before. Each item of a response is evaluated on its own.

mod config;
mod encode;
mod response;

use jiff::Timestamp;
use reqwest::Url;

use super::http::HttpProtocol;
use super::http_client::{ServerConfig, SinkRequest, SinkResponse};
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, SendOutcome};

pub use config::ElasticsearchConfig;

impl HttpProtocol for ElasticsearchConfig {
    fn server(&self) -> &ServerConfig {
        &self.server
    }

    fn request(&self, batch: &Batch, _now: Timestamp) -> SinkRequest {
        let body = encode::bulk_body(self, batch);
        let response_max = Some(response::RESPONSE_MAX);
        let request = SinkRequest::post(&bulk_url(&self.url), "application/x-ndjson", body);
        SinkRequest { response_max, ..request }
    }

    fn outcome(&self, response: SinkResponse, count: usize) -> Result<SendOutcome, DeliverError> {
        response::outcome(response, count)
    }
}

fn bulk_url(server: &Url) -> Url {
    let mut url = server.clone();
    url.set_path(&format!("{}/_bulk", server.path().trim_end_matches('/')));
    url.query_pairs_mut().append_pair("filter_path", "errors,items.*.status,items.*.error");
    url
}
