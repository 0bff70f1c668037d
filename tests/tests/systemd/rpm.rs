//! The .rpm: its scripts on a booted machine, from installation over an upgrade to its erasure.
//!
//! The machine is a Debian, which has no database of rpm's own: this machine's `rpm` installs into
//! it, and runs the scripts in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use sensor_tests::{Netns, run, skip_unless};

use super::machine::Machine;
use super::{made_package, package};

/// What the example says is malicious: one for each start of the service.
const ADDRESSES: [&str; 3] = ["198.51.100.1", "198.51.100.2", "198.51.100.3"];
const CONFIG: &str = "/etc/netsensor/netsensor.toml";

#[test]
fn the_scripts_of_the_rpm_install_upgrade_and_erase() {
    let Some(other) = package() else { return };
    let package = made_package("NETSENSOR_RPM", "rpm");
    if skip_unless(package.is_some(), "there is no .rpm; make it with cargo xtask package") {
        return;
    }
    let package = package.unwrap();
    let machine = Machine::boot(Netns::new(&ADDRESSES), &other);

    let said = rpm(&machine, &["--install"], &package);
    assert_eq!(said, "", "it asks and tells nothing");
    let pid = runs(&machine);
    assert_eq!(machine.sh("systemctl is-enabled netsensor").trim(), "enabled");
    assert_eq!(machine.sh("stat -c '%a %U' /var/lib/netsensor").trim(), "700 netsensor");
    alerts(&machine, "installed", ADDRESSES[0]);

    let id = machine.sh("cat /var/lib/netsensor/agent-id");
    machine.sh(&format!("echo '# mine' >> {CONFIG}"));
    let newer = newer(&machine.path("/srv"));
    assert_eq!(rpm(&machine, &["--upgrade"], &newer), "");
    assert_ne!(runs(&machine), pid, "the service is restarted");
    assert_eq!(query(&machine), "2");
    assert_eq!(machine.sh("systemctl is-enabled netsensor").trim(), "enabled");
    assert_eq!(machine.sh("cat /var/lib/netsensor/agent-id"), id);
    machine.sh(&format!("grep -F '# mine' {CONFIG}"));
    alerts(&machine, "upgraded", ADDRESSES[1]);

    // One that is off stays off.
    machine.sh("systemctl disable --now netsensor");
    assert_eq!(rpm(&machine, &["--upgrade", "--replacepkgs"], &newer), "");
    assert_eq!(machine.attempt("systemctl is-active netsensor").stdout, b"inactive\n");
    assert_eq!(machine.attempt("systemctl is-enabled netsensor").stdout, b"disabled\n");
    machine.sh("systemctl enable --now netsensor");
    alerts(&machine, "started again", ADDRESSES[2]);

    let said = rpm(&machine, &["--erase"], Path::new("netsensor"));
    assert_eq!(said, format!("warning: {CONFIG} saved as {CONFIG}.rpmsave\n"));
    assert_eq!(machine.attempt("pgrep -x netsensor").stdout, b"");
    let unit = machine.sh("systemctl show -P LoadState netsensor");
    assert_eq!(unit.trim(), "not-found");
    let left = machine.sh("for place in / /run /tmp /dev; do \
             find $place -xdev \\( -path /proc -o -path /sys -o -path /srv \
             -o -path /var/lib/netsensor \\) -prune -o -iname '*netsensor*' -print; \
         done");
    assert_eq!(left, format!("/etc/netsensor\n{CONFIG}.rpmsave\n"), "left when it is erased");
}

/// What `rpm` with these words says; it must succeed.
fn rpm(machine: &Machine, words: &[&str], package: &Path) -> String {
    let mut rpm = machine.outside("rpm");
    // This Debian's rpm asks for it; dependencies are there, as packages of another kind.
    rpm.arg("--root").arg(machine.root()).args(["--force-debian", "--nodeps"]);
    let output = run(rpm.args(words).arg(package));
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8(said).unwrap()
}

/// The release that is installed.
fn query(machine: &Machine) -> String {
    let mut rpm = machine.outside("rpm");
    rpm.arg("--root").arg(machine.root());
    let output = run(rpm.args(["--query", "--queryformat", "%{RELEASE} ", "netsensor"]));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The process of the service, which runs.
fn runs(machine: &Machine) -> String {
    assert_eq!(machine.sh("systemctl is-active netsensor").trim(), "active");
    machine.sh("systemctl show -P MainPID netsensor").trim().to_owned()
}

/// A real connection, and its alert in the file.
fn alerts(machine: &Machine, when: &str, address: &str) {
    let connect = format!("bash -c 'exec 3<>/dev/tcp/{address}/443'");
    assert!(!machine.attempt(&connect).status.success(), "somebody listens at {address}");
    let alert = format!("grep -F '\"MatchedIp\":\"{address}\"' /var/lib/netsensor/alerts.jsonl");
    machine.wait_for(when, &alert);
    println!("{when}: the alert for {address} is in the file");
}

/// The same package with a higher release, in `folder`, of what the last one was made of.
fn newer(folder: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let spec = std::fs::read_to_string(root.join("packaging/rpm/netsensor.spec")).unwrap();
    let higher = spec.replace("\nRelease: 1\n", "\nRelease: 2\n");
    assert_ne!(higher, spec);
    let path = folder.join("newer.spec");
    std::fs::write(&path, higher).unwrap();
    let defined = |name: &str, value: &Path| format!("{name} {}", value.display());
    let work = folder.join("rpmbuild");
    run(Command::new("rpmbuild")
        .args(["-bb", "--quiet"])
        .args(["--define", &defined("_topdir", &work)])
        .args(["--define", &defined("_rpmdir", folder)])
        .args(["--define", "_rpmfilename newer.rpm", "--define", "_binary_payload w0.gzdio"])
        .args(["--define", &defined("stage", &root.join("target/packages/stage"))])
        .args(["--define", concat!("upstream ", env!("CARGO_PKG_VERSION"))])
        .arg(&path));
    folder.join("newer.rpm")
}
