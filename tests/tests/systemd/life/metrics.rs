//! Metrics on a socket that a group may use, as the documents and the shipped example say.

use super::{CONFIG, Life};

const SECTION: &str =
    "[metrics]\nlisten = \"unix:/run/netsensor/metrics.sock\"\ngroup = \"prometheus\"\n";
const DROP_IN: &str = "/etc/systemd/system/netsensor.service.d/metrics-group.conf";
/// Asks for the page, and gives its first line: Perl is on every Debian.
const ASK: &str = "perl -MIO::Socket::UNIX -e 'my $socket = IO::Socket::UNIX->new( \
                   Peer => \"/run/netsensor/metrics.sock\") or die \"$!\\n\"; \
                   print $socket \"GET /metrics HTTP/1.0\\r\\n\\r\\n\"; print <$socket>;'";

impl Life {
    pub(super) fn tells_its_metrics_to_a_group(&mut self) {
        self.machine.sh("groupadd --system prometheus && groupadd --system others");
        self.machine.sh(&format!(
            "install -D -m 0644 /usr/share/doc/netsensor/examples/metrics-group.conf {DROP_IN} && \
             systemctl daemon-reload"
        ));
        let config = self.config();
        self.machine.write(CONFIG, &format!("{SECTION}\n{config}"));
        self.machine.sh("systemctl restart netsensor");
        let shown = self.machine.sh("stat -c '%a %U %G' /run/netsensor/metrics.sock");
        assert_eq!(shown.trim(), "660 netsensor prometheus");
        let page = self.machine.sh(&as_member("prometheus"));
        assert!(page.contains("netsensor_healthy 1"), "{page}");
        let refused = self.machine.attempt(&as_member("others"));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("Permission denied"), "{said}");
        self.alerts("with metrics for a group");
        // As before, without the group.
        self.machine.write(CONFIG, &config);
        self.machine.sh(&format!("rm {DROP_IN}; systemctl daemon-reload"));
        self.machine.sh("systemctl restart netsensor; groupdel prometheus; groupdel others");
    }
}

/// Asks as nobody, who is a member of that group alone.
fn as_member(group: &str) -> String {
    format!("setpriv --reuid nobody --regid {group} --clear-groups -- {ASK}")
}
