//! Batches that a collector does not accept.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use sensor_tests::{Collector, RecordedRequest, ScriptedResponse, captured_logs};
use sensor_user::base::stable_id::stable_id;
use sensor_user::deliver::{HttpConfig, SinkConfig, SinkKind};
use tokio::time::Instant;

use super::{file, first, http, start, wait_until};

#[test]
fn temporary_errors_are_retried_with_the_same_idempotency_key() {
    let refusals = [408, 429, 500, 502, 503, 504].map(ScriptedResponse::status);
    let mut script = refusals.to_vec();
    script.push(ScriptedResponse::Reset);
    let attempts = script.len() + 1;
    let collector = Collector::start(first(script));
    let running = start(&[http("again", &collector, 10)]);
    running.alerts(&["a0"]);
    let requests = collector.wait_for_requests(attempts);
    for request in &requests {
        assert_eq!(request.body, requests[0].body);
        assert_eq!(request.header("idempotency-key"), stable_id(&["a0"]));
    }
    running.alerts(&["a1"]);
    assert_eq!(collector.wait_for_accepted(2), ["a0", "a1"]);
    let (value, left) = running.drain();
    assert_eq!(value("deliveries_retried"), attempts as u64 - 1);
    assert_eq!((value("alerts_delivered"), value("alerts_discarded_rejected")), (2, 0));
    assert_eq!(left, []);
    let lines = captured_logs("sink=\"again\"");
    assert_eq!(lines.len(), 1, "one line in 10 s: {lines:?}");
    assert!(lines[0].contains("status 408"), "{lines:?}");
}

#[test]
fn a_collector_that_starts_late_receives_all_alerts() {
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let sink = SinkConfig {
        kind: SinkKind::Http(HttpConfig::new(format!("http://{address}/").parse().unwrap())),
        ..file("absent", Path::new("/"))
    };
    let running = start(&[sink]);
    running.alerts(&["a0", "a1", "a2"]);
    wait_until("a retry", || running.stats.deliveries_retried.value() > 1);
    let collector = Collector::start_at(address, first(vec![]));
    assert_eq!(collector.wait_for_accepted(3), ["a0", "a1", "a2"]);
    let line = captured_logs("sink=\"absent\"").remove(0);
    assert!(line.contains(&format!("post http://{address}/: ")), "{line}");
    assert!(line.contains("Connection refused"), "{line}");
    drop(running.drain());
}

#[test]
fn a_request_without_a_response_in_time_is_retried() {
    let collector =
        Collector::start(
            |number, _request: &RecordedRequest| {
                if number == 0 { ScriptedResponse::Stall } else { ScriptedResponse::OK }
            },
        );
    let mut sink = http("timeout", &collector, 10);
    if let SinkKind::Http(http) = &mut sink.kind {
        http.server.timeout = Duration::from_millis(300);
    }
    let running = start(&[sink]);
    running.alerts(&["a0"]);
    let requests = collector.wait_for_requests(2);
    assert!(requests[1].at - requests[0].at >= Duration::from_millis(250));
    assert_eq!(requests[1].body, requests[0].body);
    let (value, left) = running.drain();
    assert_eq!((value("alerts_delivered"), left.len()), (1, 0));
}

#[test]
fn retry_after_is_honoured_as_seconds_and_as_a_date() {
    for value in ["1", "Tue, 24 Nov 2026 10:00:01 GMT"] {
        let collector = Collector::start(first(vec![ScriptedResponse::retry_after(429, value)]));
        let running = start(&[http("after", &collector, 10)]);
        running.alerts(&["a0"]);
        let requests = collector.wait_for_requests(2);
        let waited = requests[1].at - requests[0].at;
        assert!(waited >= Duration::from_secs(1), "{value}: {waited:?}");
        assert!(waited < Duration::from_secs(3), "{value}: {waited:?}");
        drop(running.drain());
    }
}

#[test]
fn errors_that_need_the_operator_are_retried_until_resolved() {
    for status in [301, 401, 403, 404, 410] {
        let name = format!("gone-{status}");
        let text = "no \u{1b}[31msuch\nplace".to_owned();
        let refusal = || ScriptedResponse::Status(status, vec![], text.clone());
        let collector = Collector::start(first(vec![refusal(), refusal()]));
        let running = start(&[http(&name, &collector, 2)]);
        running.alerts(&["a0", "a1", "a2"]);
        assert_eq!(collector.wait_for_accepted(3), ["a0", "a1", "a2"]);
        let (value, left) = running.drain();
        assert_eq!((value("alerts_delivered"), value("alerts_discarded_rejected")), (3, 0));
        assert_eq!((value("deliveries_retried"), left.len()), (2, 0));
        let lines = captured_logs(&format!("sink={name:?}"));
        let error = format!("status {status}: no \\u{{1b}}[31msuch\\nplace");
        assert!(lines.len() == 1 && lines[0].contains(&error), "{lines:?}");
    }
}

