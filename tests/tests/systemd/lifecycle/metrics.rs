//! Metrics on a socket for a group, as in the documents and the shipped example.

use super::{CONFIG, Lifecycle};

const SECTION: &str =
    "[metrics]\nlisten = \"unix:/run/netsensor/metrics.sock\"\ngroup = \"prometheus\"\n";
const DROP_IN: &str = "/etc/systemd/system/netsensor.service.d/metrics-group.conf";
/// Requests the page and prints it, with Perl, which is on every Debian.
const GET_PAGE: &str = "perl -MIO::Socket::UNIX -e 'my $socket = IO::Socket::UNIX->new( \
                   Peer => \"/run/netsensor/metrics.sock\") or die \"$!\\n\"; \
                   print $socket \"GET /metrics HTTP/1.0\\r\\n\\r\\n\"; print <$socket>;'";

impl Lifecycle {
    pub(super) fn check_metrics_for_a_group(&mut self) {
        self.machine.sh("groupadd --system prometheus && groupadd --system others");
        self.machine.sh(&format!(
            "install -D -m 0644 /usr/share/doc/netsensor/examples/metrics-group.conf {DROP_IN} && \
             systemctl daemon-reload"
        ));
        let config = self.config();
        self.machine.write(CONFIG, &format!("{SECTION}\n{config}"));
        self.machine.sh("systemctl restart netsensor");
        let socket = self.machine.sh("stat -c '%a %U %G' /run/netsensor/metrics.sock");
        assert_eq!(socket.trim(), "660 netsensor prometheus");
        let page = self.machine.sh(&as_member("prometheus"));
        assert!(page.contains("netsensor_healthy 1"), "{page}");
        let refused = self.machine.attempt(&as_member("others"));
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(error.contains("Permission denied"), "{error}");
        self.check_alert("with metrics for a group");
        // Restores the setup without the group.
        self.machine.write(CONFIG, &config);
        self.machine.sh(&format!("rm {DROP_IN}; systemctl daemon-reload"));
        self.machine.sh("systemctl restart netsensor; groupdel prometheus; groupdel others");
    }
}

/// Requests the page as user nobody, a member of only that group.
fn as_member(group: &str) -> String {
    format!("setpriv --reuid nobody --regid {group} --clear-groups -- {GET_PAGE}")
}
