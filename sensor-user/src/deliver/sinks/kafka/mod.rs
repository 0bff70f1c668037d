//! The sink `kafka`, in builds with the feature `kafka`, since `librdkafka` and its TLS are C and take
//! minutes to build.

mod config;

#[cfg(feature = "kafka")]
mod client_log;
#[cfg(feature = "kafka")]
mod producer;
#[cfg(feature = "kafka")]
mod response;

pub use config::{KafkaConfig, KafkaLogin, KafkaMechanism, PropertyText};

#[cfg(feature = "kafka")]
pub(super) use producer::KafkaSink;
