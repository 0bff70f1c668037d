//! rsyslog, configured to write each received message as a JSON line.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::process::{ServerProcess, free_port};

const PROGRAM: &str = "/usr/sbin/rsyslogd";
const TLS_MODULES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so",
    "/usr/lib/aarch64-linux-gnu/rsyslog/lmnsd_gtls.so",
];

/// PEM files with which a server authenticates itself and its clients.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate authority of server and clients.
    pub authority: PathBuf,
    /// Certificate of the server.
    pub certificate: PathBuf,
    /// Private key of the server.
    pub key: PathBuf,
}

/// Running rsyslog server with a TCP input.
#[derive(Debug)]
pub struct Rsyslog {
    folder: TempDir,
    port: u16,
    process: Option<ServerProcess>,
}

impl Rsyslog {
    /// True if rsyslog is installed.
    pub fn is_installed() -> bool {
        Path::new(PROGRAM).is_file()
    }

    /// True if rsyslog and its TLS driver are installed.
    pub fn supports_tls() -> bool {
        Self::is_installed() && TLS_MODULES.iter().any(|path| Path::new(path).is_file())
    }

    /// Starts the server. With `tls` it accepts only clients with a certificate of the authority.
    pub fn start(tls: Option<&TlsFiles>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let mut rsyslog = Self { folder, port, process: None };
        rsyslog.configure(tls);
        rsyslog.restart();
        rsyslog
    }

    /// Restarts the server at its port.
    pub fn restart(&mut self) {
        self.process = None;
        let path = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(PROGRAM);
        command.arg("-n").arg("-f").arg(path("conf")).arg("-i").arg(path("pid"));
        self.process = Some(ServerProcess::start(&mut command, &path("log"), self.port));
    }

    /// Stops the server if it is running.
    pub fn stop(&mut self) {
        self.process = None;
    }

    fn configure(&self, tls: Option<&TlsFiles>) {
        let out = self.folder.path().join("out");
        let mut text = String::from("global(maxMessageSize=\"256k\" ");
        let mut driver = String::new();
        if let Some(tls) = tls {
            let _infallible = write!(
                text,
                "defaultNetstreamDriver=\"gtls\" defaultNetstreamDriverCAFile=\"{}\" \
                 defaultNetstreamDriverCertFile=\"{}\" defaultNetstreamDriverKeyFile=\"{}\"",
                tls.authority.display(),
                tls.certificate.display(),
                tls.key.display()
            );
            driver.push_str(
                "streamDriver.name=\"gtls\" streamDriver.mode=\"1\" \
                 streamDriver.authMode=\"x509/certvalid\"",
            );
        }
        let _infallible = write!(
            text,
            ")\nmodule(load=\"imtcp\" {driver})\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{}\")\n\
             template(name=\"json\" type=\"list\" option.jsonf=\"on\") {{\n\
             property(outname=\"message\" name=\"msg\" format=\"jsonf\")\n\
             property(outname=\"host\" name=\"hostname\" format=\"jsonf\")\n\
             property(outname=\"app\" name=\"app-name\" format=\"jsonf\")\n\
             property(outname=\"msgid\" name=\"msgid\" format=\"jsonf\")\n\
             property(outname=\"facility\" name=\"syslogfacility-text\" format=\"jsonf\")\n\
             property(outname=\"severity\" name=\"syslogseverity\" format=\"jsonf\")\n\
             property(outname=\"time\" name=\"timereported\" dateFormat=\"rfc3339\" format=\"jsonf\")\n\
             property(outname=\"data\" name=\"structured-data\" format=\"jsonf\")\n}}\n\
             if $inputname == \"imtcp\" then \
             action(type=\"omfile\" file=\"{}\" template=\"json\")\n",
            self.port,
            out.display()
        );
        std::fs::write(self.folder.path().join("conf"), text).expect("a configuration");
    }

    /// Address of the server, `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Port on which it listens.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Messages received so far.
    pub fn messages(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.folder.path().join("out")).unwrap_or_default();
        // The last line may be incomplete.
        let complete = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
        complete.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Log of the server itself.
    pub fn own_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}
