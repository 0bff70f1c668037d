//! Comparison with the reference matcher: a flow matches the sufficient parts of a pattern if and
//! only if the pattern matches the flow, for patterns without deviations from STIX.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use fastrand::Rng;
use sensor_tests::{python_with, skip_unless};
use sensor_user::intel::{SufficientPrefix, host, read_pattern};
use serde_json::json;

use super::generate::{self, Flow, Leniency};
use super::patterns;

const PATTERNS: usize = 1000;
const FLOWS: usize = 4;
const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/oracles/stix_match.py");

/// The matcher's result for each flow of each pattern; `None` if it refuses the pattern.
fn run_matcher(
    python: &std::path::Path,
    queries: &[(&str, [Flow; FLOWS])],
) -> Vec<[Option<bool>; FLOWS]> {
    let lines: String = queries
        .iter()
        .map(|(pattern, flows)| json!({ "pattern": pattern, "flows": flows }).to_string() + "\n")
        .collect();
    let mut child = Command::new(python)
        .arg(ORACLE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{ORACLE}: {}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn matches(sufficient: &[SufficientPrefix], flow: &Flow) -> bool {
    sufficient.iter().any(|it| {
        it.prefix.contains(&host(flow.remote)) && it.ports.allow(flow.remote_port, flow.local_port)
    })
}

#[test]
fn pattern_matches_agree_with_the_reference_matcher() {
    let Some(python) = python_with("stix2matcher") else {
        assert!(skip_unless(false, "no Python with stix2-matcher; cargo xtask test installs it"));
        return;
    };
    let mut rng = Rng::with_seed(7);
    let patterns = patterns(PATTERNS);
    let flows: Vec<[Flow; FLOWS]> =
        patterns.iter().map(|it| [(); FLOWS].map(|()| generate::flow(&mut rng, it))).collect();
    let of = |text: fn(&generate::Pattern) -> &str| {
        let queries: Vec<_> = patterns.iter().map(text).zip(flows.iter().copied()).collect();
        run_matcher(&python, &queries)
    };
    let (strict, lenient) = (of(|it| &it.strict), of(|it| &it.lenient));
    assert_eq!((strict.len(), lenient.len()), (PATTERNS, PATTERNS));

    let (mut matched, mut unnamed) = (0, 0);
    let mut differences: BTreeMap<Option<Leniency>, u32> = BTreeMap::new();
    for (index, pattern) in patterns.iter().enumerate() {
        let own = read_pattern(&pattern.lenient).unwrap().sufficient;
        assert_eq!(
            own.len(),
            read_pattern(&pattern.strict).unwrap().sufficient.len(),
            "{pattern:?}"
        );
        for (flow, expected) in flows[index].iter().zip(strict[index]) {
            let is_match = matches(&own, flow);
            let expected = expected.unwrap_or_else(|| panic!("not STIX: {pattern:?}"));
            matched += u32::from(is_match);
            if pattern.is_weak && expected && !is_match {
                unnamed += 1;
            } else {
                assert_eq!(is_match, expected, "{pattern:?} {flow:?} {own:?}");
            }
        }
        let differs = flows[index].iter().zip(lenient[index]).any(|(flow, expected)| {
            let is_unnamed = pattern.is_weak && expected == Some(true);
            expected != Some(matches(&own, flow)) && !is_unnamed
        });
        if differs {
            let mut leniencies = pattern.leniencies.iter().copied();
            let first = leniencies.next();
            assert!(first.is_some(), "{pattern:?}");
            // With several deviations, the cause is unknown.
            let only = first.filter(|_| leniencies.next().is_none());
            *differences.entry(only).or_default() += 1;
        }
    }
    assert_eq!((matched, unnamed), (665, 59));
    let several = None;
    assert_eq!(
        differences.into_iter().collect::<Vec<_>>(),
        [
            (several, 74),
            (Some(Leniency::NetworkByEquals), 19),
            (Some(Leniency::QuotedPort), 1),
            (Some(Leniency::TwoTypes), 2),
            (Some(Leniency::KeywordCase), 2),
            (Some(Leniency::DoubleQuotes), 9),
            (Some(Leniency::LongAddress), 12),
            (Some(Leniency::Protocol), 2),
        ]
    );
}
