//! nginx with workers under ab, with kept connections and without.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use crate::lab::{Daemon, Lab, SERVER, SERVER_V6, path};

pub(crate) const PORT: u16 = 80;
/// Port of a socket for both address families.
const DUAL_PORT: u16 = 81;

/// Configuration of an nginx that answers every request itself, and logs each to `access.log`.
const CONFIGURATION: &str = "
daemon off; master_process on; worker_processes 3; user root; error_log stderr; pid nginx.pid;
events { worker_connections 256; }
http {
  log_format truth '$remote_addr $remote_port $pid $request_length $bytes_sent';
  access_log access.log truth;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp;
  scgi_temp_path tmp;
  keepalive_requests 50;
  server { listen 203.0.113.7:80 reuseport; listen [::]:81 ipv6only=off; location / { return 200 'hello world'; } }
}
";

/// Starts nginx in a lab.
pub(crate) fn start(lab: &Lab) -> Daemon {
    lab.write("nginx.conf", CONFIGURATION);
    let folder = format!("{}/", lab.path("").display());
    let words = ["-p", &folder, "-e", "stderr", "-c", "nginx.conf"];
    lab.listening("nginx", &words, &format!("{SERVER}:{PORT}"))
}

/// What the requests of one connection sum up to in nginx's log.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
struct Logged {
    pid: u64,
    received: u64,
    sent: u64,
}

/// Sums the requests of each client's address and port. nginx logs the IPv4 client of a dual-stack socket as
/// IPv4-mapped.
fn logged(log: &str) -> HashMap<SocketAddr, Logged> {
    let mut connections: HashMap<SocketAddr, Logged> = HashMap::new();
    for line in log.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [ip, port, pid, received, sent] = words[..] else { panic!("{line}") };
        let ip: IpAddr = ip.parse().unwrap();
        let client = SocketAddr::new(ip.to_canonical(), port.parse().unwrap());
        let logged = connections.entry(client).or_default();
        logged.pid = pid.parse().unwrap();
        logged.received += received.parse::<u64>().unwrap();
        logged.sent += sent.parse::<u64>().unwrap();
    }
    connections
}

/// Runs ab against an address of nginx.
fn requests_of_ab(address: SocketAddr, more: &[&str], connections: usize) {
    let Some(lab) = Lab::start(&["nginx", "ab"]) else { return };
    let nginx = start(&lab);
    let url = format!("http://{address}/");
    let ab = lab.run("ab", &[&["-q", "-n", "1000", "-c", "10"], more, &[&url]].concat());
    let master = nginx.pid();
    drop(nginx);
    let logged = logged(&std::fs::read_to_string(lab.path("access.log")).unwrap());
    let observed = lab.finish();

    let clients = observed.outbound(address.port());
    assert!(clients.len() >= connections, "{} connections", clients.len());
    for client in clients {
        assert_eq!((client.pid, &client.path), (ab.pid, &path("ab")), "{client:?}");
    }
    let mut workers = BTreeSet::new();
    let mut requested = 0;
    for server in observed.inbound(address.port()) {
        assert_eq!(server.path, path("nginx"), "{server:?}");
        // ab may connect once more than it has requests.
        let Some(logged) = logged.get(&server.connection.client) else {
            assert_eq!((server.connection.received, server.connection.sent), (0, 0));
            continue;
        };
        let recorded = Logged {
            pid: server.pid,
            received: server.connection.received,
            sent: server.connection.sent,
        };
        assert_eq!(&recorded, logged, "{server:?}");
        workers.insert(server.pid);
        requested += 1;
    }
    assert_eq!(requested, logged.len());
    assert!(workers.len() > 1 && !workers.contains(&master), "workers {workers:?} of {master}");
}

fn address(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

#[test]
fn each_request_of_ab_is_a_connection_to_a_worker_of_nginx() {
    requests_of_ab(address(SERVER, PORT), &[], 1000);
}

#[test]
fn kept_connections_of_ab_carry_many_requests() {
    requests_of_ab(address(SERVER, PORT), &["-k"], 20);
}

#[test]
fn a_socket_for_both_address_families_has_connections_of_each() {
    requests_of_ab(address(SERVER_V6, DUAL_PORT), &["-k"], 20);
    requests_of_ab(address(SERVER, DUAL_PORT), &["-k"], 20);
}
