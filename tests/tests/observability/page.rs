//! The metrics page, its formats and access control.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use nix::sys::signal::Signal;
use sensor_tests::Agent;
use sensor_user::base::counters::Stats;

use crate::harness::{
    Home, free_port, hit, page_at, page_of, skipped, skipped_without, tool, value, wait_for,
};

#[test]
fn promtool_accepts_the_page_and_it_has_every_counter() {
    if skipped() || skipped_without("promtool") {
        return;
    }
    let home = Home::new("unix:HOME/metrics.sock", "");
    let socket = home.path("metrics.sock");
    let agent = home.run();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    hit();
    let alerts = "netsensor_alerts_raised_total";
    let page = wait_for("an alert, and the spool", || {
        let page = page_of(&socket);
        // The spool status is read once a second.
        let spool_up = value(&page, "netsensor_spool_up").is_some();
        (spool_up && value(&page, alerts) == Some(1.0)).then_some(page)
    });
    let (passed, output) = tool("promtool", &["check", "metrics"], &page);
    assert!(passed && output.is_empty(), "{output}");
    assert_eq!(value(&page, "netsensor_indicators{prefix=\"host\"}"), Some(1.0));
    assert_eq!(value(&page, "netsensor_feed_indicators{feed=\"test\",kind=\"list\"}"), Some(1.0));
    let rejected = "netsensor_feed_rejected_entries{feed=\"test\",reason=\"not an address\"}";
    assert_eq!(value(&page, rejected), Some(1.0));
    assert_eq!(value(&page, "netsensor_spool_up"), Some(1.0));
    assert_eq!(value(&page, "netsensor_table_entries{table=\"dedup_windows\"}"), Some(1.0));
    let resident = value(&page, "process_resident_memory_bytes").unwrap();
    assert!((1e7..1e9).contains(&resident), "{resident}");
    assert!(value(&page, "process_cpu_seconds_total").unwrap() > 0.0);
    for worker in ["launcher", "supervisor", "socket-scan", "nat", "proc"] {
        let resident = format!("netsensor_worker_resident_memory_bytes{{worker=\"{worker}\"}}");
        let resident = value(&page, &resident).unwrap();
        assert!((1e5..1e8).contains(&resident), "{worker}: {resident}");
        let cpu = format!("netsensor_worker_cpu_seconds_total{{worker=\"{worker}\"}}");
        assert!(value(&page, &cpu).unwrap() < 60.0, "{worker}");
    }
    wait_for("the alert's delay", || {
        let page = page_of(&socket);
        let count = value(&page, "netsensor_sink_alert_latency_seconds_count{sink=\"stdout\"}")?;
        let sum = value(&page, "netsensor_sink_alert_latency_seconds_sum{sink=\"stdout\"}")?;
        (count > 0.5 && count < 1.5 && sum > 0.0 && sum < 60.0).then_some(())
    });
    // The ledger balances when no record is in flight, and the canary has been detected.
    wait_for("the ledger balances", || {
        let page = page_of(&socket);
        let seen = value(&page, "netsensor_canary_last_seen_timestamp_seconds").is_some();
        (seen && value(&page, "netsensor_ledger_unaccounted_records") == Some(0.0)).then_some(())
    });
    let samples = page.lines().filter(|line| !line.starts_with('#')).count();
    assert!(samples > Stats::DECLARATIONS.len(), "{samples}");
    assert!(agent.stop().status.success());
    assert!(!socket.exists(), "a socket without a listener remains");
}

#[test]
fn over_tcp_the_client_negotiates_the_format() {
    if skipped() {
        return;
    }
    let port = free_port();
    let home = Home::new(&format!("127.0.0.1:{port}"), "");
    let agent = home.run();
    let (head, body) = page_at(port, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    let type_ = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.contains(type_), "{head}");
    assert!(body.ends_with("\n# EOF\n"), "{body}");
    assert!(body.contains("# TYPE netsensor_records_received counter\n"), "{body}");
    let (head, body) = page_at(port, "*/*");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("# TYPE netsensor_records_received_total counter\n"), "{body}");
    assert!(!body.contains("# EOF"), "{body}");
    // Another agent cannot have the address.
    let second = Home::new(&format!("127.0.0.1:{port}"), "");
    let ended = Agent::spawn(second.command(&["run"])).wait(Duration::from_secs(30));
    let log: Vec<String> = ended.stderr.into_iter().map(|line| line.text).collect();
    let log = log.join("\n");
    assert_eq!(ended.status.code(), Some(1), "{log}");
    assert!(log.contains(&format!("metrics.listen: listen on 127.0.0.1:{port}")), "{log}");
    assert!(agent.stop().status.success());
}

#[test]
fn a_socket_has_the_configured_group_and_is_taken_over_from_a_killed_agent() {
    if skipped() {
        return;
    }
    let home = Home::new("unix:HOME/metrics.sock", "group = \"daemon\"\n");
    let socket = home.path("metrics.sock");
    // Another process listens there.
    let other = UnixListener::bind(&socket).unwrap();
    let ended = Agent::spawn(home.command(&["run"])).wait(Duration::from_secs(30));
    let log: Vec<String> = ended.stderr.into_iter().map(|line| line.text).collect();
    assert!(log.join("\n").contains("is in use by another process"), "{log:?}");
    drop(other);
    // Its listener has gone; the socket file remains, like that of a killed agent.
    assert!(socket.exists());
    let agent = home.run();
    agent.signal(Signal::SIGKILL);
    agent.wait(Duration::from_secs(10));
    let agent = home.run();
    let metadata = std::fs::metadata(&socket).unwrap();
    let group = nix::unistd::Group::from_name("daemon").unwrap().unwrap();
    assert_eq!(
        (metadata.permissions().mode() & 0o777, metadata.gid()),
        (0o660, group.gid.as_raw())
    );
    page_of(&socket);
    assert!(agent.stop().status.success());
}
