//! chrony as client and server. Neither sets the clock.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use sensor_tests::wait_until;

use crate::lab::{Lab, SERVER, path};

const PORT: u16 = 123;
/// Bytes of a request, and of a response.
const NTP_LENGTH: u64 = 48;

const SERVER_CONFIGURATION: &str = "
local stratum 8
allow
bindaddress 203.0.113.7
cmdport 0
bindcmdaddress /
pidfile FOLDER/server.pid
";
const CLIENT_CONFIGURATION: &str = "
server 203.0.113.7 iburst minpoll 0 maxpoll 0
bindacqaddress 198.51.100.9
port 0
cmdport 0
bindcmdaddress FOLDER/control/socket
pidfile FOLDER/client.pid
";

/// A count in the report of `chronyc ntpdata`.
fn total(report: &str, name: &str) -> u64 {
    let line = report.lines().find(|line| line.starts_with(name));
    let count = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    count.unwrap_or_else(|| panic!("no {name} in {report}"))
}

#[test]
fn each_request_of_chrony_is_a_flow_of_its_own() {
    let Some(lab) = Lab::start(&["chronyd", "chronyc"]) else { return };
    let folder = lab.path("").display().to_string();
    for (name, text) in
        [("server.conf", SERVER_CONFIGURATION), ("client.conf", CLIENT_CONFIGURATION)]
    {
        lab.write(name, &text.replace("FOLDER/", &folder));
    }
    std::fs::create_dir(lab.path("control")).unwrap();
    std::fs::set_permissions(lab.path("control"), Permissions::from_mode(0o700)).unwrap();
    let common = ["-d", "-x", "-u", "root", "-f"];
    let start = |name| [&common[..], &[name]].concat();
    let server = lab.listening("chronyd", &start("server.conf"), &format!("{SERVER}:{PORT}"));
    let client = lab.daemon("chronyd", &start("client.conf"));
    let control = lab.path("control/socket").display().to_string();
    wait_until("the client takes commands", || lab.path("control/socket").exists());
    let chronyc = |command| lab.run("chronyc", &["-h", &control, command]).stdout;
    wait_until("four responses", || total(&chronyc("ntpdata"), "Total RX") >= 4);
    // No request follows, so that the counts are final.
    chronyc("offline");
    let report = chronyc("ntpdata");
    let pids = (client.pid(), server.pid());
    drop((client, server));
    let observed = lab.finish();

    let (clients, servers) = (observed.outbound(PORT), observed.inbound(PORT));
    for (ends, pid) in [(&clients, pids.0), (&servers, pids.1)] {
        for end in ends {
            assert_eq!((end.pid, &end.path), (pid, &path("chronyd")), "{end:?}");
        }
    }
    let bytes = |name| total(&report, name) * NTP_LENGTH;
    assert_eq!(clients.iter().map(|end| end.connection.sent).sum::<u64>(), bytes("Total TX"));
    assert_eq!(clients.iter().map(|end| end.connection.received).sum::<u64>(), bytes("Total RX"));
}
