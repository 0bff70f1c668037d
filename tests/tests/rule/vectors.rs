//! The known properties of the published rules, numbered, and netsensor's behaviour for each. Where
//! it differs from the rule, the test's comment marks it, and docs/rule.md gives the reason.
//! Vectors 11, 21, 22, 28, 29 and 35 are about later or earlier versions of the rule
//! (`ThreatIntelIndicators`, or the liveness filter at another position): they test the same
//! situation with rows of `ThreatIntelligenceIndicator`.

use sensor_user::pipeline::matcher::Via;
use serde_json::json;

use super::{ago, alerts, alerts_on, connection, connection_to, indicator, over};

/// Differs: the rule never alerts on IPv6. Link-local addresses stay excluded.
#[test]
fn vector_01_ipv6_alerts_and_mapped_is_ipv4() {
    assert!(alerts_on(json!({ "NetworkIP": "2001:db8::1" }), connection_to("2001:db8::1")));
    assert!(!alerts_on(json!({ "NetworkIP": "FE80::1" }), connection_to("fe80::1")));
    assert!(alerts_on(json!({ "NetworkIP": "::ffff:1.2.3.4" }), connection_to("1.2.3.4")));
    let found =
        alerts(&[indicator(json!({ "NetworkIP": "1.2.3.4" }))], &[connection_to("::ffff:1.2.3.4")]);
    assert_eq!(found[0].remote_ip, "1.2.3.4");
}

/// Differs: to the rule a network is a text that equals no address.
#[test]
fn vector_02_a_network_alerts_on_each_of_its_addresses() {
    let network = indicator(json!({ "NetworkIP": "203.0.113.0/24" }));
    let rows = ["203.0.113.0", "203.0.113.255", "203.0.112.255"].map(connection_to);
    let found = alerts(&[network], &rows);
    let remotes: Vec<&str> = found.iter().map(|alert| alert.remote_ip.as_str()).collect();
    assert_eq!(remotes, ["203.0.113.0", "203.0.113.255"]);
    assert_eq!(found[0].ti_ip_entity, "203.0.113.0/24");
}

/// Differs, like vector 2.
#[test]
fn vector_03_a_network_of_one_address_alerts() {
    assert!(alerts_on(json!({ "NetworkIP": "203.0.113.5/32" }), connection(json!({}))));
}

#[test]
fn vector_04_private_addresses_are_dropped() {
    for (entity, remote, expected) in [
        ("10.1.2.3", "10.1.2.3", false),
        ("192.168.1.1/24", "192.168.1.1", false),
        ("172.31.0.1", "172.31.0.1", false),
        ("172.32.0.1", "172.32.0.1", true),
    ] {
        let found = alerts_on(json!({ "NetworkIP": entity }), connection_to(remote));
        assert_eq!(found, expected, "{entity}");
    }
}

#[test]
fn vector_05_loopback_is_dropped() {
    assert!(!alerts_on(json!({ "NetworkIP": "127.0.0.1" }), connection_to("127.0.0.1")));
}

/// Differs: the rule keeps all of these, as documented; netsensor only the last.
#[test]
fn vector_06_special_addresses_are_dropped() {
    for (address, expected) in [
        ("169.254.1.1", false),
        ("100.64.0.1", false),
        ("0.0.0.0", false),
        ("224.0.0.1", false),
        ("255.255.255.255", false),
        ("192.0.2.1", true),
    ] {
        let found = alerts_on(json!({ "NetworkIP": address }), connection_to(address));
        assert_eq!(found, expected, "{address}");
    }
}

#[test]
fn vector_07_garbage_shadows_a_good_address() {
    for garbage in ["garbage", "bad.example.com", " ", "203.0.113.5:443"] {
        let columns = json!({ "NetworkIP": garbage, "NetworkDestinationIP": "203.0.113.5" });
        assert!(!alerts_on(columns, connection(json!({}))), "{garbage:?}");
    }
}