#[test]
fn a_web_page_with_status_200_is_accepted_only_if_configured() {
    let page = || "\n<!DOCTYPE html><title>Log in</title>".to_owned();
    for accept in [false, true] {
        let name = format!("web-page-{accept}");
        let collector =
            Collector::start(first(vec![ScriptedResponse::Status(200, vec![], page())]));
        let mut sink = http(&name, &collector, 10);
        if let SinkKind::Http(http) = &mut sink.kind {
            http.accept_web_page = accept;
        }
        let running = start(&[sink]);
        running.alerts(&["a0"]);
        wait_until("the delivery", || running.stats.alerts_delivered.value() == 1);
        let (value, left) = running.drain();
        assert_eq!((value("deliveries_retried"), left), (u64::from(!accept), vec![]));
        assert_eq!(collector.requests().len(), if accept { 1 } else { 2 });
        let lines = captured_logs(&format!("sink={name:?}"));
        let reason = "status 200 with a web page is no acceptance; check url";
        assert_eq!(lines.iter().any(|line| line.contains(reason)), !accept, "{lines:?}");
    }
}

#[test]
fn a_refused_alert_does_not_lose_the_rest_of_its_batch() {
    for status in [400, 422] {
        let collector = Collector::start(move |number, request: &RecordedRequest| match number {
            0 => ScriptedResponse::Stall,
            _ if request.body.contains("\"poison\"") => ScriptedResponse::status(status),
            _ => ScriptedResponse::OK,
        });
        let running = start(&[http("poison", &collector, 100)]);
        running.alerts(&["a0"]);
        collector.wait_for_requests(1);
        running.alerts(&["a1", "a2", "poison", "a4", "a5"]);
        collector.release();
        assert_eq!(collector.wait_for_accepted(5), ["a0", "a1", "a2", "a4", "a5"]);
        let (value, left) = running.drain();
        assert_eq!((value("alerts_delivered"), value("alerts_discarded_rejected")), (5, 1));
        assert_eq!(left, []);
    }
}

#[test]
fn refused_rows_are_discarded_and_large_batches_are_split() {
    let collector = Collector::start(|_, request: &RecordedRequest| match request.ids().len() {
        3.. => ScriptedResponse::status(413),
        _ if request.body.contains("\"r0\"") => ScriptedResponse::status(400),
        _ => ScriptedResponse::OK,
    });
    let running = start(&[http("halves", &collector, 8)]);
    running.rows(&["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7"]);
    assert_eq!(collector.wait_for_accepted(6), ["r2", "r3", "r4", "r5", "r6", "r7"]);
    let (value, left) = running.drain();
    assert_eq!((value("rows_delivered"), value("rows_discarded_rejected")), (6, 2));
    assert_eq!(left, []);
}

#[test]
fn redirects_are_not_followed() {
    let other = Collector::start(first(vec![]));
    let location = vec![("location", other.url())];
    let responses = vec![307, 308, 302]
        .into_iter()
        .map(|status| ScriptedResponse::Status(status, location.clone(), String::new()))
        .collect();
    let collector = Collector::start(first(responses));
    let running = start(&[http("redirect", &collector, 1)]);
    running.alerts(&["a0", "a1", "a2", "a3"]);
    assert_eq!(collector.wait_for_accepted(4), ["a0", "a1", "a2", "a3"]);
    let (value, _) = running.drain();
    assert_eq!((value("deliveries_retried"), value("alerts_discarded_rejected")), (3, 0));
    assert_eq!(other.requests().len(), 0);
}

#[test]
fn an_endless_response_is_read_up_to_a_limit() {
    let collector = Collector::start(first(vec![
        ScriptedResponse::EndlessBody(404),
        ScriptedResponse::EndlessBody(200),
    ]));
    let running = start(&[http("endless", &collector, 1)]);
    let put = Instant::now();
    running.alerts(&["a0", "a1", "a2"]);
    assert_eq!(collector.wait_for_accepted(3), ["a0", "a1", "a2"]);
    assert!(put.elapsed() < Duration::from_secs(3), "{:?}", put.elapsed());
    let lines = captured_logs("sink=\"endless\"");
    assert!(lines.len() == 1 && lines[0].len() < 600, "{lines:?}");
    drop(running.drain());
}
