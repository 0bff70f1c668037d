//! dnsmasq in front of unbound, queried by dig.

use crate::lab::{Daemon, Lab, Observed, SERVER, path};

const PORT: u16 = 53;
const UNBOUND_PORT: u16 = 5353;
const QUERIES: usize = 20;

/// Answers for one zone, from this file alone.
const UNBOUND: &str = "
server:
  interface: 203.0.113.7
  port: 5353
  access-control: 0.0.0.0/0 allow
  do-daemonize: no
  username: \"\"
  chroot: \"\"
  directory: \"FOLDER\"
  pidfile: \"\"
  use-syslog: no
  log-queries: yes
  num-threads: 2
  module-config: \"iterator\"
  local-zone: \"example.test.\" static
  local-data: \"www.example.test. A 192.0.2.55\"
";

fn start() -> Option<(Lab, Daemon, Daemon)> {
    let lab = Lab::start(&["unbound", "dnsmasq", "dig"])?;
    let folder = lab.path("").display().to_string();
    lab.write("unbound.conf", &UNBOUND.replace("FOLDER", &folder));
    let address = format!("{SERVER}:{UNBOUND_PORT}");
    let unbound = lab.listening("unbound", &["-d", "-c", "unbound.conf"], &address);
    let listen = format!("--listen-address={SERVER}");
    let server = format!("--server={SERVER}#{UNBOUND_PORT}");
    let words = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"];
    let log = ["--log-queries", "--log-facility=-", "--pid-file=", "--user=root"];
    let more = ["--bind-interfaces", "--cache-size=0", &listen, &server];
    let words = [&words[..], &log, &more].concat();
    let dnsmasq = lab.listening("dnsmasq", &words, &format!("{SERVER}:{PORT}"));
    Some((lab, unbound, dnsmasq))
}

/// Queries the name, and checks the owners. Returns the records and the process id of dnsmasq.
fn queries(more: &[&str]) -> Option<(Observed, u64)> {
    let (lab, unbound, dnsmasq) = start()?;
    let server = format!("@{SERVER}");
    let mut clients = Vec::new();
    for _query in 0..QUERIES {
        let words = ["+short", "+tries=1", "+timeout=10", &server, "www.example.test"];
        let dig = lab.run("dig", &[more, &words].concat());
        assert_eq!(dig.stdout, "192.0.2.55\n");
        clients.push(dig.pid);
    }
    let (unbound_pid, dnsmasq_pid) = (unbound.pid(), dnsmasq.pid());
    let forwarded = dnsmasq.stop().matches("forwarded www.example.test").count();
    let answered = unbound.stop().matches("www.example.test. A IN").count();
    let observed = lab.finish();
    assert_eq!((forwarded, answered), (QUERIES, QUERIES));

    let mut owners: Vec<u64> = observed.outbound(PORT).iter().map(|end| end.pid).collect();
    owners.sort_unstable();
    clients.sort_unstable();
    assert_eq!(owners, clients);
    for end in observed.inbound(UNBOUND_PORT) {
        assert_eq!((end.pid, &end.path), (unbound_pid, &path("unbound")), "{end:?}");
    }
    for end in observed.inbound(PORT).iter().chain(&observed.outbound(UNBOUND_PORT)) {
        assert_eq!(end.path, path("dnsmasq"), "{end:?}");
    }
    Some((observed, dnsmasq_pid))
}

#[test]
fn each_query_is_a_flow_to_dnsmasq_and_one_from_it_to_unbound() {
    let Some((observed, dnsmasq)) = queries(&[]) else { return };
    let [front, back] = [observed.inbound(PORT), observed.outbound(UNBOUND_PORT)];
    for end in front.iter().chain(&back) {
        assert!(end.connection.is_udp, "{end:?}");
        assert_eq!(end.pid, dnsmasq, "{end:?}");
    }
    assert_eq!(front.len(), QUERIES);
}

#[test]
fn each_query_over_tcp_is_a_connection_of_a_process_of_dnsmasq() {
    let Some((observed, dnsmasq)) = queries(&["+tcp"]) else { return };
    let [front, back] = [observed.inbound(PORT), observed.outbound(UNBOUND_PORT)];
    for end in front.iter().chain(&back) {
        assert!(!end.connection.is_udp, "{end:?}");
        // dnsmasq accepts, and leaves the connection to a child.
        assert_eq!(end.pid == dnsmasq, end.attribution == "accept", "{end:?}");
    }
    assert_eq!((front.len(), back.len()), (QUERIES, QUERIES));
}
