//! haproxy with several threads, in front of nginx.

use std::collections::HashMap;

use crate::ends::End;
use crate::lab::{Lab, SERVER, path};
use crate::nginx;

const PORT: u16 = 8080;
const REQUESTS: usize = 300;

/// Logs for each session the client's end, the own end towards the backend, and the bytes from the client and
/// to it.
const CONFIGURATION: &str = "
global
  log stdout format raw local0
  nbthread 4
defaults
  mode MODE
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend front
  bind 203.0.113.7:8080
  log global
  log-format \"%ci:%cp %bi:%bp %U %B %pid end\"
  default_backend back
backend back
  server one 203.0.113.7:80
";

/// What a session's two sides have in haproxy's log and in the records.
struct Session<'o> {
    front: &'o End,
    back: Option<&'o End>,
    logged_received: u64,
    logged_sent: u64,
}

/// Runs ab through haproxy in a mode; `check` gets each session.
fn sessions(mode: &str, check: impl Fn(&Session<'_>)) {
    let Some(lab) = Lab::start(&["haproxy", "nginx", "ab"]) else { return };
    let nginx = nginx::start(&lab);
    lab.write("haproxy.cfg", &CONFIGURATION.replace("MODE", mode));
    let address = format!("{SERVER}:{PORT}");
    let haproxy = lab.listening("haproxy", &["-db", "-f", "haproxy.cfg"], &address);
    let url = format!("http://{address}/some/path");
    let ab = lab.run("ab", &["-q", "-n", &REQUESTS.to_string(), "-c", "8", &url]);
    let pid = haproxy.pid();
    let log = haproxy.stop();
    drop(nginx);
    let observed = lab.finish();

    let by_client = |ends: Vec<&'_ End>| -> HashMap<String, End> {
        ends.into_iter().map(|end| (end.connection.client.to_string(), end.clone())).collect()
    };
    let front = by_client(observed.inbound(PORT));
    let back = by_client(observed.outbound(nginx::PORT));
    for end in front.values().chain(back.values()) {
        assert_eq!((end.pid, &end.path), (pid, &path("haproxy")), "{end:?}");
    }
    let lines: Vec<&str> = log.lines().filter(|line| line.ends_with(" end")).collect();
    // A thread of haproxy drops its line while another one writes.
    assert!(front.len() >= REQUESTS && lines.len() > REQUESTS / 2, "{} sessions", lines.len());
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |index: usize| words[index].parse::<u64>().unwrap();
        assert_eq!(number(4), pid, "{line}");
        check(&Session {
            front: &front[words[0]],
            back: back.get(words[1]),
            logged_received: number(2),
            logged_sent: number(3),
        });
    }
    for end in observed.outbound(PORT) {
        assert_eq!((end.pid, &end.path), (ab.pid, &path("ab")), "{end:?}");
    }
    for end in observed.inbound(nginx::PORT) {
        assert_eq!(end.path, path("nginx"), "{end:?}");
    }
}

#[test]
fn a_stream_through_haproxy_has_the_bytes_of_its_log_on_both_sides() {
    sessions("tcp", |session| {
        let (front, logged) = (session.front, (session.logged_received, session.logged_sent));
        assert_eq!((front.connection.received, front.connection.sent), logged, "{front:?}");
        let Some(back) = session.back else { return assert_eq!(logged, (0, 0)) };
        assert_eq!((back.connection.sent, back.connection.received), logged, "{back:?}");
    });
}

#[test]
fn haproxy_owns_the_connections_that_requests_share() {
    // The bytes in the log are those of haproxy's own form of the messages.
    sessions("http", |session| {
        let has_no_request = session.front.connection.received == 0;
        assert_eq!(session.back.is_none(), has_no_request, "{:?}", session.front);
    });
}
