//! Invalid input: each error is reported with its location and counted, and nothing else is lost.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use sensor_user::base::progress::Progress;
use sensor_user::replay::{AtOptions, ReplayError, RowChecks, at};
use serde_json::json;

use super::{Files, ago, connection, connection_to, indicator, lines, now, run_rule};

const LINE_MAX: usize = sensor_user::base::lines::LINE_MAX;

#[test]
fn malformed_rows_are_reported_and_the_rest_is_used() {
    let files = Files::new();
    let indicators = files.write("ti.json", lines(&[indicator(json!({}))]));
    let good = |minutes: i64| connection(json!({ "TimeGenerated": ago(minutes) })).to_string();
    let no_time = connection(json!({ "TimeGenerated": "yesterday" })).to_string();
    let no_remote = connection(json!({ "RemoteIp": null })).to_string();
    let whole = good(8);
    let cut = whole.split_at(40).0;
    let one = [
        &good(10),
        "not json",
        "",
        &no_time,
        &no_remote,
        &connection(json!({ "RemoteIp": "bad.example" })).to_string(),
        "   ",
        &good(9),
        cut,
    ];
    let two = [&good(30), "[]", "null", &format!("{} x", good(5)), &good(7)];
    let one = files.write("one.json", one.join("\n"));
    let two = files.write("two.json", two.join("\r\n"));
    let output = run_rule(&files, &[&indicators], &[&one, &two]);
    let locations: Vec<&str> =
        output.rejects.lines().map(|line| line.split_once(": ").unwrap().0).collect();
    assert_eq!(
        locations,
        [
            "one.json:2",
            "one.json:4",
            "one.json:5",
            "one.json:6",
            "one.json:9",
            "two.json:2",
            "two.json:3",
            "two.json:4",
        ]
    );
    let reason = |number: usize| output.rejects.lines().nth(number).unwrap();
    assert_eq!(reason(0), "one.json:2: not a JSON object");
    assert_eq!(
        reason(1),
        "one.json:4: TimeGenerated: \"yesterday\" is not a time such as 2026-11-24T10:00:00Z"
    );
    assert_eq!(reason(2), "one.json:5: RemoteIp: missing");
    assert_eq!(reason(3), "one.json:6: RemoteIp: \"bad.example\" is not an address");
    assert!(reason(4).starts_with("one.json:9: EOF while parsing"), "{}", reason(4));
    assert_eq!(output.summary.rows, 12);
    assert_eq!(output.summary.rows_rejected, 8);
    assert_eq!(output.summary.rows_in_window, 4);
    assert_eq!(output.alerts.len(), 1);
    assert_eq!(output.alerts[0].connection_count, 4);
    assert_eq!(output.alerts[0].timestamp.to_string(), ago(7));
}

#[test]
fn invalid_utf8_and_endless_lines_lose_only_themselves() {
    let files = Files::new();
    let indicators = files.write("ti.json", lines(&[indicator(json!({}))]));
    let good = connection(json!({})).to_string().into_bytes();
    let padded = |length: usize| {
        let mut line = br#"{"x":""#.to_vec();
        line.resize(length, b'y');
        line
    };
    let mut text = b"\xef\xbb\xbf".to_vec();
    for line in [
        good.as_slice(),
        b"{\"TimeGenerated\":\"\xff\"}",
        &padded(LINE_MAX + 1),
        &good,
        &padded(LINE_MAX * 5),
        b"\0\0\0",
        &good,
    ] {
        text.extend(line);
        text.push(b'\n');
    }
    let rows = files.write("rows.json", text);
    let output = run_rule(&files, &[&indicators], &[&rows]);
    let too_long = "line too long; at most 1048576 bytes";
    assert_eq!(
        output.rejects,
        format!(
            "rows.json:2: not UTF-8 at byte 19\nrows.json:3: {too_long}\n\
             rows.json:5: {too_long}\nrows.json:6: not a JSON object\n"
        )
    );
    assert_eq!((output.summary.rows, output.summary.rows_rejected), (7, 4));
    assert_eq!(output.alerts[0].connection_count, 3);
}