#[test]
fn vector_08_the_first_address_that_is_not_empty_counts() {
    let columns = ["NetworkIP", "NetworkDestinationIP", "NetworkSourceIP", "EmailSourceIpAddress"];
    for first in 0..columns.len() {
        let mut row = json!({});
        for (number, column) in columns.iter().enumerate() {
            let address = format!("203.0.113.{}", 10 + number);
            row[column] = if number < first { "".into() } else { address.into() };
        }
        let rows = (10..14).map(|last| connection_to(&format!("203.0.113.{last}")));
        let found = alerts(&[indicator(row)], &rows.collect::<Vec<_>>());
        assert_eq!(found.len(), 1, "{first}");
        assert_eq!(found[0].ti_ip_entity, format!("203.0.113.{}", 10 + first));
        assert_eq!(found[0].remote_ip, found[0].ti_ip_entity);
    }
}

#[test]
fn vector_09_the_address_of_a_mail_is_matched_too() {
    let columns = json!({ "NetworkIP": "", "EmailSourceIpAddress": "203.0.113.5" });
    let found = alerts(&[indicator(columns)], &[connection(json!({}))]);
    assert_eq!(found[0].email_source_ip_address, "203.0.113.5");
    assert_eq!(found[0].network_ip, "");
}

#[test]
fn vector_10_no_expiry_is_not_live() {
    assert!(!alerts_on(json!({ "ExpirationDateTime": null }), connection(json!({}))));
}

/// Rule B reads `ValidUntil`; a legacy row has `ExpirationDateTime`, with several ways to omit it.
#[test]
fn vector_11_an_omitted_expiry_is_not_live() {
    assert!(!alerts_on(json!({ "ExpirationDateTime": "" }), connection(json!({}))));
    let mut row = indicator(json!({ "IsActive": true }));
    row.as_object_mut().unwrap().remove("ExpirationDateTime");
    row.as_object_mut().unwrap().remove("Active");
    assert_eq!(alerts(&[row], &[connection(json!({}))]), []);
}

#[test]
fn vector_12_without_an_active_flag_it_is_not_live() {
    assert!(!alerts_on(json!({ "Active": null }), connection(json!({}))));
    let mut row = indicator(json!({}));
    row.as_object_mut().unwrap().remove("Active");
    assert_eq!(alerts(&[row.clone()], &[connection(json!({}))]), []);
    row["IsActive"] = json!(true);
    assert_eq!(alerts(&[row], &[connection(json!({}))]).len(), 1);
}

#[test]
fn vector_13_the_expiry_time_itself_is_excluded() {
    assert!(!alerts_on(json!({ "ExpirationDateTime": ago(0) }), connection(json!({}))));
    let later = "2026-11-24T12:00:00.0000001Z";
    assert!(alerts_on(json!({ "ExpirationDateTime": later }), connection(json!({}))));

    let expiry = json!({ "ExpirationDateTime": ago(-5) });
    assert!(!alerts_on(expiry.clone(), connection(json!({ "TimeGenerated": ago(-5) }))));
    let before = connection(json!({ "TimeGenerated": "2026-11-24T12:04:59.9999999Z" }));
    assert!(alerts_on(expiry, before));
}

#[test]
fn vector_14_only_a_connection_of_the_future_can_be_after_the_expiry() {
    let future = connection(json!({ "TimeGenerated": ago(-10) }));
    assert!(!alerts_on(json!({ "ExpirationDateTime": ago(-5) }), future.clone()));
    assert!(alerts_on(json!({ "ExpirationDateTime": ago(-11) }), future));
}

#[test]
fn vector_15_a_connection_before_the_indicator_alerts() {
    let columns = json!({ "TimeGenerated": ago(1), "ValidFrom": ago(1) });
    assert!(alerts_on(columns, connection(json!({ "TimeGenerated": ago(50) }))));
}

/// Differs: the rule keeps an arbitrary one of the indicators.
#[test]
fn vector_16_all_indicators_of_an_address_alert() {
    let rows = ["b", "a", "c"].map(|id| indicator(json!({ "IndicatorId": id })));
    let found = alerts(&rows, &[connection(json!({}))]);
    let ids: Vec<&str> = found.iter().map(|alert| alert.indicator_id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
}

#[test]
fn vector_17_of_fifty_hosts_the_latest_is_reported() {
    // Each host has its own minute; the latest (59) is neither first nor last in the input.
    let minutes = (0..50).map(|host| 10 + (host * 7 + 4) % 50);
    let rows: Vec<_> = minutes
        .map(|minute| {
            let computer = format!("web{minute}.example.com");
            connection(json!({ "TimeGenerated": ago(60 - minute), "Computer": computer }))
        })
        .collect();
    let found = alerts(&[indicator(json!({}))], &rows);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].computer, "web59.example.com");
    assert_eq!(found[0].vm_connection_time_generated.to_string(), ago(1));
    assert_eq!(
        (found[0].first_seen.to_string(), found[0].last_seen.to_string()),
        (ago(50), ago(1))
    );
    assert_eq!((found[0].connection_count, found[0].bytes_sent), (50, 5000));
}

