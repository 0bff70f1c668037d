//! Client certificates of a sink over HTTP, against an nginx that requires one. Until the
//! certificate is right, alerts are pending, and neither refused nor lost.

use std::path::Path;

use sensor_tests::servers::Nginx;
use sensor_tests::{
    Collector, RecordedRequest, ScriptedResponse, captured_logs, certificates, skip_unless,
};
use sensor_user::deliver::{HttpConfig, SinkConfig, SinkKind};
use sensor_user::http::Certificate;

use crate::{sink, start, wait_until};

fn http(name: &str, url: &str, certificate: Option<&Path>, authority: &Path) -> SinkConfig {
    let mut http = HttpConfig::new(url.parse().unwrap());
    let access = &mut http.server.access;
    access.ca_file = Some(authority.to_owned());
    access.certificate = certificate
        .map(|folder| Certificate { chain: folder.join("chain"), key: folder.join("key") });
    sink(name, SinkKind::Http(http))
}

/// Copies the certificate `name` and its key to the sink's paths.
fn put(folder: &Path, from: &Path, name: &str) {
    std::fs::copy(from.join(format!("{name}.key")), folder.join("key")).unwrap();
    std::fs::copy(from.join(name), folder.join("chain")).unwrap();
}

#[test]
fn alerts_wait_until_the_client_certificate_is_right() {
    let collector = Collector::start(|_, _: &RecordedRequest| ScriptedResponse::OK);
    let nginx = Nginx::start(collector.address());
    if skip_unless(nginx.is_some(), "nginx is missing: run cargo xtask test") {
        return;
    }
    let nginx = nginx.unwrap();
    let (folder, stranger) = (tempfile::tempdir().unwrap(), certificates());
    put(folder.path(), stranger.path(), "client");
    let url = |scheme: &str| format!("{scheme}://127.0.0.1:{}/alerts", nginx.port());
    for (name, scheme, certificate, hint) in [
        ("bare", "https", None, "; set client_cert and client_key"),
        ("plain", "http", None, "; the server speaks TLS, use https: in url"),
        ("stranger", "https", Some(folder.path()), "; check client_cert, and when it ends"),
    ] {
        let running = start(http(name, &url(scheme), certificate, &nginx.path("ca")));
        running.alerts(&["a0"]);
        running.rows(&["r0"]);
        let log = || captured_logs(&format!("sink={name:?}")).join("\n");
        wait_until(hint, || log().contains(hint));
        wait_until("retries", || running.value("deliveries_retried") > 2);
        assert!(log().contains("status 400"), "{}", log());
        let discarded = ["alerts_discarded_rejected", "rows_discarded_rejected"];
        assert_eq!(discarded.map(|counter| running.value(counter)), [0, 0], "{name}");
        assert_eq!(running.value("alerts_delivered"), 0, "{name}");
        if certificate.is_some() {
            // The right certificate applies without a restart.
            put(folder.path(), &nginx.path(""), "client");
            let mut taken = collector.wait_for_accepted(2);
            taken.sort();
            assert_eq!(taken, ["a0", "r0"]);
            assert_eq!(collector.requests()[0].header("x-client"), "CN=client");
            assert_eq!(running.drain().1, []);
        }
    }
}

#[test]
fn a_replaced_authority_applies_at_the_next_attempt() {
    let collector = Collector::start(|_, _: &RecordedRequest| ScriptedResponse::OK);
    let nginx = Nginx::start(collector.address());
    if skip_unless(nginx.is_some(), "nginx is missing: run cargo xtask test") {
        return;
    }
    let nginx = nginx.unwrap();
    let (folder, stranger) = (tempfile::tempdir().unwrap(), certificates());
    put(folder.path(), &nginx.path(""), "client");
    let authority = folder.path().join("ca");
    std::fs::copy(stranger.path().join("ca"), &authority).unwrap();
    let url = format!("https://127.0.0.1:{}/alerts", nginx.port());
    let running = start(http("authority", &url, Some(folder.path()), &authority));
    running.alerts(&["a0"]);
    let log = || captured_logs("sink=\"authority\"").join("\n");
    wait_until("the error", || log().contains("invalid peer certificate"));
    std::fs::copy(nginx.path("ca"), &authority).unwrap();
    assert_eq!(collector.wait_for_accepted(1), ["a0"]);
    assert_eq!(running.drain().1, []);
}
