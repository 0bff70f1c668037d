//! Real servers of threat intelligence and destinations of sinks, on 127.0.0.1. Each runs in its
//! own temporary directory. Tests start, kill and restart it at the same port.
//!
//! `cargo xtask test` installs them: those in Python into `target/servers/NAME`, `CrowdSec` and
//! rsyslog from Debian.

mod crowdsec;
mod curl;
mod intercepting_proxy;
#[cfg(feature = "kafka")]
mod kafka;
mod kafka_auth_proxy;
mod medallion;
mod mmisp;
mod mock_web_server;
mod nats;
mod nginx;
mod opentaxii;
mod osmem;
mod process;
mod rsyslog;
mod tansu;
mod tenzir;

pub use crowdsec::CrowdSec;
pub use curl::{CurlResponse, curl};
pub use intercepting_proxy::{InterceptingProxy, ProxyAction};
#[cfg(feature = "kafka")]
pub use kafka::{KafkaClient, KafkaMessage};
pub use kafka_auth_proxy::{KafkaAuthProxy, ProxyTls};
pub use medallion::Medallion;
pub use mmisp::Mmisp;
pub use mock_web_server::{MockWebServer, ReceivedRequest};
pub use nats::Nats;
pub use nginx::Nginx;
pub use opentaxii::OpenTaxii;
pub use osmem::Osmem;
use process::site_packages;
pub use process::{free_port, server_python};
pub use rsyslog::{Rsyslog, TlsFiles};
pub use tansu::Tansu;
pub use tenzir::{Tenzir, TenzirOutput, run_tenzir, tenzir_binary};

/// STIX 2.1 indicator for `address`. `version` (0 to 59) is the second of its `modified` time.
pub fn stix_indicator(
    number: u32,
    address: &str,
    version: u32,
    revoked: bool,
) -> serde_json::Value {
    let at = format!("2026-11-01T00:00:{version:02}.000Z");
    let mut object = serde_json::json!({
        "type": "indicator",
        "spec_version": "2.1",
        "id": format!("indicator--00000000-0000-4000-8000-{number:012}"),
        "created": "2026-11-01T00:00:00.000Z",
        "modified": at,
        "name": format!("host {number}"),
        "indicator_types": ["malicious-activity"],
        "pattern": format!("[ipv4-addr:value = '{address}']"),
        "pattern_type": "stix",
        "valid_from": "2026-11-01T00:00:00Z",
    });
    if revoked && let Some(object) = object.as_object_mut() {
        object.insert("revoked".to_owned(), true.into());
    }
    object
}
