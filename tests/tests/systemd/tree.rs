//! A Debian tree to boot: built once by mmdebstrap from the sources of this host's apt, cached
//! under `target/systemd`, and copied for each test.

use std::path::{Path, PathBuf};
use std::process::Command;

use sensor_tests::run;
use tempfile::TempDir;

/// Packages that a container needs, and the package's dependencies, so that it installs offline.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,ca-certificates";
/// Time limit of mmdebstrap, seconds.
const LIMIT: &str = "900";

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/systemd")
}

/// A copy of the tree, removed when dropped. Not on /tmp, which may be small or in memory.
pub(super) fn copy() -> TempDir {
    let base = base();
    let copy = tempfile::tempdir_in(home()).unwrap();
    run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(base.join(".")).arg(copy.path()));
    copy
}

/// The cached tree, rebuilt if it is missing or has other packages.
fn base() -> PathBuf {
    let (base, mark) = (home().join("base"), home().join("base.packages"));
    let (suite, mirror) = mirror().expect("a source of Debian's packages");
    let wanted = format!("{suite} {PACKAGES}\n");
    if std::fs::read_to_string(&mark).is_ok_and(|made| made == wanted) {
        return base;
    }
    std::fs::create_dir_all(home()).unwrap();
    run(Command::new("rm").arg("-rf").arg(&base).arg(&mark));
    let mut mmdebstrap = Command::new("timeout");
    mmdebstrap.args([LIMIT, "mmdebstrap", "--quiet", "--variant=minbase"]);
    mmdebstrap.arg(format!("--include={PACKAGES}")).arg(&suite).arg(&base).arg(&mirror);
    if let Some(proxy) = proxy() {
        mmdebstrap.env("http_proxy", proxy);
    }
    run(&mut mmdebstrap);
    std::fs::write(&mark, wanted).unwrap();
    base
}

/// This host's Debian release and apt source; `None` on another distribution.
pub(super) fn mirror() -> Option<(String, String)> {
    let release = std::fs::read_to_string("/etc/os-release").ok()?;
    let value = |name: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let (id, suite) = (value("ID=")?, value("VERSION_CODENAME=")?);
    if id != "debian" {
        return None;
    }
    let format = "$(CODENAME) $(COMPONENT) $(SITE) $(CREATED_BY)";
    let listed =
        Command::new("apt-get").args(["indextargets", "--format", format]).output().ok()?;
    let listed = String::from_utf8(listed.stdout).ok()?;
    let found = listed.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            [codename, "main", site, "Packages"] if *codename == suite => Some((*site).to_owned()),
            _ => None,
        }
    });
    found.map(|site| (suite, site))
}

/// The proxy of apt, if any: mmdebstrap does not read apt's configuration.
fn proxy() -> Option<String> {
    let result =
        Command::new("apt-config").args(["shell", "proxy", "Acquire::http::Proxy"]).output();
    let output = String::from_utf8(result.ok()?.stdout).ok()?;
    output.trim().strip_prefix("proxy='")?.strip_suffix('\'').map(str::to_owned)
}
