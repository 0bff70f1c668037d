//! Login of an http sink, and reload of a replaced secret.

use std::path::Path;

use sensor_tests::{Collector, RecordedRequest, ScriptedResponse, captured_logs};
use sensor_user::deliver::{HttpConfig, SinkConfig, SinkKind};
use sensor_user::http::{HeaderText, Login, Proxy, Secret};

use crate::{sink, start, wait_until};

/// A sink with the token from `file`.
fn with_token(name: &str, collector: &Collector, file: &Path) -> SinkConfig {
    let mut http = HttpConfig::new(collector.url().parse().unwrap());
    http.server.compress = true;
    http.server.access.login = Login::Token {
        header: "Authorization".to_owned(),
        scheme: "Bearer".to_owned(),
        token: Secret::File(file.to_owned()),
    };
    let site = ("X-Site".to_owned(), HeaderText::Plain("oslo".to_owned()));
    http.server.access.headers = vec![site];
    sink(name, SinkKind::Http(http))
}

#[test]
fn a_replaced_secret_applies_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "old-hunter2\n").unwrap();
    let collector =
        Collector::start(|_, request: &RecordedRequest| match request.header("authorization") {
            "Bearer new" => ScriptedResponse::OK,
            _ => ScriptedResponse::Status(401, vec![], "who are you".to_owned()),
        });
    let running = start(with_token("rotated", &collector, &file));
    running.alerts(&["a0"]);
    collector.wait_for_requests(2);
    std::fs::write(&file, "new\n").unwrap();
    assert_eq!(collector.wait_for_accepted(1), ["a0"]);
    let request = collector.requests().pop().unwrap();
    assert_eq!(request.header("x-site"), "oslo");
    assert_eq!(request.header("content-encoding"), "gzip");
    let (value, left) = running.drain();
    assert_eq!((value("alerts_delivered"), value("alerts_discarded_rejected")), (1, 0));
    assert_eq!(left, []);
    let log = captured_logs("sink=\"rotated\"").join("\n");
    let hint = "status 401: who are you; check user, password, token and certificate";
    assert!(log.contains(hint) && !log.contains("hunter2"), "{log}");
}

#[test]
fn an_unreadable_secret_delays_the_sink() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let collector = Collector::start(|_, _: &RecordedRequest| ScriptedResponse::OK);
    let running = start(with_token("unreadable", &collector, &file));
    running.alerts(&["a0"]);
    wait_until("tried", || running.value("deliveries_retried") > 1);
    std::fs::write(&file, "token\n").unwrap();
    assert_eq!(collector.wait_for_accepted(1), ["a0"]);
    assert_eq!(collector.requests().len(), 1);
    let log = captured_logs("sink=\"unreadable\"").join("\n");
    assert!(log.contains("token: cannot be read by the agent's user"), "{log}");
    drop(running.drain());
}

#[test]
fn a_proxy_receives_its_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "pw\n").unwrap();
    let proxy = Collector::start(|_, _: &RecordedRequest| ScriptedResponse::OK);
    let mut http = HttpConfig::new("http://upstream.example/alerts?key=hunter2".parse().unwrap());
    http.server.access.proxy = Proxy::Url {
        url: format!("http://{}/", proxy.address()).parse().unwrap(),
        login: Some(("user".to_owned(), Secret::File(file))),
    };
    let running = start(sink("proxied", SinkKind::Http(http)));
    running.alerts(&["a0"]);
    assert_eq!(proxy.wait_for_accepted(1), ["a0"]);
    let request = proxy.requests().remove(0);
    assert_eq!((request.header("host"), request.path.as_str()), ("upstream.example", "/alerts"));
    assert_eq!(request.header("proxy-authorization"), "Basic dXNlcjpwdw==");
    drop(running.drain());
}

#[test]
fn the_query_of_a_url_is_not_logged() {
    let collector = Collector::start(|_, _: &RecordedRequest| ScriptedResponse::status(500));
    let url = format!("{}?key=hunter2", collector.url());
    let http = HttpConfig::new(url.parse().unwrap());
    let running = start(sink("queried", SinkKind::Http(http)));
    running.alerts(&["a0"]);
    assert_eq!(collector.wait_for_requests(2)[0].query, "key=hunter2");
    let log = captured_logs("sink=\"queried\"").join("\n");
    assert!(log.contains("/alerts: status 500") && !log.contains("hunter2"), "{log}");
    drop(running.drain());
}
