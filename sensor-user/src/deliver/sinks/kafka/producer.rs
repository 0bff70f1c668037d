//! `KafkaSink`: an idempotent producer that waits until all replicas have each message.
//!
//! `librdkafka` keeps the order and retries within `timeout`. Messages that it has not delivered by
//! then leave its queue and are returned, so that nothing is in two queues at once. A consumer
//! identifies duplicates by the header `id`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::Mutex;

use super::client_log::ClientLog;
use super::response::{item_error, outcome};
use super::{KafkaConfig, PropertyText};
use crate::base::error_chain::chain;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, BatchItem, ItemError, SendOutcome};
use crate::deliver::item::Item;
use crate::deliver::sinks::Sink;
use crate::http::AccessError;

type Producer = FutureProducer<ClientLog>;

/// Produces to one cluster.
pub(in crate::deliver::sinks) struct KafkaSink {
    config: KafkaConfig,
    producer: Mutex<Option<Producer>>,
    log: ClientLog,
}

impl KafkaSink {
    pub(in crate::deliver::sinks) fn new(config: &KafkaConfig) -> Self {
        Self { config: config.clone(), producer: Mutex::default(), log: ClientLog::default() }
    }

    fn produce(&self, producer: &Producer, item: &BatchItem) -> Result<DeliveryFuture, ItemError> {
        let topic = match &item.item {
            Item::Alert(_) => &self.config.alerts_topic,
            Item::Row(_) => &self.config.rows_topic,
            Item::AgentEvent(_) => &self.config.health_topic,
        };
        let id = Header { key: "id", value: Some(&item.id) };
        let record = FutureRecord::to(topic)
            .key(item.item.computer())
            .payload(&item.line)
            .headers(OwnedHeaders::new().insert(id));
        producer.send_result(record).map_err(|(error, _record)| item_error(&error))
    }

    /// The current producer, or a new one.
    async fn producer(&self) -> Result<Producer, DeliverError> {
        let mut current = self.producer.lock().await;
        if let Some(producer) = &*current {
            return Ok(producer.clone());
        }
        let config = self.config.clone();
        let config = tokio::task::spawn_blocking(move || client_config(&config)).await;
        let config = config.map_err(|_stopped| AccessError::Stopped)??;
        let producer: Result<Producer, _> = config.create_with_context(self.log.clone());
        let producer = producer.map_err(|error| self.error(chain(&error)))?;
        Ok(current.insert(producer).clone())
    }

    fn error(&self, reason: String) -> DeliverError {
        DeliverError::Unavailable { receiver: self.config.servers.join(","), reason }
    }
}

#[async_trait]
impl Sink for KafkaSink {
    async fn send(&self, batch: &Batch) -> Result<SendOutcome, DeliverError> {
        self.log.0.store(None);
        let producer = self.producer().await?;
        // All messages are queued, in order, before the first outcome is waited for.
        let produced: Vec<_> =
            batch.items.iter().map(|item| self.produce(&producer, item)).collect();
        let mut result = SendOutcome::default();
        for (index, produced) in produced.into_iter().enumerate() {
            let delivered = match produced {
                Ok(delivery) => outcome(delivery).await,
                Err(error) => Err(error),
            };
            result.record(index, delivered);
        }
        if !result.retry.is_empty() {
            // A producer that gave up on a message may have a gap in its sequence: the next batch
            // uses a new one, which reads the secrets again.
            *self.producer.lock().await = None;
        }
        match result.failure(batch.len()) {
            Some(reason) => {
                let last_error = self.log.0.load_full();
                Err(self.error(last_error.map_or(reason, Arc::unwrap_or_clone)))
            }
            None => Ok(result),
        }
    }
}

impl std::fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSink").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Reads the secrets. Blocks. Configured properties override the defaults, except those on which the
/// guarantees of this sink depend.
fn client_config(config: &KafkaConfig) -> Result<ClientConfig, AccessError> {
    let mut client = ClientConfig::new();
    client.set("client.id", "netsensor").set("compression.type", "lz4").set("linger.ms", "5");
    let protocol = match (&config.tls, &config.login) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    client.set("security.protocol", protocol);
    if let Some(login) = &config.login {
        client
            .set("sasl.mechanism", login.mechanism.as_str())
            .set("sasl.username", &login.user)
            .set("sasl.password", login.password.read()?.text());
    }
    if let Some(tls) = &config.tls {
        // The built-in OpenSSL does not know the path of this host's authorities.
        let authorities = tls.ca_file.as_ref().map(|path| path.display().to_string());
        client.set("ssl.ca.location", authorities.as_deref().unwrap_or("probe"));
        if let Some(certificate) = &tls.certificate {
            client.set("ssl.certificate.location", certificate.chain.display().to_string());
            client.set("ssl.key.location", certificate.key.display().to_string());
        }
    }
    for (name, value) in &config.properties {
        let text = match value {
            PropertyText::Plain(text) => text.clone(),
            PropertyText::Secret(secret) => secret.read()?.text().to_owned(),
        };
        client.set(name, text);
    }
    let timeout = Duration::as_millis(&config.timeout).to_string();
    client
        .set("bootstrap.servers", config.servers.join(","))
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", timeout);
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::sinks::kafka::{KafkaLogin, KafkaMechanism};
    use crate::http::{Secret, TlsConfig};

    #[test]
    fn the_protocol_follows_from_tls_and_login_with_the_authorities_of_the_host() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "pw\n").unwrap();
        let login = KafkaLogin {
            mechanism: KafkaMechanism::ScramSha256,
            user: "sensor".to_owned(),
            password: Secret::File(path),
        };
        let own = TlsConfig { ca_file: Some("/ca".into()), certificate: None };
        for (tls, login, protocol, authorities) in [
            (None, None, "plaintext", None),
            (None, Some(login.clone()), "sasl_plaintext", None),
            (Some(TlsConfig::default()), None, "ssl", Some("probe")),
            (Some(own), Some(login), "sasl_ssl", Some("/ca")),
        ] {
            let is_known = login.is_some();
            let usual = KafkaConfig::new(vec!["h:1".to_owned()]);
            let client = client_config(&KafkaConfig { login, tls, ..usual }).unwrap();
            assert_eq!(client.get("security.protocol"), Some(protocol));
            assert_eq!(client.get("ssl.ca.location"), authorities, "{protocol}");
            let name = ["sasl.mechanism", "sasl.username", "sasl.password"];
            let want = ["SCRAM-SHA-256", "sensor", "pw"].map(|it| is_known.then_some(it));
            assert_eq!(name.map(|name| client.get(name)), want);
            assert!(!format!("{client:?}").contains("pw"), "{client:?}");
        }
    }
}