/// Defined here: the rule returns an arbitrary row.
#[test]
fn vector_18_of_equal_times_the_later_row_is_reported() {
    let rows = ["web1", "web2", "web3"].map(|it| connection(json!({ "Computer": it })));
    assert_eq!(alerts(&[indicator(json!({}))], &rows)[0].computer, "web3");
}

#[test]
fn vector_19_an_inactive_newest_row_decides() {
    let newest = indicator(json!({ "TimeGenerated": ago(60), "Active": false }));
    assert_eq!(alerts(&[newest, indicator(json!({}))], &[connection(json!({}))]), []);
}

#[test]
fn vector_20_an_older_row_outlives_one_that_lost_its_address() {
    for lost in ["", "10.0.0.1"] {
        let newest = indicator(json!({ "TimeGenerated": ago(60), "NetworkIP": lost }));
        let found = alerts(&[indicator(json!({})), newest], &[connection(json!({}))]);
        assert_eq!(found.len(), 1, "{lost:?}");
        assert_eq!(found[0].ti_ip_entity, "203.0.113.5");
    }
}

/// Rule B groups by value too, so both stay; netsensor follows rule A: the newest row decides.
#[test]
fn vector_21_a_changed_address_replaces_the_old_one() {
    let old = indicator(json!({ "NetworkIP": "1.1.1.1" }));
    let new = indicator(json!({ "NetworkIP": "2.2.2.2", "TimeGenerated": ago(60) }));
    let found = alerts(&[new, old], &["1.1.1.1", "2.2.2.2"].map(connection_to));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].remote_ip, "2.2.2.2");
}

/// In version 1.3.2 the old expiry won; netsensor follows rule A.
#[test]
fn vector_22_a_shortened_expiry_counts() {
    let new = indicator(json!({ "ExpirationDateTime": ago(30), "TimeGenerated": ago(60) }));
    assert_eq!(alerts(&[indicator(json!({})), new], &[connection(json!({}))]), []);
}

#[test]
fn vector_23_an_indicator_not_seen_for_14_days_is_ignored() {
    let days = 14 * 24 * 60;
    assert!(alerts_on(json!({ "TimeGenerated": ago(days) }), connection(json!({}))));
    assert!(!alerts_on(json!({ "TimeGenerated": ago(days + 1) }), connection(json!({}))));
}

#[test]
fn vector_24_a_row_older_than_an_hour_is_missed() {
    assert!(alerts_on(json!({}), connection(json!({ "TimeGenerated": ago(60) }))));
    assert!(!alerts_on(json!({}), connection(json!({ "TimeGenerated": ago(61) }))));
}

#[test]
fn vector_25_inbound_alerts() {
    let row = connection(json!({
        "Direction": "inbound", "SourceIp": "203.0.113.5", "DestinationIp": "10.0.0.5",
    }));
    let found = alerts(&[indicator(json!({}))], &[row]);
    assert_eq!(found[0].direction, "inbound");
    assert_eq!(found[0].source_ip, "203.0.113.5");
}

#[test]
fn vector_26_a_failed_connection_alerts() {
    let row = connection(json!({ "LinksEstablished": 0, "LinksFailed": 3 }));
    let found = alerts(&[indicator(json!({}))], &[row]);
    assert_eq!(found[0].connection_count, 3);
}

/// Differs: addresses are compared, not texts.
#[test]
fn vector_27_letter_case_does_not_matter() {
    let columns = json!({ "NetworkIP": "2001:DB8:0::AB" });
    let found = alerts(&[indicator(columns)], &[connection_to("2001:db8::ab")]);
    assert_eq!(found[0].ti_ip_entity, "2001:DB8:0::AB");
    assert_eq!(found[0].remote_ip, "2001:db8::ab");
}

