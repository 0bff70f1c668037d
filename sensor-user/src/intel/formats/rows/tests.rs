//! Rows of both tables, alone and as versions of an id.

use super::*;
use crate::intel::indicator::Indicator;

const NOW: &str = "2026-11-24T12:00:00Z";

#[derive(Debug)]
struct ParsedIndicators {
    indicators: Vec<Indicator>,
    rejects: Rejects,
}

fn parse(text: &str) -> ParsedIndicators {
    let now = NOW.parse().unwrap();
    let lookback = SignedDuration::from_hours(24 * 14);
    let mut reader = RowReader::new("ti".into(), PrefixPolicy::default(), now, lookback);
    reader.read(text.as_bytes()).unwrap();
    let mut rejects = reader.take_rejects();
    let mut found = CollectedEntries::default();
    reader.finish(&mut found);
    let mut indicators = Vec::new();
    for FeedEntry { id, position, content, .. } in found.entries {
        match content {
            EntryContent::Indicators(of_row) => indicators.extend(of_row),
            EntryContent::Removed(reason) => rejects.add(position, reason, &id),
        }
    }
    ParsedIndicators { indicators, rejects }
}

#[test]
fn every_row_that_is_not_used_has_a_reason_and_a_line() {
    let row = |id: &str, rest: &str| {
        format!(
            "{{\"IndicatorId\":\"{id}\",\"TimeGenerated\":\"2026-11-24T00:00:00Z\",\
             \"ExpirationDateTime\":\"2026-12-24T00:00:00Z\",\"Active\":true{rest}}}\n"
        )
    };
    let text = [
        row("good", ",\"NetworkIP\":\"203.0.113.7\""),
        "not json\n".to_owned(),
        row("none", ""),
        row("bad", ",\"NetworkIP\":\"host.example\""),
        row("private", ",\"NetworkIP\":\"10.0.0.1\""),
        row("gone", ",\"NetworkIP\":\"203.0.113.8\",\"Revoked\":\"True\""),
        row("wide", ",\"NetworkCidrBlock\":\"0.0.0.0/1\""),
        row("net", ",\"NetworkIP\":null,\"NetworkCidrBlock\":\"198.51.100.9/24\""),
        "\n".to_owned(),
        row("late", ",\"NetworkIP\":\"203.0.113.9\"").replace("-24T00", "-01T00"),
        row("type", ",\"NetworkIP\":7"),
    ];
    let parsed = parse(&text.concat());
    let ids: Vec<&str> = parsed.indicators.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, ["good", "net"]);
    assert_eq!(parsed.indicators[1].prefix, "198.51.100.0/24".parse().unwrap());
    let reasons: Vec<(u64, &str)> =
        parsed.rejects.kept().iter().map(|it| (it.position, it.reason.name())).collect();
    assert_eq!(
        reasons,
        [
            (2, "malformed"),
            (3, "no address"),
            (4, "not an address"),
            (5, "private or special range"),
            (7, "prefix too short"),
            (10, "older than the lookback period"),
            (11, "not an address"),
            (6, "deleted or revoked"),
        ]
    );
}

#[test]
fn an_indicator_is_first_reported_by_its_oldest_row() {
    let row = |day: u32| {
        format!(
            "{{\"IndicatorId\":\"a\",\"TimeGenerated\":\"2026-11-{day}T00:00:00Z\",\"Active\":\
             true,\"ExpirationDateTime\":\"2026-12-24T00:00:00Z\",\"NetworkIP\":\
             \"203.0.113.7\",\"AdditionalInformation\":\"of {day}\"}}\n"
        )
    };
    for days in [[20, 18, 22], [18, 22, 20], [22, 20, 18]] {
        let parsed = parse(&days.map(row).concat());
        let [indicator] = parsed.indicators.as_slice() else { panic!("{parsed:?}") };
        assert_eq!(indicator.first_reported, "2026-11-18T00:00:00Z".parse().ok());
        assert_eq!(indicator.additional_information, "of 22");
    }
}

#[test]
fn flags_and_numbers_may_be_text() {
    let parsed = parse(
        "{\"IndicatorId\":\"a\",\"TimeGenerated\":\"2026-11-24 00:00:00.1234567\",\
         \"ExpirationDateTime\":\"2026-12-24T00:00:00+02:00\",\"IsActive\":\"True\",\
         \"NetworkIP\":\"203.0.113.7\",\"ConfidenceScore\":\"85\",\"ThreatSeverity\":\"4\"}",
    );
    let [indicator] = parsed.indicators.as_slice() else { panic!("{parsed:?}") };
    assert_eq!((indicator.confidence, indicator.threat_severity), (Some(85.0), Some(4)));
    assert_eq!(indicator.expires, "2026-12-23T22:00:00Z".parse().ok());
}

