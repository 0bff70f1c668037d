//! nginx with workers under ab, with kept connections and without.

use std::collections::{BTreeSet, HashMap};

use crate::lab::{Daemon, Lab, SERVER, path};

pub(crate) const PORT: u16 = 80;

/// Configuration of an nginx that answers every request itself, and logs each to `access.log`.
const CONFIGURATION: &str = "
daemon off; master_process on; worker_processes 3; user root; error_log stderr; pid nginx.pid;
events { worker_connections 256; }
http {
  log_format truth '$remote_addr:$remote_port $pid $request_length $bytes_sent';
  access_log access.log truth;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp;
  scgi_temp_path tmp;
  keepalive_requests 50;
  server { listen 203.0.113.7:80 reuseport; location / { return 200 'hello world'; } }
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

/// Sums the requests of each client's address and port.
fn logged(log: &str) -> HashMap<String, Logged> {
    let mut connections: HashMap<String, Logged> = HashMap::new();
    for line in log.lines() {
        let mut words = line.split(' ');
        let logged = connections.entry(words.next().unwrap().to_owned()).or_default();
        let mut number = || -> u64 { words.next().unwrap().parse().unwrap() };
        logged.pid = number();
        logged.received += number();
        logged.sent += number();
    }
    connections
}

fn requests_of_ab(more: &[&str], connections: usize) {
    let Some(lab) = Lab::start(&["nginx", "ab"]) else { return };
    let nginx = start(&lab);
    let url = format!("http://{SERVER}:{PORT}/");
    let ab = lab.run("ab", &[&["-q", "-n", "1000", "-c", "10"], more, &[&url]].concat());
    let master = nginx.pid();
    drop(nginx);
    let logged = logged(&std::fs::read_to_string(lab.path("access.log")).unwrap());
    let observed = lab.finish();

    let clients = observed.outbound(PORT);
    assert!(clients.len() >= connections, "{} connections", clients.len());
    for client in clients {
        assert_eq!((client.pid, &client.path), (ab.pid, &path("ab")), "{client:?}");
    }
    let mut workers = BTreeSet::new();
    let mut requested = 0;
    for server in observed.inbound(PORT) {
        assert_eq!(server.path, path("nginx"), "{server:?}");
        // ab may connect once more than it has requests.
        let Some(logged) = logged.get(&server.connection.client.to_string()) else {
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

#[test]
fn each_request_of_ab_is_a_connection_to_a_worker_of_nginx() {
    requests_of_ab(&[], 1000);
}

#[test]
fn kept_connections_of_ab_carry_many_requests() {
    requests_of_ab(&["-k"], 20);
}