#[test]
fn an_ipv4_indicator_matches_nat64_and_6to4_addresses() {
    for (remote, via) in
        [("64:ff9b::203.0.113.5", Via::Nat64), ("2002:cb00:7105::1", Via::SixToFour)]
    {
        let found = alerts(&[indicator(json!({}))], &[connection_to(remote)]);
        let [alert] = found.as_slice() else { panic!("{remote}: {found:?}") };
        assert_eq!((alert.via, alert.matched_ip.as_str()), (via, "203.0.113.5"));
        let canonical: std::net::IpAddr = remote.parse().unwrap();
        assert_eq!(alert.remote_ip, canonical.to_string());
    }
    let direct = alerts(&[indicator(json!({}))], &[connection(json!({}))]);
    assert_eq!((direct[0].via, direct[0].matched_ip.as_str()), (Via::Direct, "203.0.113.5"));
}

/// `record` writes the addresses behind NAT; Microsoft's rows have no such column.
#[test]
fn the_address_behind_nat_matches() {
    let translated = json!({
        "LocalIp": "192.0.2.1", "LocalPort": 40000, "RemoteIp": "203.0.113.5", "RemotePort": 443,
    });
    let row = over(connection_to("10.96.0.1"), json!({ "Translated": translated }));
    let found = alerts(&[indicator(json!({}))], &[row]);
    assert_eq!((found[0].via, found[0].remote_ip.as_str()), (Via::Conntrack, "10.96.0.1"));
    let row = over(connection_to("10.96.0.1"), json!({ "Translated": null }));
    assert_eq!(alerts(&[indicator(json!({}))], &[row]), []);
}

/// Rule B can have a port instead of an address; a legacy row can too.
#[test]
fn vector_28_a_port_instead_of_an_address_never_matches() {
    let columns = json!({ "NetworkIP": "443", "NetworkDestinationPort": 443 });
    assert!(!alerts_on(columns, connection(json!({}))));
}

/// Rule B drops patterns without a key; a legacy row has no address.
#[test]
fn vector_29_an_indicator_without_an_address_is_dropped() {
    let columns = json!({ "NetworkIP": "", "Url": "http://203.0.113.5/x", "DomainName": "a.test" });
    assert!(!alerts_on(columns, connection(json!({}))));
}

fn assert_host(computer: &str, host_name: &str, dns_domain: &str) {
    let row = connection(json!({ "Computer": computer }));
    let found = alerts(&[indicator(json!({}))], &[row]);
    assert_eq!(
        (found[0].host_name.as_str(), found[0].dns_domain.as_str()),
        (host_name, dns_domain)
    );
}

#[test]
fn vector_30_a_computer_without_domain() {
    assert_host("web01", "web01", "");
}

#[test]
fn vector_31_a_computer_with_domain() {
    assert_host("web01.corp.example.com", "web01", "corp.example.com");
}

#[test]
fn vector_32_a_computer_named_by_its_address() {
    assert_host("10.0.0.4", "10", "0.0.4");
}

#[test]
fn vector_33_a_computer_without_name_or_with_a_last_dot() {
    assert_host("", "", "");
    assert_host("host.", "host", "");
}

#[test]
fn vector_34_columns_of_both_tables_are_the_indicators() {
    let row = connection(json!({ "Description": "of the row", "SourceSystem": "Insights" }));
    let found = alerts(&[indicator(json!({}))], &[row]);
    assert_eq!(found[0].r#type, "ThreatIntelligenceIndicator");
    assert_eq!(found[0].description, "command and control");
}

/// In rule B `Confidence` and `IsActive` clash; a legacy row's columns win likewise.
#[test]
fn vector_35_confidence_and_activity_are_the_indicators() {
    let row = connection(json!({
        "Confidence": "1", "ConfidenceScore": "1", "IsActive": "False", "Active": false,
    }));
    let found = alerts(&[indicator(json!({}))], &[row]);
    assert_eq!(found[0].confidence_score, Some(80.0));
}

#[test]
fn vector_36_the_time_is_the_connections() {
    let found = alerts(&[indicator(json!({}))], &[connection(json!({}))]);
    assert_eq!(found[0].vm_connection_time_generated.to_string(), ago(10));
    assert_eq!(found[0].timestamp, found[0].vm_connection_time_generated);
}
