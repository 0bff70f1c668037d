//! Kafka client of the tests: creates topics and reads their messages.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::path::Path;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use tokio::time::Instant;

/// Time limit of a read.
const LIMIT: Duration = Duration::from_secs(30);

/// Message that the agent produced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaMessage {
    /// Topic of the message.
    pub topic: String,
    /// Message key: the host name.
    pub key: String,
    /// Value of the header `id`.
    pub id: String,
    /// Payload, parsed as JSON.
    pub body: Value,
}

/// Client of a Kafka broker.
#[derive(Debug)]
pub struct KafkaClient(ClientConfig);

impl KafkaClient {
    /// Client for the bootstrap servers at these addresses.
    pub fn new(servers: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", servers);
        Self(config)
    }

    /// Client with this configuration.
    pub const fn with(config: ClientConfig) -> Self {
        Self(config)
    }

    /// Enables TLS with this certificate authority.
    #[must_use]
    pub fn over_tls(mut self, authority: &Path) -> Self {
        self.0.set("security.protocol", "ssl");
        self.0.set("ssl.ca.location", authority.display().to_string());
        self
    }

    /// Creates topics on a single broker.
    pub fn make_topics(&self, names: &[&str], partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = self.0.create().expect("a client");
        let topics: Vec<NewTopic<'_>> = names
            .iter()
            .map(|name| NewTopic::new(name, partitions, TopicReplication::Fixed(1)))
            .collect();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let created = runtime.block_on(admin.create_topics(&topics, &AdminOptions::new()));
        for topic in created.expect("a response about topics") {
            topic.expect("a topic");
        }
    }

    /// Reads topics from the beginning until `is_enough` returns true, or for 30 s.
    pub fn read(
        &self,
        names: &[&str],
        partitions: i32,
        is_enough: impl Fn(&[KafkaMessage]) -> bool,
    ) -> Vec<KafkaMessage> {
        let mut config = self.0.clone();
        config.set("group.id", "test").set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        // Partitions are assigned here: Tansu has no group coordinator that librdkafka accepts.
        let mut assignment = TopicPartitionList::new();
        for topic in names {
            for partition in 0..partitions {
                assignment
                    .add_partition_offset(topic, partition, Offset::Beginning)
                    .expect("an offset");
            }
        }
        consumer.assign(&assignment).expect("an assignment");
        let mut found = Vec::new();
        let begin = Instant::now();
        while !is_enough(&found) && begin.elapsed() < LIMIT {
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
            let headers = message.headers().expect("headers");
            let id = headers.iter().find(|it| it.key == "id").expect("an id");
            let text = |bytes: Option<&[u8]>| {
                String::from_utf8(bytes.unwrap_or_default().to_vec()).expect("text")
            };
            found.push(KafkaMessage {
                topic: message.topic().to_owned(),
                key: text(message.key()),
                id: text(id.value),
                body: serde_json::from_slice(message.payload().unwrap_or_default()).expect("JSON"),
            });
        }
        found
    }
}
