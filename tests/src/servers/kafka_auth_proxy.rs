//! A broker of Kafka with TLS and SASL: Tansu behind a gate of `tests/oracles/kafka_auth_proxy.py`, since
//! Tansu's own TLS takes no key beside a certificate and its SASL keeps no users.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::Tansu;
use super::process::{Process, free_port};
use crate::{certificates, python_with};

/// Who has a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyTls {
    /// Nobody: there is no TLS.
    Off,
    /// The broker.
    ServerOnly,
    /// The broker and whoever it lets in.
    Mutual,
}

/// A running broker with its gate.
#[derive(Debug)]
pub struct KafkaAuthProxy {
    folder: TempDir,
    port: u16,
    _tansu: Tansu,
    _process: Process,
}

impl KafkaAuthProxy {
    /// Who is let in by his name.
    pub const USER: &str = "sensor";
    /// By this password.
    pub const PASSWORD: &str = "right-password";

    /// Starts one that asks for [`Self::USER`] by `mechanism` (`-`: it does not); `None` where
    /// Tansu or Python is not installed.
    pub fn start(tls: ProxyTls, mechanism: &str) -> Option<Self> {
        let python = python_with("ssl")?;
        let folder = certificates();
        let marks: &[&str] = match tls {
            ProxyTls::Off => &[],
            ProxyTls::ServerOnly => &["tls"],
            ProxyTls::Mutual => &["tls", "mutual"],
        };
        for mark in marks {
            std::fs::write(folder.path().join(mark), "").expect("a file");
        }
        let port = free_port();
        let tansu = Tansu::start_behind_proxy(Some(port))?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracles/kafka_auth_proxy.py");
        let mut command = Command::new(python);
        command.arg(script).arg(port.to_string()).arg(tansu.port().to_string());
        command.arg(folder.path()).arg(mechanism);
        let process = Process::start(&mut command, &folder.path().join("log"), port);
        Some(Self { folder, port, _tansu: tansu, _process: process })
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A file of [`certificates`].
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
