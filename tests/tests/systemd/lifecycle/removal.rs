//! Upgrade and purge.

use std::path::{Path, PathBuf};
use std::process::Command;

use sensor_tests::run;

use super::{CONFIG, Lifecycle};

/// Directories where a file with the agent's name could remain: everything but the kernel's file
/// systems, with mounted ones. `/srv` has the test's own files.
const DIRECTORIES: &str = "/ /run /tmp /var/tmp /dev /dev/shm";

impl Lifecycle {
    pub(super) fn check_upgrade(&mut self, package: &Path) {
        let (id, pid) = (self.agent_id(), self.main_pid());
        let newer = build_newer(package, &self.machine.path("/srv"));
        assert!(newer.is_file());
        self.machine.sh("apt-get install -y /srv/newer.deb </dev/null");
        self.wait_for_restart(&pid);
        assert_eq!(self.machine.sh("dpkg-query -W -f '${Version}' netsensor"), "9.0-1");
        assert_eq!(self.agent_id(), id);
        assert_eq!(std::fs::read_to_string(self.machine.path(CONFIG)).unwrap(), self.config());
        self.check_alert("upgraded");
    }

    pub(super) fn check_purge(&self) {
        let user = self.machine.sh("id -u netsensor; getent group netsensor | cut -d: -f3");
        let [user, group] = user.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("no user and group: {user}")
        };
        self.machine.sh("apt-get purge -y netsensor </dev/null");
        assert_eq!(self.machine.attempt("pgrep -f netsensor").stdout, b"");
        let unit = self.machine.sh("systemctl show -P LoadState netsensor");
        assert_eq!(unit.trim(), "not-found");
        for list in ["passwd", "group", "shadow", "gshadow"] {
            let named = format!("getent {list} | grep netsensor || true");
            assert_eq!(self.machine.sh(&named), "", "its user and group are gone");
        }
        // The logs of apt and dpkg, backup copies of the user databases, and the journal are not
        // the package's.
        let left = self.machine.sh(&format!(
            "for directory in {DIRECTORIES}; do \
                 find $directory -xdev \\( -path /proc -o -path /sys -o -path /srv \\) -prune -o \
                 \\( -iname '*netsensor*' -o -uid {user} -o -gid {group} \\) -print; \
             done | sort -u; \
             find /sys/fs/bpf -iname '*netsensor*' 2>/dev/null || true; \
             grep -l netsensor -r /etc /var/lib --exclude-dir=apt --exclude-dir=dpkg \
             --exclude='*-' || true; \
             grep netsensor /var/lib/dpkg/status || true"
        ));
        assert_eq!(left, "", "files remain after a purge");
        println!("purged: nothing remains");
    }
}

/// Builds the same package with a higher version, in `folder`.
fn build_newer(package: &Path, folder: &Path) -> PathBuf {
    let (unpacked, newer) = (folder.join("unpacked"), folder.join("newer.deb"));
    run(Command::new("dpkg-deb").arg("-R").arg(package).arg(&unpacked));
    let control = unpacked.join("DEBIAN/control");
    run(Command::new("sed").args(["-i", "s/^Version: .*/Version: 9.0-1/"]).arg(&control));
    let build = ["--root-owner-group", "-Znone", "-b"];
    run(Command::new("dpkg-deb").args(build).arg(&unpacked).arg(&newer));
    std::fs::remove_dir_all(&unpacked).unwrap();
    newer
}