#[test]
fn a_wrong_type_costs_its_column_only() {
    let files = Files::new();
    let indicators = files.write("ti.json", lines(&[indicator(json!({}))]));
    let port = |remote: &str, port: i64| {
        let mut row = connection_to(remote);
        row["DestinationPort"] = port.into();
        row
    };
    let rows = [port("203.0.113.5", 65536), port("203.0.113.9", 65536), port("203.0.113.5", 0)];
    let rows = files.write("rows.json", lines(&rows));
    let output = run_rule(&files, &[&indicators], &[&rows]);
    assert_eq!(
        output.rejects,
        "rows.json:1: DestinationPort: \"65536\" is not an integer in range, and not used; the row is\n"
    );
    assert_eq!((output.summary.rows_rejected, output.summary.rows_in_window), (0, 3));
    assert_eq!(output.alerts[0].destination_port, Some(0));
    assert_eq!(output.alerts[0].connection_count, 2);
}

/// As `az monitor log-analytics query`, csvkit and Miller write rows.
#[test]
fn rows_of_other_tools_are_read() {
    let files = Files::new();
    let text = serde_json::to_string_pretty(&[
        indicator(json!({ "ConfidenceScore": "None", "NetworkSourceIP": "None" })),
        indicator(json!({ "IndicatorId": "z", "NetworkIP": "203.0.113.6", "IsDeleted": "None" })),
    ]);
    let indicators = files.write("ti.json", text.unwrap());
    let rows = serde_json::to_string_pretty(&[
        connection(json!({ "LinksEstablished": true, "LinksFailed": false, "ProcessName": 17 })),
        connection(json!({ "RemoteIp": "203.0.113.6", "BytesSent": "None", "Computer": "None" })),
        connection(json!({ "RemoteIp": "None" })),
    ]);
    let rows = files.write("rows.json", format!("\u{feff}{}", rows.unwrap()));
    let output = run_rule(&files, &[&indicators], &[&rows]);
    assert_eq!(output.rejects, "rows.json:3: RemoteIp: missing\n");
    assert_eq!((output.summary.indicators, output.alerts.len()), (2, 2));
    assert_eq!(output.alerts[0].process_name, "17");
    assert_eq!((output.alerts[1].bytes_sent, output.alerts[1].computer.as_str()), (0, ""));
}

#[test]
fn a_file_of_another_format_has_a_hint() {
    let files = Files::new();
    let indicators = files.write("ti.json", lines(&[indicator(json!({}))]));
    let csv = "TimeGenerated,RemoteIp\n2026-11-24T10:00:00Z,203.0.113.5\n";
    let rows = files.write("rows.csv", csv);
    let output = run_rule(&files, &[&indicators], &[&rows]);
    assert!(output.rejects.starts_with("rows.csv:1: rows are JSON lines; convert CSV with: mlr"));
    assert_eq!((output.summary.rows, output.summary.rows_rejected), (2, 2));
}

#[test]
fn a_reply_of_the_api_has_the_command_that_converts_it() {
    let files = Files::new();
    let indicators = files.write("ti.json", lines(&[indicator(json!({}))]));
    let reply = files.write("reply.json", "{\n\"tables\":[{\"columns\":[],\"rows\":[]}]}");
    for (connections, feeds) in [(&reply, &indicators), (&indicators, &reply)] {
        let options = AtOptions {
            connections: vec![connections.clone()],
            indicators: vec![feeds.clone()],
            at: now(),
            lookback: SignedDuration::from_hours(1),
            indicator_lookback: SignedDuration::from_hours(1),
            checks: RowChecks::Hits,
            progress: Progress::hidden(),
        };
        let (mut out, mut rejects) = (Vec::new(), Vec::new());
        let Err(ReplayError::Read { path, source }) = at::run(&options, &mut out, &mut rejects)
        else {
            panic!("{connections:?}")
        };
        assert_eq!(path, reply);
        assert!(source.to_string().contains("jq -c '.tables[]"), "{source}");
    }
}