fn entries(text: &str) -> (CollectedEntries, Result<u64, ReadError>) {
    let now: Timestamp = NOW.parse().unwrap();
    let policy = ReadPolicy {
        prefixes: PrefixPolicy::default(),
        min_confidence: Some(50),
        now,
        oldest: "2026-11-10T12:00:00Z".parse().unwrap(),
    };
    let mut found = CollectedEntries::default();
    let read = read_rows(text.as_bytes(), &policy, 11, &mut found);
    (found, read)
}

fn stix_row(id: &str, day: u8, rest: &str) -> String {
    format!(
        "{{\"Id\":\"{id}\",\"TimeGenerated\":\"2026-11-{day}T00:00:00Z\",\"IsActive\":true,\
         \"Type\":\"ThreatIntelIndicators\"{rest}}}\n"
    )
}

#[test]
fn rows_of_both_tables_are_entries_each_by_its_newest_row() {
    let text = [
        stix_row("a", 20, ",\"Pattern\":\"[ipv4-addr:value = '203.0.113.1']\",\"Confidence\":90"),
        "{\"IndicatorId\":\"b\",\"TimeGenerated\":\"2026-11-20T00:00:00Z\",\"Active\":true,\
         \"ExpirationDateTime\":\"2027-01-01T00:00:00Z\",\"NetworkIP\":\"203.0.113.2\"}\n"
            .to_owned(),
        stix_row("a", 22, ",\"Pattern\":\"[ipv4-addr:value = '203.0.113.3']\",\"Confidence\":90"),
        stix_row("a", 21, ",\"Pattern\":\"[ipv4-addr:value = '203.0.113.4']\""),
        // Not usable, so it does not apply.
        stix_row("a", 23, ",\"Pattern\":\"[file:name = 'x']\""),
    ];
    let (found, read) = entries(&text.concat());
    assert_eq!(read.unwrap(), 5);
    let [a, b] = found.entries.as_slice() else { panic!("{found:?}") };
    assert_eq!((a.id.as_str(), a.position, b.id.as_str(), b.position), ("a", 13, "b", 12));
    assert_eq!(a.version, "2026-11-22T00:00:00Z".parse().ok());
    let EntryContent::Indicators(of_a) = &a.content else { panic!("{a:?}") };
    assert_eq!(of_a[0].prefix, "203.0.113.3/32".parse().unwrap());
    assert_eq!(of_a[0].first_reported, "2026-11-20T00:00:00Z".parse().ok());
    assert_eq!(of_a[0].expires, None);
    let positions: Vec<(u64, &str)> =
        found.rejects.kept().iter().map(|it| (it.position, it.reason.name())).collect();
    assert_eq!(
        positions,
        [(11, "superseded"), (14, "superseded"), (15, "no address is sufficient alone")]
    );
}

#[test]
fn columns_of_the_newer_table_map_to_those_of_the_older() {
    let data = "{\"description\":\"c2\",\"indicator_types\":[\"malicious-activity\"],\
                \"labels\":[\"x\",\"ActivityGroup:STRONTIUM\"]}";
    let rest = |data: &str| {
        format!(
            ",\"ObservableKey\":\"network-traffic:dst_ref.value\",\"ObservableValue\":\
             \"2001:db8::7\",\"Confidence\":\"80\",\"ValidFrom\":\"2026-11-01T00:00:00Z\",\
             \"ValidUntil\":\"2026-12-01T00:00:00Z\",\"IsDeleted\":false,\"Revoked\":null,\
             \"Data\":{data},\"AdditionalFields\":{{\"TLPLevel\":\"Amber\"}},\"Tags\":\"[]\",\
             \"LastUpdateMethod\":\"LogARepublisher\""
        )
    };
    let as_text = serde_json::to_string(data).unwrap();
    for data in [data, &as_text] {
        let (found, _) = entries(&stix_row("b64---indicator--1", 20, &rest(data)));
        let EntryContent::Indicators(of_row) = &found.entries[0].content else {
            panic!("{found:?}")
        };
        let it = &of_row[0];
        assert_eq!(it.id, "b64---indicator--1");
        assert_eq!(
            (it.prefix.to_string().as_str(), &*it.entity),
            ("2001:db8::7/128", "2001:db8::7")
        );
        assert_eq!((&*it.description, &*it.threat_type), ("c2", "malicious-activity"));
        assert_eq!((&*it.activity_group_names, &*it.tlp_level), ("STRONTIUM", "amber"));
        assert_eq!(it.confidence, Some(80.0));
        assert_eq!(it.valid_from, "2026-11-01T00:00:00Z".parse().ok());
        assert_eq!(it.expires, "2026-12-01T00:00:00Z".parse().ok());
        assert_eq!(it.additional_information, "");
    }
}

