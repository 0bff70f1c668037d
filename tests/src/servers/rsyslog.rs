//! rsyslog, which writes each message that it gets as a JSON line.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::process::{Process, free_port};

/// Debian's.
const PROGRAM: &str = "/usr/sbin/rsyslogd";
const TLS_MODULES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so",
    "/usr/lib/aarch64-linux-gnu/rsyslog/lmnsd_gtls.so",
];

/// Certificates, PEM, by which a server and its clients know each other.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The authority.
    pub authority: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// And its key.
    pub key: PathBuf,
}

/// A running rsyslog.
#[derive(Debug)]
pub struct Rsyslog {
    folder: TempDir,
    port: u16,
    process: Option<Process>,
}

impl Rsyslog {
    /// Whether it is installed.
    pub fn is_installed() -> bool {
        Path::new(PROGRAM).is_file()
    }

    /// Whether it can speak TLS.
    pub fn supports_tls() -> bool {
        Self::is_installed() && TLS_MODULES.iter().any(|path| Path::new(path).is_file())
    }

    /// Starts one; with `tls`, one that takes only clients with a certificate of the authority.
    pub fn start(tls: Option<&TlsFiles>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let mut rsyslog = Self { folder, port, process: None };
        rsyslog.configure(tls);
        rsyslog.restart();
        rsyslog
    }

    /// Starts it again at its port.
    pub fn restart(&mut self) {
        self.process = None;
        let path = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(PROGRAM);
        command.arg("-n").arg("-f").arg(path("conf")).arg("-i").arg(path("pid"));
        self.process = Some(Process::start(&mut command, &path("log"), self.port));
    }

    /// Ends it.
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

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What it got so far.
    pub fn messages(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.folder.path().join("out")).unwrap_or_default();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
        whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// What it says of itself.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}
