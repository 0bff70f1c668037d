//! What is served, and to whom.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use nix::sys::signal::Signal;
use sensor_tests::Agent;
use sensor_user::stats::Stats;

use crate::harness::{
    Home, free_port, hit, page_at, page_of, skipped, skipped_without, tool, value, wait_for,
};

#[test]
fn promtool_has_nothing_to_say_and_every_counter_is_there() {
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
        // The spool is looked at once a second.
        let spool_up = value(&page, "netsensor_spool_up").is_some();
        (spool_up && value(&page, alerts) == Some(1.0)).then_some(page)
    });
    let (is_content, said) = tool("promtool", &["check", "metrics"], &page);
    assert!(is_content && said.is_empty(), "{said}");
    assert_eq!(value(&page, "netsensor_indicators{prefix=\"host\"}"), Some(1.0));
    assert_eq!(value(&page, "netsensor_feed_indicators{feed=\"test\",kind=\"list\"}"), Some(1.0));
    let rejected = "netsensor_feed_rejected_entries{feed=\"test\",reason=\"not an address\"}";
    assert_eq!(value(&page, rejected), Some(1.0));
    assert_eq!(value(&page, "netsensor_spool_up"), Some(1.0));
    assert_eq!(value(&page, "netsensor_table_entries{table=\"dedup_windows\"}"), Some(1.0));
    let resident = value(&page, "process_resident_memory_bytes").unwrap();
    assert!((1e7..1e9).contains(&resident), "{resident}");
    assert!(value(&page, "process_cpu_seconds_total").unwrap() > 0.0);
    for helper in ["launcher", "keeper", "looks", "translations", "processes"] {
        let resident = format!("netsensor_helper_resident_memory_bytes{{helper=\"{helper}\"}}");
        let resident = value(&page, &resident).unwrap();
        assert!((1e5..1e8).contains(&resident), "{helper}: {resident}");
        let cpu = format!("netsensor_helper_cpu_seconds_total{{helper=\"{helper}\"}}");
        assert!(value(&page, &cpu).unwrap() < 60.0, "{helper}");
    }
    wait_for("the alert's delay", || {
        let page = page_of(&socket);
        let count = value(&page, "netsensor_sink_alert_delay_seconds_count{sink=\"stdout\"}")?;
        let sum = value(&page, "netsensor_sink_alert_delay_seconds_sum{sink=\"stdout\"}")?;
        (count > 0.5 && count < 1.5 && sum > 0.0 && sum < 60.0).then_some(())
    });
    // The ledger closes when nothing is under way, and the canary is seen.
    wait_for("the ledger closes", || {
        let page = page_of(&socket);
        let seen = value(&page, "netsensor_canary_last_seen_timestamp_seconds").is_some();
        (seen && value(&page, "netsensor_ledger_unaccounted_records") == Some(0.0)).then_some(())
    });
    let samples = page.lines().filter(|line| !line.starts_with('#')).count();
    assert!(samples > Stats::DESCRIPTIONS.len(), "{samples}");
    assert!(agent.stop().status.success());
    assert!(!socket.exists(), "a socket that nobody answers is left");
}

#[test]
fn over_tcp_the_caller_chooses_the_format() {
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
    let said: Vec<String> = ended.stderr.into_iter().map(|line| line.text).collect();
    let said = said.join("\n");
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("metrics.listen: listen on 127.0.0.1:{port}")), "{said}");
    assert!(agent.stop().status.success());
}

#[test]
fn a_socket_is_given_to_a_group_and_taken_over_from_a_killed_agent() {
    if skipped() {
        return;
    }
    let home = Home::new("unix:HOME/metrics.sock", "group = \"daemon\"\n");
    let socket = home.path("metrics.sock");
    // Somebody answers there.
    let other = UnixListener::bind(&socket).unwrap();
    let ended = Agent::spawn(home.command(&["run"])).wait(Duration::from_secs(30));
    let said: Vec<String> = ended.stderr.into_iter().map(|line| line.text).collect();
    assert!(said.join("\n").contains("is in use by another process"), "{said:?}");
    drop(other);
    // Nobody does any more: its file stays, as that of a killed agent.
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
