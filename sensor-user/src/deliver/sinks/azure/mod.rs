//! The azure sink: Azure Monitor's Logs Ingestion API (api-version 2023-01-01), a request a stream.
//!
//! The API has no key against duplicates: what is sent again after a time limit may be there
//! twice, with the same `AlertId` or `ConnectionId`.

mod records;
mod token;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::AUTHORIZATION;
use uuid::Uuid;

use super::http_post::{Answer, Post, Poster, ServerConfig};
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::deliver::batch::{Batch, Content, Entry, Sent};
use crate::deliver::{DeliverError, Verdict};
use crate::http::Secret;
use token::Tokens;

/// Bytes of one request at most, before it is compressed: 1 MB.
const MOST: usize = 1_000_000;

/// `kind = "azure"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogsIngestionConfig {
    /// Of the data collection endpoint, or of the rule itself.
    pub endpoint: Url,
    /// Immutable id of the data collection rule.
    pub dcr: String,
    /// Stream of alerts.
    pub alerts_stream: String,
    /// Streams of rows and notices by their `Type`; the others have [`Self::usual_stream`].
    pub streams: BTreeMap<String, String>,
    /// For what tokens are.
    pub audience: String,
    /// Who gives them.
    pub login: AzureLogin,
    /// How the endpoint is reached.
    pub server: ServerConfig,
}

/// Who gives tokens, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AzureLogin {
    /// Microsoft Entra ID, to an application.
    Application {
        /// Where.
        login_url: Url,
        /// Tenant.
        tenant: String,
        /// Id of the application.
        client_id: String,
        /// Its secret.
        client_secret: Secret,
    },
    /// The machine's metadata service, to the machine.
    ManagedIdentity {
        /// Where, in place of the link-local address; only its scheme, host and port count.
        imds_url: Option<Url>,
        /// Which identity, where the machine has several.
        client_id: Option<String>,
    },
}

impl LogsIngestionConfig {
    /// Stream of alerts unless set.
    pub const ALERTS_STREAM: &str = "Custom-NetsensorAlert_CL";

    /// Stream of a table unless set.
    pub fn usual_stream(table: &str) -> String {
        format!("Custom-{table}_CL")
    }

    fn stream(&self, table: Option<&str>) -> String {
        let Some(table) = table else { return self.alerts_stream.clone() };
        self.streams.get(table).cloned().unwrap_or_else(|| Self::usual_stream(table))
    }
}

/// Posts to the streams of one data collection rule.
#[derive(Debug)]
pub(crate) struct AzureSink {
    poster: Poster,
    tokens: Tokens,
    config: LogsIngestionConfig,
    stats: Arc<Stats>,
}

impl AzureSink {
    pub(crate) fn new(
        config: &LogsIngestionConfig,
        stats: &Arc<Stats>,
    ) -> Result<Self, DeliverError> {
        Ok(Self {
            poster: Poster::new(&config.server),
            tokens: Tokens::new(config)?,
            config: config.clone(),
            stats: Arc::clone(stats),
        })
    }

    pub(crate) async fn send(
        &self,
        batch: &Batch,
        clock: &dyn Clock,
    ) -> Result<Sent, DeliverError> {
        let groups = self.groups(batch);
        let mut sent = Sent::default();
        let mut failed = None;
        let mut taken = false;
        let several = groups.len() > 1;
        for (stream, indices) in groups {
            match self.send_to(&stream, batch, &indices, clock).await {
                Ok(()) => taken = true,
                Err(error) if several => {
                    if let Verdict::Retry { after } = error.verdict() {
                        sent.after = sent.after.max(after);
                    }
                    sent.again.extend(indices);
                    failed.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match failed {
            // What failed is sent again by itself, and is judged then.
            Some(error) if taken => {
                tracing::debug!(
                    error = crate::deliver::chain(&error),
                    "one stream of several failed"
                );
                sent.again.sort_unstable();
                Ok(sent)
            }
            Some(error) => Err(error),
            None => Ok(sent),
        }
    }

    /// Indices of the entries of each stream.
    fn groups(&self, batch: &Batch) -> BTreeMap<String, Vec<usize>> {
        let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, entry) in batch.entries().iter().enumerate() {
            let table = match batch.content {
                Content::Alerts => None,
                Content::Rows => Some(entry.item.type_name()),
            };
            groups.entry(self.config.stream(table)).or_default().push(index);
        }
        groups
    }

    async fn send_to(
        &self,
        stream: &str,
        batch: &Batch,
        indices: &[usize],
        clock: &dyn Clock,
    ) -> Result<(), DeliverError> {
        let entries: Vec<&Entry> =
            indices.iter().filter_map(|index| batch.entries().get(*index)).collect();
        let (body, cut) = records::array(&entries);
        self.stats.azure_fields_truncated.add(cut);
        if body.len() > MOST {
            return Err(DeliverError::TooLarge { bytes: body.len(), most: MOST });
        }
        let url = self.url(stream)?;
        let answer = self.post(&url, body.clone(), clock).await?;
        let answer = if answer.status == 401 {
            // It was taken back before its time, or the key that signed it.
            self.tokens.forget().await;
            self.post(&url, body, clock).await?
        } else {
            answer
        };
        match answer.status {
            200..=299 => Ok(()),
            401 => Err(answer.held("the token is not for this endpoint; check cloud and endpoint")),
            403 => Err(answer.held(
                "give the application or machine the role Monitoring Metrics Publisher on the data \
                 collection rule, which takes up to 30 minutes",
            )),
            404 => Err(answer.held("check endpoint, dcr and the streams of the rule")),
            _ => Err(answer.refusal()),
        }
    }

    async fn post(
        &self,
        url: &Url,
        body: Vec<u8>,
        clock: &dyn Clock,
    ) -> Result<Answer, DeliverError> {
        let bearer = self.tokens.bearer(&self.poster, clock).await?;
        let post = Post::new(url, "application/json", body)
            .with_secret(AUTHORIZATION.as_str(), bearer)
            .with("x-ms-client-request-id", &Uuid::new_v4().to_string());
        self.poster.post(post, clock).await
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

/// A token is not used any more so long before it ends.
const MARGIN: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use super::*;

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
        let sink = AzureSink::new(&config(), &Arc::default()).unwrap();
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
