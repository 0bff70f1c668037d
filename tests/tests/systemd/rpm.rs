//! The .rpm: its scripts on a booted machine, for installation, upgrade and erasure.
//!
//! The machine is a Debian, and gets a copy of this host's `rpm`, which is of the same release.

use std::path::Path;
use std::process::Command;

use sensor_tests::{Netns, run, skip_unless};

use super::machine::Machine;
use super::{made_package, package};

/// Malicious addresses of the example, one per start of the service.
const ADDRESSES: [&str; 3] = ["198.51.100.1", "198.51.100.2", "198.51.100.3"];
/// The dependencies are installed as .deb packages, and Debian's `rpm` needs a confirmation.
const FLAGS: &str = "--nodeps --force-debian";
const CONFIG: &str = "/etc/netsensor/netsensor.toml";

#[test]
fn the_rpm_scripts_install_upgrade_and_erase() {
    let Some(other) = package() else { return };
    let package = made_package("NETSENSOR_RPM", "rpm");
    if skip_unless(package.is_some(), "there is no .rpm; make it with cargo xtask package") {
        return;
    }
    let machine = Machine::boot(Netns::new(&ADDRESSES), &other);

    copy_rpm(&machine);
    std::fs::copy(package.unwrap(), machine.path("/srv/netsensor.rpm")).unwrap();
    let output = rpm(&machine, &format!("--install {FLAGS} /srv/netsensor.rpm"));
    assert_eq!(output, "", "it prints nothing");
    let pid = running_pid(&machine);
    assert_eq!(machine.sh("systemctl is-enabled netsensor").trim(), "enabled");
    assert_eq!(machine.sh("stat -c '%a %U' /var/lib/netsensor").trim(), "700 netsensor");
    check_alert(&machine, "installed", ADDRESSES[0]);

    let id = machine.sh("cat /var/lib/netsensor/agent-id");
    machine.sh(&format!("echo '# mine' >> {CONFIG}"));
    make_newer(&machine.path("/srv"));
    assert_eq!(rpm(&machine, &format!("--upgrade {FLAGS} /srv/newer.rpm")), "");
    assert_ne!(running_pid(&machine), pid, "the service is restarted");
    assert_eq!(rpm(&machine, "--query --queryformat '%{RELEASE}' netsensor"), "2");
    assert_eq!(machine.sh("systemctl is-enabled netsensor").trim(), "enabled");
    assert_eq!(machine.sh("cat /var/lib/netsensor/agent-id"), id);
    machine.sh(&format!("grep -F '# mine' {CONFIG}"));
    check_alert(&machine, "upgraded", ADDRESSES[1]);

    // A disabled service stays disabled.
    let again = format!("--upgrade --replacepkgs {FLAGS} /srv/newer.rpm");
    machine.sh("systemctl disable --now netsensor");
    assert_eq!(rpm(&machine, &again), "");
    assert_eq!(machine.attempt("systemctl is-active netsensor").stdout, b"inactive\n");
    assert_eq!(machine.attempt("systemctl is-enabled netsensor").stdout, b"disabled\n");
    machine.sh("systemctl enable --now netsensor");
    check_alert(&machine, "started again", ADDRESSES[2]);

    let output = rpm(&machine, &format!("--erase {FLAGS} netsensor"));
    assert_eq!(output, format!("warning: {CONFIG} saved as {CONFIG}.rpmsave\n"));
    assert_eq!(machine.attempt("pgrep -x netsensor").stdout, b"");
    let unit = machine.sh("systemctl show -P LoadState netsensor");
    assert_eq!(unit.trim(), "not-found");
    let left = machine.sh("for directory in / /run /tmp /dev; do \
             find $directory -xdev \\( -path /proc -o -path /sys -o -path /srv \
             -o -path /var/lib/netsensor \\) -prune -o -iname '*netsensor*' -print; \
         done");
    assert_eq!(left, format!("/etc/netsensor\n{CONFIG}.rpmsave\n"), "files remain after erasure");
}

/// Copies this host's `rpm` to the machine, with its libraries and files.
fn copy_rpm(machine: &Machine) {
    let listed = run(Command::new("ldd").arg("/usr/bin/rpm"));
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    let copy = ["--recursive", "--dereference", "--no-clobber", "--parents"];
    run(Command::new("cp")
        .args(copy)
        .args(["/usr/bin/rpm", "/usr/lib/rpm"])
        .args(libraries)
        .arg(machine.path("/")));
}

/// Runs `rpm` with these arguments, which must succeed; returns its output.
fn rpm(machine: &Machine, words: &str) -> String {
    machine.sh(&format!("rpm --dbpath /var/lib/rpm {words} 2>&1"))
}

/// Asserts that the service runs; returns its pid.
fn running_pid(machine: &Machine) -> String {
    assert_eq!(machine.sh("systemctl is-active netsensor").trim(), "active");
    machine.sh("systemctl show -P MainPID netsensor").trim().to_owned()
}

/// Makes a real connection, and waits for its alert in the file.
fn check_alert(machine: &Machine, when: &str, address: &str) {
    let connect = format!("bash -c 'exec 3<>/dev/tcp/{address}/443'");
    assert!(!machine.attempt(&connect).status.success(), "something listens at {address}");
    let alert = format!("grep -F '\"MatchedIp\":\"{address}\"' /var/lib/netsensor/alerts.jsonl");
    machine.wait_for(when, &alert);
    println!("{when}: the alert for {address} is in the file");
}

/// Builds `newer.rpm` in `folder`, from the same stage with a higher release.
fn make_newer(folder: &Path) {
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
}
