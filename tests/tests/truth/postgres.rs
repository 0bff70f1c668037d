//! `PostgreSQL` behind pgbouncer.

use std::collections::BTreeMap;
use std::process::Command;

use sensor_tests::run;

use crate::lab::{Daemon, Lab, SERVER, path};

const PORT: u16 = 5432;
const BOUNCER_PORT: u16 = 6432;
const CLIENTS: usize = 6;

/// Neither program runs as root.
const AS_POSTGRES: [&str; 5] = ["--reuid", "postgres", "--regid", "postgres", "--clear-groups"];

const BOUNCER: &str = "
[databases]
* = host=203.0.113.7 port=5432 user=postgres
[pgbouncer]
listen_addr = 203.0.113.7
listen_port = 6432
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
log_connections = 1
";

fn start_postgres(lab: &Lab) -> Daemon {
    std::fs::create_dir(lab.path("data")).unwrap();
    run(Command::new("chown").arg("postgres").arg(lab.path("data")));
    let initdb = path("initdb");
    let words = ["--pgdata", "data", "--auth", "trust", "--no-sync", "--locale", "C"];
    lab.run("setpriv", &[&AS_POSTGRES[..], &[&initdb], &words].concat());
    lab.write("data/pg_hba.conf", "host all all 0.0.0.0/0 trust\n");
    let listen = format!("--listen_addresses={SERVER}");
    let words = ["-D", "data", &listen, "--unix_socket_directories=", "--fsync=off"];
    let log = ["--log_connections=on", "--log_line_prefix=%p "];
    let postgres = path("postgres");
    let words = [&AS_POSTGRES[..], &[&postgres], &words, &log].concat();
    lab.listening("setpriv", &words, &format!("{SERVER}:{PORT}"))
}

/// Process id of the server process of each client's port, from the log.
fn backends(log: &str) -> BTreeMap<u16, u64> {
    let received = log.lines().filter(|line| line.contains("connection received: host="));
    let port = |line: &str| line.rsplit('=').next().unwrap().parse().unwrap();
    received.map(|line| (port(line), line.split(' ').next().unwrap().parse().unwrap())).collect()
}

#[test]
fn a_pool_and_its_clients_are_connections_of_their_own() {
    let programs = ["initdb", "postgres", "pgbouncer", "pgbench", "setpriv"];
    let Some(lab) = Lab::start(&programs) else { return };
    let postgres = start_postgres(&lab);
    lab.write("pgbouncer.ini", BOUNCER);
    let pgbouncer = path("pgbouncer");
    let words = [&AS_POSTGRES[..], &[&pgbouncer, "pgbouncer.ini"]].concat();
    let bouncer = lab.listening("setpriv", &words, &format!("{SERVER}:{BOUNCER_PORT}"));
    lab.write("script.sql", "select repeat('x', 1000), pg_backend_pid();\n");
    let (port, clients) = (BOUNCER_PORT.to_string(), CLIENTS.to_string());
    let connect = ["-h", SERVER, "-p", &port, "-U", "postgres", "-n", "-f", "script.sql"];
    let load = ["-c", &clients, "-j", "2", "-t", "50", "postgres"];
    let pgbench = lab.run("pgbench", &[&connect[..], &load].concat());
    let (postmaster, bouncer_pid) = (postgres.pid(), bouncer.pid());
    let (bouncer_log, log) = (bouncer.stop(), postgres.stop());
    let observed = lab.finish();

    let clients = observed.outbound(BOUNCER_PORT);
    assert_eq!(bouncer_log.matches("login attempt").count(), clients.len(), "{bouncer_log}");
    assert!(clients.len() >= CLIENTS, "{clients:?}");
    for end in clients {
        assert_eq!((end.pid, &end.path), (pgbench.pid, &path("pgbench")), "{end:?}");
    }
    let pool = observed.outbound(PORT);
    for end in observed.inbound(BOUNCER_PORT).iter().chain(&pool) {
        assert_eq!((end.pid, &end.path), (bouncer_pid, &path("pgbouncer")), "{end:?}");
    }
    assert_eq!(bouncer_log.matches("new connection to server (from").count(), pool.len());
    let backends = backends(&log);
    let servers = observed.inbound(PORT);
    assert_eq!(backends.len(), servers.len(), "{log}");
    for end in servers {
        assert_eq!(end.path, path("postgres"), "{end:?}");
        let backend = backends[&end.connection.client.port()];
        let owner = if end.attribution == "accept" { postmaster } else { backend };
        assert_eq!(end.pid, owner, "{end:?}");
    }
}
