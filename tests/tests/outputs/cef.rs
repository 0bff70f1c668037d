//! CEF through the parsers of rsyslog (liblognorm), pycef and Tenzir: each reads every key and value.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use sensor_tests::servers::tenzir_binary;
use sensor_tests::{python_with, skip_unless};
use sensor_user::pipeline::dedup::Alert;
use serde_json::Value;

use super::{items, written_cef};

/// Output of `command` with `input` on its standard input.
fn output(command: &mut Command, input: &str) -> String {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Text of the member `name`, whether the parser keeps numbers as text or not.
fn text(object: &Value, name: &str) -> String {
    match &object[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Asserts that `parsed` has the values of each alert. `unescapes` is true for a parser that removes
/// the escapes of values.
fn assert_alerts(parsed: &[Value], alerts: &[Alert], unescapes: bool) {
    assert_eq!(parsed.len(), alerts.len());
    let by_id: BTreeMap<String, &Value> =
        parsed.iter().map(|extension| (text(extension, "externalId"), extension)).collect();
    for alert in alerts {
        let Some(extension) = by_id.get(&alert.alert_id) else { panic!("{by_id:?}") };
        let port = alert.source_port.map(|port| port.to_string()).unwrap_or_default();
        let mut pairs = vec![
            ("proto", alert.protocol.to_ascii_uppercase()),
            ("spt", port),
            ("cnt", alert.connection_count.to_string()),
            ("reason", alert.threat_type.clone()),
        ];
        if unescapes {
            pairs.push(("msg", alert.description.clone()));
            pairs.push(("request", alert.url.clone()));
        }
        for (key, value) in pairs {
            assert_eq!(text(extension, key), value, "{key} of {extension}");
        }
    }
}

#[test]
fn liblognorm_reads_every_key() {
    let program = Path::new("/usr/bin/lognormalizer");
    if skip_unless(program.is_file(), "lognormalizer is missing: run cargo xtask test") {
        return;
    }
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), "version=2\nrule=:%event:cef%\n").unwrap();
    let arguments = ["-e", "json", "-r"];
    let lines = output(
        Command::new(program).args(arguments).arg(rules.path()),
        &written_cef(items::alerts()),
    );
    let extensions: Vec<Value> = json_lines(&lines)
        .into_iter()
        .map(|line| line.pointer("/event/Extensions").unwrap_or_else(|| panic!("{line}")).clone())
        .collect();
    assert_alerts(&extensions, &items::alerts(), true);
}

#[test]
fn pycef_reads_every_key() {
    let python = python_with("pycef");
    if skip_unless(python.is_some(), "no Python with the package pycef") {
        return;
    }
    let program = "import json, pycef, sys\n\
                   for line in sys.stdin: print(json.dumps(pycef.parse(line.rstrip('\\n'))))";
    let lines =
        output(Command::new(python.unwrap()).args(["-c", program]), &written_cef(items::alerts()));
    // pycef 1.11 keeps the escapes, and names a custom field by its label.
    let parsed = json_lines(&lines);
    assert_alerts(&parsed, &items::alerts(), false);
    let id = &items::alerts()[0].community_id;
    assert_eq!(text(&parsed[0], "CommunityId").replace("\\=", "="), *id);
}

#[test]
fn tenzir_reads_every_key_of_values_without_a_bar() {
    let program = tenzir_binary();
    if skip_unless(program.is_some(), "tenzir is missing: run cargo xtask test") {
        return;
    }
    let alerts: Vec<Alert> = items::alerts()
        .into_iter()
        .map(|alert| Alert { description: alert.description.replace('|', "/"), ..alert })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cef");
    std::fs::write(&path, written_cef(alerts.clone())).unwrap();
    let pipeline = format!("from_file \"{}\" {{ read_cef }}\nwrite_ndjson", path.display());
    let lines = output(Command::new(program.unwrap()).arg(pipeline).env("HOME", folder.path()), "");
    let extensions: Vec<Value> =
        json_lines(&lines).into_iter().map(|mut line| line["extension"].take()).collect();
    assert_alerts(&extensions, &alerts, true);
}
