//! Settings of the kafka sink. They exist in every build, so that the configuration of a build without
//! the sink names the missing feature.

use std::time::Duration;

use crate::http::{Secret, TlsConfig};

/// Value of a property of `librdkafka`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PropertyText {
    /// Text of the configuration.
    Plain(String),
    /// Secret, read when a producer is created.
    Secret(Secret),
}

/// SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KafkaMechanism {
    /// The password itself (RFC 4616).
    Plain,
    /// Challenge-response with SHA-256 (RFC 7677).
    ScramSha256,
    /// Challenge-response with SHA-512.
    ScramSha512,
}

impl KafkaMechanism {
    /// All mechanisms, in the order of [`Self::WORDS`].
    pub const ALL: [Self; 3] = [Self::Plain, Self::ScramSha256, Self::ScramSha512];
    /// Names of the mechanisms.
    pub const WORDS: [&str; 3] =
        [Self::Plain.as_str(), Self::ScramSha256.as_str(), Self::ScramSha512.as_str()];

    /// Name of the mechanism.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Credentials of the producer (SASL).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaLogin {
    /// SASL mechanism.
    pub mechanism: KafkaMechanism,
    /// User name.
    pub user: String,
    /// Password of the user.
    pub password: Secret,
}

/// Settings of `kind = "kafka"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// Bootstrap brokers, `host:port`.
    pub servers: Vec<String>,
    /// Topic of alerts.
    pub alerts_topic: String,
    /// Topic of rows.
    pub rows_topic: String,
    /// Topic of agent events.
    pub health_topic: String,
    /// Credentials; `None`: those in `properties`.
    pub login: Option<KafkaLogin>,
    /// TLS settings; `None`: those in `properties`.
    pub tls: Option<TlsConfig>,
    /// Further properties of `librdkafka`.
    pub properties: Vec<(String, PropertyText)>,
    /// Time limit of a message; it is retried later.
    pub timeout: Duration,
}

impl KafkaConfig {
    /// True if this build has the sink.
    pub const IS_BUILT_IN: bool = cfg!(feature = "kafka");
    /// Default time limit.
    pub const TIMEOUT: Duration = Duration::from_secs(30);
    /// Properties that the sink sets itself.
    pub const RESERVED: [&str; 6] = [
        "bootstrap.servers",
        "metadata.broker.list",
        "enable.idempotence",
        "acks",
        "request.required.acks",
        "message.timeout.ms",
    ];

    /// The defaults, with topics named after their content.
    pub fn new(servers: Vec<String>) -> Self {
        Self {
            servers,
            alerts_topic: "netsensor.alerts".to_owned(),
            rows_topic: "netsensor.rows".to_owned(),
            health_topic: "netsensor.health".to_owned(),
            login: None,
            tls: None,
            properties: Vec::new(),
            timeout: Self::TIMEOUT,
        }
    }
}