#[test]
fn a_newest_row_that_is_not_live_removes_its_indicator() {
    let ip = ",\"ObservableKey\":\"ipv4-addr:value\",\"ObservableValue\":\"203.0.113.1\"";
    for (rest, reason) in [
        (",\"IsDeleted\":\"true\"", RejectReason::Withdrawn),
        (",\"Revoked\":1", RejectReason::Withdrawn),
        (",\"ValidUntil\":\"2026-11-24T12:00:00Z\"", RejectReason::Expired),
        (",\"Confidence\":49", RejectReason::LowConfidence),
    ] {
        let text = [stix_row("a", 20, ip), stix_row("a", 21, &format!("{ip}{rest}"))].concat();
        let (found, _) = entries(&text);
        assert_eq!(found.entries.len(), 1);
        assert_eq!(found.entries[0].content, EntryContent::Removed(reason));
    }
    let (found, _) = entries(&stix_row("a", 20, ip).replace("true", "null"));
    assert_eq!(found.entries[0].content, EntryContent::Removed(RejectReason::NotActive));
}

#[test]
fn rows_without_a_usable_address_are_rejected() {
    for (rest, reason) in [
        (String::new(), "no address"),
        (
            ",\"Pattern\":\"\",\"ObservableKey\":\"url:value\",\"ObservableValue\":\"x\""
                .to_owned(),
            "no address",
        ),
        (
            ",\"ObservableKey\":\"network-traffic:dst_port\",\"ObservableValue\":\"443\""
                .to_owned(),
            "not an address",
        ),
        (",\"Pattern\":\"[ipv4-addr:value =\"".to_owned(), "pattern cannot be read"),
        (",\"Pattern\":\"[ipv4-addr:value = '10.0.0.1']\"".to_owned(), "private or special range"),
        (",\"Pattern\":7".to_owned(), "pattern cannot be read"),
    ] {
        let row = stix_row("a", 20, &rest);
        let (found, _) = entries(&row);
        assert!(found.entries.is_empty(), "{row}");
        assert_eq!(found.rejects.kept()[0].reason.name(), reason, "{row}");
    }
    // Beside a usable one, each of the others has its reason.
    let mixed = "[ipv4-addr:value IN ('203.0.113.7', '10.0.0.1', '203.0.113.700')]";
    let (found, _) = entries(&stix_row("a", 20, &format!(",\"Pattern\":\"{mixed}\"")));
    assert_eq!(found.entries.len(), 1);
    let reasons: Vec<&str> = found.rejects.kept().iter().map(|it| it.reason.name()).collect();
    assert_eq!(reasons, ["private or special range", "pattern cannot be read"]);
    let (found, _) = entries(&stix_row("old", 10, ",\"Pattern\":\"x\""));
    assert_eq!(found.rejects.kept()[0].reason, RejectReason::TooOld);
}

#[test]
fn a_truncated_last_row_fails_the_whole_body() {
    let row = stix_row("a", 20, ",\"Pattern\":\"[ipv4-addr:value = '203.0.113.1']\"");
    let (_, read) = entries(&format!("{row}{}", row.trim_end().trim_end_matches('}')));
    assert!(matches!(read, Err(ReadError::Truncated(_))), "{read:?}");
    let (found, read) = entries(&format!("{row}{}", row.trim_end()));
    assert_eq!((found.entries.len(), read.unwrap()), (1, 2));
    let (found, read) = entries(&format!("not json\n{row}"));
    assert_eq!((found.entries.len(), found.rejects.malformed(), read.unwrap()), (1, 1, 2));
}