#[test]
fn only_the_first_hundred_rejects_are_written_and_escaped() {
    let files = Files::new();
    let indicators = files.write("ti.json", lines(&[indicator(json!({}))]));
    let bad = connection(json!({ "RemoteIp": "\u{1b}[2J\u{202e}\n" }));
    let mut rows = vec![bad; 250];
    rows.push(connection(json!({})));
    let rows = files.write("rows.json", lines(&rows));
    let output = run_rule(&files, &[&indicators], &[&rows]);
    let written: Vec<&str> = output.rejects.lines().collect();
    assert_eq!(written.len(), 101);
    assert_eq!(written[99], r#"rows.json:100: RemoteIp: "\u{1b}[2J\u{202e}\n" is not an address"#);
    assert_eq!(written[100], "150 more malformed rows: counted, not listed");
    assert_eq!(output.summary.rows_rejected, 250);
    assert_eq!(output.alerts.len(), 1);
}

#[test]
fn malformed_indicators_are_reported_and_the_rest_is_used() {
    let files = Files::new();
    let rows = [
        indicator(json!({})).to_string(),
        "{\"IndicatorId\":".to_owned(),
        indicator(json!({ "IndicatorId": "b", "NetworkIP": "bad.example" })).to_string(),
        indicator(json!({ "IndicatorId": "c", "Active": false })).to_string(),
    ];
    let rows = files.write("ti.json", rows.join("\n"));
    let list = files.write("list.txt", "203.0.113.6\nbad.example # here\n10.0.0.1\n");
    let connections = ["203.0.113.5", "203.0.113.6"].map(connection_to);
    let connections = files.write("rows.json", lines(&connections));
    let output = run_rule(&files, &[&rows, &list], &[&connections]);
    let locations: Vec<&str> =
        output.rejects.lines().map(|line| line.split_once(": ").unwrap().0).collect();
    assert_eq!(locations, ["ti.json:2", "ti.json:3", "list.txt:2"]);
    assert!(output.rejects.ends_with("list.txt:2: not an address: \"bad.example\"\n"));
    assert_eq!((output.summary.indicators, output.summary.indicators_rejected), (2, 3));
    let ids: Vec<&str> = output.alerts.iter().map(|it| it.indicator_id.as_str()).collect();
    assert_eq!(ids, ["indicator-1", "list.txt:203.0.113.6/32"]);
}

fn options(indicators: &[&Path], connections: &[&Path]) -> AtOptions {
    let owned = |paths: &[&Path]| paths.iter().map(|path| path.to_path_buf()).collect();
    AtOptions {
        connections: owned(connections),
        indicators: owned(indicators),
        at: now(),
        lookback: SignedDuration::from_hours(1),
        indicator_lookback: SignedDuration::from_hours(14 * 24),
        checks: RowChecks::Hits,
        progress: Progress::hidden(),
    }
}

#[test]
fn an_unreadable_file_is_named() {
    let files = Files::new();
    let good = files.write("good.json", "");
    let absent: PathBuf = files.0.path().join("absent.json");
    let folder = files.0.path();
    for (indicators, connections, named) in [
        (absent.as_path(), good.as_path(), absent.as_path()),
        (&good, &absent, &absent),
        (&good, folder, folder),
    ] {
        let options = options(&[indicators], &[connections]);
        let error = at::run(&options, &mut io::sink(), &mut io::sink()).unwrap_err();
        assert_eq!(error.to_string(), format!("read {}", named.display()));
        assert!(std::error::Error::source(&error).is_some());
    }
}

#[test]
fn a_file_name_is_escaped() {
    let options = options(&[Path::new("absent\u{1b}[2J")], &[]);
    let error = at::run(&options, &mut io::sink(), &mut io::sink()).unwrap_err();
    assert_eq!(error.to_string(), r"read absent\u{1b}[2J");
}

#[test]
fn standard_input_is_accepted_only_once() {
    let stdin = Path::new("-");
    let options = options(&[stdin], &[stdin]);
    let error = at::run(&options, &mut io::sink(), &mut io::sink()).unwrap_err();
    assert_eq!(error.to_string(), "-: named 2 times; standard input can be read once");
}

/// A writer that accepts nothing.
struct Full;

impl Write for Full {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn failed_writes_are_errors() {
    let files = Files::new();
    let indicators = files.write("ti.json", lines(&[indicator(json!({}))]));
    let rows = files.write("rows.json", lines(&[connection(json!({}))]));
    let error = at::run(&options(&[&indicators], &[&rows]), &mut Full, &mut io::sink());
    assert!(matches!(error, Err(ReplayError::WriteAlerts(_))), "{error:?}");
    let bad = files.write("bad.json", "bad\n");
    let error = at::run(&options(&[&indicators], &[&bad]), &mut io::sink(), &mut Full);
    assert!(matches!(error, Err(ReplayError::WriteRejects(_))), "{error:?}");
}
