//! The kafka sink: an idempotent producer that waits until all replicas have each message.
//!
//! `librdkafka` keeps the order and tries again by itself within `timeout`; what it then has not
//! delivered is taken out of its queue and given back, so that nothing is in two queues at once. A
//! reader knows an item that is there twice by the header `id`.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::Mutex;

use super::client_log::Listener;
use super::{KafkaConfig, PropertyText};
use crate::base::error_chain::chain;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, Entry, Sent};
use crate::deliver::item::Item;
use crate::http::AccessError;

/// Produces to one cluster.
pub(crate) struct KafkaSink {
    config: KafkaConfig,
    producer: Mutex<Option<FutureProducer<Listener>>>,
    listener: Listener,
}

/// Why a message was not delivered.
enum Refusal {
    Never(String),
    Later(String),
}

impl KafkaSink {
    pub(in crate::deliver) fn new(config: &KafkaConfig) -> Self {
        Self { config: config.clone(), producer: Mutex::new(None), listener: Listener::default() }
    }

    pub(in crate::deliver) async fn send(&self, batch: &Batch) -> Result<Sent, DeliverError> {
        self.listener.0.clear();
        let producer = self.producer().await?;
        // All are put into its queue, in order, before the first is waited for.
        let produced: Vec<_> =
            batch.entries().iter().map(|entry| self.produce(&producer, entry)).collect();
        let (mut sent, mut why) = (Sent::default(), None);
        for (index, produced) in produced.into_iter().enumerate() {
            let answer = match produced {
                Ok(delivery) => delivered(delivery).await,
                Err(refusal) => Err(refusal),
            };
            match answer {
                Ok(()) => {}
                Err(Refusal::Never(reason)) => sent.rejected.push((index, reason)),
                Err(Refusal::Later(reason)) => {
                    why.get_or_insert(reason);
                    sent.again.push(index);
                }
            }
        }
        if why.is_some() {
            // A producer that gave up on a message may have a gap in its sequence: the next batch
            // has a new one, which reads the secrets again.
            *self.producer.lock().await = None;
        }
        match why {
            Some(what) if sent.again.len() == batch.len() => {
                Err(self.error(self.listener.0.last().unwrap_or(what)))
            }
            _ => Ok(sent),
        }
    }

    fn produce(
        &self,
        producer: &FutureProducer<Listener>,
        entry: &Entry,
    ) -> Result<DeliveryFuture, Refusal> {
        let topic = match &entry.item {
            Item::Alert(_) => &self.config.alerts_topic,
            Item::Row(_) => &self.config.rows_topic,
            Item::AgentEvent(_) => &self.config.health_topic,
        };
        let id = Header { key: "id", value: Some(&entry.id) };
        let record = FutureRecord::to(topic)
            .key(entry.item.computer())
            .payload(&entry.line)
            .headers(OwnedHeaders::new().insert(id));
        producer.send_result(record).map_err(|(error, _record)| refusal(&error))
    }

    /// The producer at hand, else a new one.
    async fn producer(&self) -> Result<FutureProducer<Listener>, DeliverError> {
        let mut held = self.producer.lock().await;
        if let Some(producer) = &*held {
            return Ok(producer.clone());
        }
        let config = self.config.clone();
        let made = tokio::task::spawn_blocking(move || client(&config)).await;
        let client = made.map_err(|_ended| AccessError::Stopped)??;
        let producer = client.create_with_context(self.listener.clone());
        let producer: FutureProducer<Listener> =
            producer.map_err(|error| self.error(chain(&error)))?;
        Ok(held.insert(producer).clone())
    }

    fn error(&self, what: String) -> DeliverError {
        DeliverError::Peer { server: self.config.servers.join(","), what }
    }
}

impl std::fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSink").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What became of one message, by the end of its time.
async fn delivered(delivery: DeliveryFuture) -> Result<(), Refusal> {
    match delivery.await {
        Ok(Ok(_delivered)) => Ok(()),
        Ok(Err((error, _message))) => Err(refusal(&error)),
        Err(_gone) => Err(Refusal::Later("the producer is gone".to_owned())),
    }
}

fn refusal(error: &KafkaError) -> Refusal {
    let text = chain(error);
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidRecord) => {
            Refusal::Never(text)
        }
        _ => Refusal::Later(text),
    }
}

/// Reads the secrets. It blocks. What the operator sets goes before what is usual, but for what
/// this sink promises.
fn client(config: &KafkaConfig) -> Result<ClientConfig, AccessError> {
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
        // The OpenSSL that is built in does not know where this host has its authorities.
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
    fn the_protocol_follows_from_tls_and_login_and_the_host_knows_its_authorities() {
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
            let client = client(&KafkaConfig { login, tls, ..usual }).unwrap();
            assert_eq!(client.get("security.protocol"), Some(protocol));
            assert_eq!(client.get("ssl.ca.location"), authorities, "{protocol}");
            let name = ["sasl.mechanism", "sasl.username", "sasl.password"];
            let want = ["SCRAM-SHA-256", "sensor", "pw"].map(|it| is_known.then_some(it));
            assert_eq!(name.map(|name| client.get(name)), want);
            assert!(!format!("{client:?}").contains("pw"), "{client:?}");
        }
    }
}
