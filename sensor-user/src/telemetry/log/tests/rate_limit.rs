//! The limit of lines per minute for each log statement.

use super::super::rate_limit::{LINES_PER_MINUTE, RateLimit};
use super::*;

/// The number of suppressed lines in a summary.
fn suppressed(line: &str) -> u64 {
    let (_, count) = line.split_once('(').unwrap();
    count.strip_suffix(" more suppressed in the last minute)").unwrap().parse().unwrap()
}

#[test]
fn a_flood_of_different_lines_from_one_statement_is_limited_and_counted() {
    let bench = Bench::limited(None, LINES_PER_MINUTE);
    let hostile = |number: u64| format!("{number}\n\u{1b}[2J {}", "x".repeat(100));
    bench.logs(|| (0..100_000).for_each(|number| sink_down(&hostile(number))));
    let lines = bench.lines();
    assert_eq!(lines.len() as u64, LINES_PER_MINUTE);
    assert!(lines[99].starts_with(r#"ERROR sink down sink="99\n"#), "{}", lines[99]);
    bench.clock.forward(59);
    bench.poll();
    assert!(bench.lines().is_empty());
    bench.clock.forward(1);
    bench.poll();
    let summary = format!("ERROR sink down ({} more suppressed in the last minute)", 100_000 - 100);
    assert_eq!(bench.lines(), [summary]);
    // The next minute has lines again.
    bench.logs(|| sink_down("after"));
    assert_eq!(bench.lines(), [r#"ERROR sink down sink="after""#]);
    let stats = Stats::default();
    (0..2).for_each(|_| bench.logger.count_dropped(&stats));
    assert_eq!(stats.log_lines_dropped_over_rate.value(), 100_000 - 100);
}

#[test]
fn a_continuing_flood_is_summarized_each_minute_and_at_the_end_without_loss() {
    let bench = Bench::limited(None, 10);
    let mut number = 0;
    for _second in 0..150 {
        bench.logs(|| {
            for _ in 0..20 {
                sink_down(&number.to_string());
                number += 1;
            }
        });
        bench.clock.forward(1);
        bench.poll();
    }
    bench.flush();
    let lines = bench.lines();
    let (summaries, emitted): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line.ends_with("in the last minute)"));
    assert_eq!((emitted.len(), summaries.len()), (30, 3));
    let suppressed: u64 = summaries.iter().map(|line| suppressed(line)).sum();
    assert_eq!(emitted.len() as u64 + suppressed, number);
}

#[test]
fn repeats_count_and_another_statement_is_not_limited() {
    let bench = Bench::limited(None, 1);
    bench.logs(|| {
        sink_down("logged");
        (0..7).for_each(|_| sink_down("suppressed"));
        tracing::warn!("another statement");
    });
    let lines = bench.lines();
    assert_eq!(lines, [r#"ERROR sink down sink="logged""#, "WARN another statement"]);
    bench.flush();
    assert_eq!(bench.lines(), ["ERROR sink down (7 more suppressed in the last minute)"]);
}

#[test]
fn a_full_table_summarizes_and_so_does_a_clock_that_is_set_back() {
    let bench = Bench::limited(None, 1);
    bench.logger.stages().rate_limit = RateLimit::new(1, 1);
    bench.logs(|| {
        for name in ["a", "b", "c"] {
            sink_down(name);
        }
        tracing::warn!("another statement");
    });
    let summary = "ERROR sink down (2 more suppressed in the last minute)";
    assert_eq!(bench.lines(), [r#"ERROR sink down sink="a""#, "WARN another statement", summary]);
    bench.logs(|| {
        sink_down("d");
        sink_down("e");
    });
    bench.clock.forward(-3600);
    bench.poll();
    let summary = "ERROR sink down (1 more suppressed in the last minute)";
    assert_eq!(bench.lines(), [r#"ERROR sink down sink="d""#, summary]);
}
