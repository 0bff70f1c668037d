//! The kafka sink. It is in builds with the feature `kafka`, since `librdkafka` and its TLS are C
//! and take minutes to build; without it the kind is known, and its configuration says so.

#[cfg(feature = "kafka")]
mod client_log;
#[cfg(feature = "kafka")]
mod producer;

use std::time::Duration;

use crate::http::{Secret, TlsConfig};

#[cfg(feature = "kafka")]
pub(crate) use producer::KafkaSink;

/// The value of a property of `librdkafka`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PropertyText {
    /// As configured.
    Plain(String),
    /// Read when a producer is made.
    Secret(Secret),
}

/// How a password is shown to the broker (SASL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KafkaMechanism {
    /// As it is.
    Plain,
    /// By what only who knows it can answer, with SHA-256.
    ScramSha256,
    /// The same with SHA-512.
    ScramSha512,
}

impl KafkaMechanism {
    /// All, in the order of [`Self::WORDS`].
    pub const ALL: [Self; 3] = [Self::Plain, Self::ScramSha256, Self::ScramSha512];
    /// Their names.
    pub const WORDS: [&str; 3] =
        [Self::Plain.as_str(), Self::ScramSha256.as_str(), Self::ScramSha512.as_str()];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Who produces (SASL).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaLogin {
    /// How the password is shown.
    pub mechanism: KafkaMechanism,
    /// Name.
    pub user: String,
    /// Password.
    pub password: Secret,
}

/// A kafka sink's own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// Brokers to begin with, `host:port`.
    pub servers: Vec<String>,
    /// Where alerts go.
    pub alerts_topic: String,
    /// Where rows go.
    pub rows_topic: String,
    /// Where the agent's notices about itself go.
    pub health_topic: String,
    /// Who produces; `None`: as `properties` say.
    pub login: Option<KafkaLogin>,
    /// TLS; `None`: as `properties` say.
    pub tls: Option<TlsConfig>,
    /// Further properties of `librdkafka`.
    pub properties: Vec<(String, PropertyText)>,
    /// A message that is not delivered by then is sent again later.
    pub timeout: Duration,
}

impl KafkaConfig {
    /// Whether this build has the sink.
    pub const IS_BUILT_IN: bool = cfg!(feature = "kafka");
    /// Limit unless set.
    pub const TIMEOUT: Duration = Duration::from_secs(30);
    /// Properties that the sink sets itself.
    pub const OURS: [&str; 6] = [
        "bootstrap.servers",
        "metadata.broker.list",
        "enable.idempotence",
        "acks",
        "request.required.acks",
        "message.timeout.ms",
    ];

    /// What is usual, to topics named after what they hold.
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
