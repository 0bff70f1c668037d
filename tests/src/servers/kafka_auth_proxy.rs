//! Kafka broker with TLS and SASL: Tansu behind `tests/oracles/kafka_auth_proxy.py`. Tansu's own
//! TLS accepts no private key for its certificate, and its SASL has no users.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::Tansu;
use super::process::{ServerProcess, free_port};
use crate::{certificates, python_with};

/// TLS mode of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyTls {
    /// Plaintext connections without TLS.
    Off,
    /// TLS with a certificate of the broker.
    ServerOnly,
    /// Mutual TLS: broker and client have certificates.
    Mutual,
}

/// Running broker with its authenticating proxy.
#[derive(Debug)]
pub struct KafkaAuthProxy {
    folder: TempDir,
    port: u16,
    _tansu: Tansu,
    _process: ServerProcess,
}

impl KafkaAuthProxy {
    /// User name of the only user.
    pub const USER: &str = "sensor";
    /// Password of the only user.
    pub const PASSWORD: &str = "right-password";

    /// Starts a broker that authenticates [`Self::USER`] with the SASL `mechanism`, or `-` for
    /// none. `None` if Tansu or Python is not installed.
    pub fn start(tls: ProxyTls, mechanism: &str) -> Option<Self> {
        let python = python_with("ssl")?;
        let folder = certificates();
        let mode_files: &[&str] = match tls {
            ProxyTls::Off => &[],
            ProxyTls::ServerOnly => &["tls"],
            ProxyTls::Mutual => &["tls", "mutual"],
        };
        for name in mode_files {
            std::fs::write(folder.path().join(name), "").expect("a file");
        }
        let port = free_port();
        let tansu = Tansu::start_behind_proxy(Some(port))?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracles/kafka_auth_proxy.py");
        let mut command = Command::new(python);
        command.arg(script).arg(port.to_string()).arg(tansu.port().to_string());
        command.arg(folder.path()).arg(mechanism);
        let process = ServerProcess::start(&mut command, &folder.path().join("log"), port);
        Some(Self { folder, port, _tansu: tansu, _process: process })
    }

    /// Address of the proxy, `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Path of a file of [`mod@certificates`].
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
