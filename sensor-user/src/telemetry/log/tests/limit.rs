//! What a place in the code may say in a minute.

use super::super::limit::{LINES_A_MINUTE, Limit};
use super::*;

/// The count at the beginning of what stands behind the message.
fn more(line: &str) -> u64 {
    let (_, behind) = line.split_once('(').unwrap();
    behind.strip_suffix(" more like it in the last minute)").unwrap().parse().unwrap()
}

#[test]
fn a_flood_of_different_lines_from_one_place_leaves_a_few_and_their_number() {
    let bench = Bench::limited(None, LINES_A_MINUTE);
    let hostile = |number: u64| format!("{number}\n\u{1b}[2J {}", "x".repeat(100));
    bench.logs(|| (0..100_000).for_each(|number| sink_down(&hostile(number))));
    let lines = bench.lines();
    assert_eq!(lines.len() as u64, LINES_A_MINUTE);
    assert!(lines[99].starts_with(r#"ERROR sink down sink="99\n"#), "{}", lines[99]);
    bench.clock.forward(59);
    bench.look();
    assert!(bench.lines().is_empty());
    bench.clock.forward(1);
    bench.look();
    let told = format!("ERROR sink down ({} more like it in the last minute)", 100_000 - 100);
    assert_eq!(bench.lines(), [told]);
    // The next minute has lines again.
    bench.logs(|| sink_down("after"));
    assert_eq!(bench.lines(), [r#"ERROR sink down sink="after""#]);
    let stats = Stats::default();
    (0..2).for_each(|_| bench.shared.count(&stats));
    assert_eq!(stats.log_lines_dropped_over_rate.value(), 100_000 - 100);
}

#[test]
fn a_flood_that_goes_on_is_told_each_minute_and_at_the_end_and_nothing_is_lost() {
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
        bench.look();
    }
    bench.flush();
    let lines = bench.lines();
    let (summaries, told): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line.ends_with("in the last minute)"));
    assert_eq!((told.len(), summaries.len()), (30, 3));
    let more: u64 = summaries.iter().map(|line| more(line)).sum();
    assert_eq!(told.len() as u64 + more, number);
}

#[test]
fn repeats_count_and_another_place_goes_on() {
    let bench = Bench::limited(None, 1);
    bench.logs(|| {
        sink_down("told");
        (0..7).for_each(|_| sink_down("not told"));
        tracing::warn!("another place");
    });
    let lines = bench.lines();
    assert_eq!(lines, [r#"ERROR sink down sink="told""#, "WARN another place"]);
    bench.flush();
    assert_eq!(bench.lines(), ["ERROR sink down (7 more like it in the last minute)"]);
}

#[test]
fn a_full_table_of_places_tells_what_was_held_back_and_so_does_a_clock_that_is_put_back() {
    let bench = Bench::limited(None, 1);
    bench.shared.state().limit = Limit::new(1, 1);
    bench.logs(|| {
        for name in ["a", "b", "c"] {
            sink_down(name);
        }
        tracing::warn!("another place");
    });
    let told = "ERROR sink down (2 more like it in the last minute)";
    assert_eq!(bench.lines(), [r#"ERROR sink down sink="a""#, "WARN another place", told]);
    bench.logs(|| {
        sink_down("d");
        sink_down("e");
    });
    bench.clock.forward(-3600);
    bench.look();
    let told = "ERROR sink down (1 more like it in the last minute)";
    assert_eq!(bench.lines(), [r#"ERROR sink down sink="d""#, told]);
}