#[test]
fn a_column_of_another_type_costs_only_itself() {
    let legacy = |rest: &str| {
        format!(
            "{{\"IndicatorId\":12345,\"TimeGenerated\":\"2026-11-20T00:00:00Z\",\"Active\":\"True\",\
             \"ExpirationDateTime\":\"2026-12-24T00:00:00Z\",\"NetworkIP\":\"203.0.113.7\"{rest}}}\n"
        )
    };
    let stix = |rest: &str| {
        let address = ",\"ObservableKey\":\"ipv4-addr:value\",\"ObservableValue\":\"203.0.113.7\"";
        stix_row("12345", 20, &format!("{address}{rest}"))
    };
    for (row, column) in [
        (legacy(",\"ConfidenceScore\":\"High\""), Some("ConfidenceScore")),
        (legacy(",\"ConfidenceScore\":\"None\",\"IsDeleted\":\"None\",\"Revoked\":\"N/A\""), None),
        (legacy(",\"ThreatSeverity\":\"N/A\""), None),
        (legacy(",\"ThreatSeverity\":-1"), Some("ThreatSeverity")),
        (legacy(",\"ThreatSeverity\":[1]"), Some("ThreatSeverity")),
        (legacy(",\"Description\":17,\"Url\":{\"a\":1},\"ThreatType\":\"\\ud83d\""), None),
        (legacy(",\"IsDeleted\":\"perhaps\""), Some("IsDeleted")),
        (stix(",\"Confidence\":\"medium\""), Some("Confidence")),
        (stix(",\"ValidFrom\":\"soon\""), Some("ValidFrom")),
        (
            stix(",\"Data\":7,\"AdditionalFields\":[1],\"Tags\":{\"a\":1},\"Pattern\":\"None\""),
            None,
        ),
        (stix(",\"ValidUntil\":\"None\""), None),
    ] {
        let (found, _) = entries(&row);
        let [entry] = found.entries.as_slice() else { panic!("{row}: {found:?}") };
        assert!(matches!(entry.content, EntryContent::Indicators(_)), "{row}: {entry:?}");
        assert_eq!(entry.id, "12345", "{row}");
        let unused: Vec<&RejectReason> = found.rejects.kept().iter().map(|it| &it.reason).collect();
        let expected = column.map(|it| RejectReason::PropertyUnused(it.to_owned()));
        assert_eq!(unused, expected.iter().collect::<Vec<_>>(), "{row}");
    }
    // Without a readable expiry or time a row cannot be judged.
    for row in [
        legacy("").replace("\"2026-12-24T00:00:00Z\"", "\"soon\""),
        legacy("").replace("\"2026-11-20T00:00:00Z\"", "\"None\""),
        stix(",\"ValidUntil\":false"),
    ] {
        let (found, _) = entries(&row);
        assert_eq!((found.entries.len(), found.rejects.malformed()), (0, 1), "{row}");
    }
}

#[test]
fn rows_of_the_azure_cli_are_read_as_an_array() {
    let row = |id: &str, address: &str| {
        format!(
            "{{\n  \"IndicatorId\": \"{id}\",\n  \"TimeGenerated\": \"2026-11-20T00:00:00Z\",\n\
             \"Active\": \"True\",\n\"ExpirationDateTime\": \"2026-12-24T00:00:00Z\",\n\
             \"NetworkIP\": \"None\", \"NetworkSourceIP\": \"{address}\"\n}}"
        )
    };
    let array = format!("\u{feff}[\n{},\n{}\n]", row("a", "203.0.113.1"), row("b", "host"));
    let (found, read) = entries(&array);
    assert_eq!((found.entries.len(), found.entries[0].position, read.unwrap()), (1, 11, 2));
    assert_eq!(found.rejects.kept()[0].position, 12);
    let cut = array.trim_end().trim_end_matches(']').to_owned();
    assert!(matches!(entries(&cut).1, Err(ReadError::Truncated(_))));
    let reply = "{\n \"tables\": [{\"name\":\"PrimaryResult\",\"columns\":[],\"rows\":[]}]}";
    let error = entries(reply).1.unwrap_err().to_string();
    assert!(error.contains("convert it with: jq -c '.tables[]"), "{error}");
    let range = row("c", "192.0.2.0-192.0.2.2").replace('\n', "");
    let EntryContent::Indicators(of_row) = &entries(&range).0.entries[0].content else { panic!() };
    assert_eq!((of_row.len(), of_row[0].network_source_ip.as_str()), (2, "192.0.2.0-192.0.2.2"));
}
