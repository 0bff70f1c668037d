//! Order: the table of stages in ARCHITECTURE.md and the functions of `pipeline` follow the order of
//! the data path, [`STAGES`].
//!
//! In `pipeline` each function must call the stages that it calls (as `decode::record`,
//! `self.matcher`, `enricher`) in that order.

use super::architecture::{ARCHITECTURE, check_table};
use super::layers::STAGES;
use super::{Finding, Source};

/// Where the pipeline calls the stages: up to the tables of connections, and from there on.
const PIPELINES: [&str; 2] =
    ["sensor-user/src/pipeline/ingest.rs", "sensor-user/src/pipeline/mod.rs"];
/// Stages that the pipeline calls; the others run on their own.
const CALLED: [&str; 5] = ["decode", "enrich", "aggregate", "matcher", "dedup"];

/// Calls in another order; `read` gives the text of a file, if there is one.
pub(super) fn findings(read: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let mut found = Vec::new();
    match read(ARCHITECTURE) {
        Some(text) => found.extend(check_table(&text, "stage", &STAGES.map(str::to_owned))),
        None => found.push(Finding::new(ARCHITECTURE, 1, "missing; write it")),
    }
    let sources = PIPELINES.iter().filter_map(|path| Some(Source::new(path, &read(path)?)));
    let sources: Vec<Source> = sources.collect();
    if sources.is_empty() {
        found.push(Finding::new(PIPELINES[0], 1, "missing; call the stages in it"));
    }
    found.extend(sources.iter().flat_map(check_functions));
    found.extend(check_called(&sources));
    found
}

fn check_functions(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for function in source.functions() {
        let mut last = 0;
        let mut seen = Vec::new();
        for (line, code) in (function.line..).zip(source.body(&function)) {
            for position in named(code) {
                if seen.contains(&position) {
                    continue;
                }
                if position < last {
                    let stage = STAGES.get(position).unwrap_or(&"");
                    let what = format!(
                        "{stage} comes after a later stage in {}; follow the order of the data path",
                        function.name
                    );
                    found.push(Finding::new(&source.path, line, what));
                }
                seen.push(position);
                last = last.max(position);
            }
        }
    }
    found
}

fn check_called(sources: &[Source]) -> Vec<Finding> {
    let Some(last) = sources.last() else { return Vec::new() };
    let names = |source: &Source, stage: &str| {
        source.code.iter().any(|code| begins_word(code, stage).is_some())
    };
    let absent = CALLED.iter().filter(|stage| !sources.iter().any(|source| names(source, stage)));
    let finding = |stage: &&str| {
        let what = format!("stage {stage} is not in the pipeline; call it there");
        Finding::new(&last.path, 1, what)
    };
    absent.map(finding).collect()
}

/// Positions of the stages that a line names, from left to right.
fn named(code: &str) -> Vec<usize> {
    let mut named: Vec<(usize, usize)> = (0..)
        .zip(STAGES)
        .filter_map(|(position, stage)| Some((begins_word(code, stage)?, position)))
        .collect();
    named.sort_unstable();
    named.into_iter().map(|(_, position)| position).collect()
}

/// Where a word begins that is `stage` or made of it (`enrich`, `enricher`; not `is_enrich`).
fn begins_word(code: &str, stage: &str) -> Option<usize> {
    code.match_indices(stage).map(|(at, _)| at).find(|at| {
        let before = code.get(..*at).and_then(|head| head.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(stages: &str) -> String {
        let rows: Vec<String> =
            stages.split(' ').map(|stage| format!("| `{stage}` | x |")).collect();
        format!("# A\n\n| stage | file |\n| --- | --- |\n{}\n\ntext\n", rows.join("\n"))
    }

    fn pipeline(stages: &str) -> String {
        let steps: Vec<String> =
            stages.split(' ').map(|stage| format!("    self.{stage}.go();")).collect();
        format!("fn step() {{\n{}\n}}\n", steps.join("\n"))
    }

    fn found(table: Option<&str>, pipeline: &str) -> Vec<String> {
        let read = |path: &str| match path {
            ARCHITECTURE => table.map(str::to_owned),
            "sensor-user/src/pipeline/mod.rs" => Some(pipeline.to_owned()),
            _ => None,
        };
        findings(&read).iter().map(ToString::to_string).collect()
    }

    const ALL: &str = "capture decode enrich aggregate matcher history dedup";
    const STEPS: &str = "decode enricher aggregate matcher history dedup";

    #[test]
    fn one_order_everywhere_is_no_finding() {
        assert_eq!(found(Some(&table(ALL)), &pipeline(STEPS)), [""; 0]);
    }

    #[test]
    fn a_table_in_another_order_is_found() {
        for (text, what) in [
            (
                Some(table("decode capture").as_str()),
                "ARCHITECTURE.md:3: the table's stages are decode,",
            ),
            (Some("text"), "ARCHITECTURE.md:1: no table"),
            (None, "ARCHITECTURE.md:1: missing"),
        ] {
            let found = found(text, &pipeline(STEPS));
            assert!(found.len() == 1 && found[0].starts_with(what), "{found:?}");
        }
    }

    #[test]
    fn a_pipeline_in_another_order_is_found() {
        let swapped = pipeline("decode enrich aggregate dedup matcher deliver");
        let found = found(Some(&table(ALL)), &swapped);
        assert_eq!(
            found,
            [
                "sensor-user/src/pipeline/mod.rs:6: matcher comes after a later stage in step; follow the \
              order of the data path"
            ]
        );
    }

    #[test]
    fn a_stage_that_the_pipeline_leaves_out_is_found() {
        let found = found(Some(&table(ALL)), &pipeline("decode enrich aggregate matcher"));
        assert_eq!(
            found,
            [
                "sensor-user/src/pipeline/mod.rs:1: stage dedup is not in the pipeline; call it there"
            ]
        );
    }

    #[test]
    fn a_pipeline_that_is_nowhere_is_found() {
        let read = |path: &str| match path {
            ARCHITECTURE => Some(table(ALL)),
            _ => None,
        };
        let found: Vec<String> = findings(&read).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["sensor-user/src/pipeline/ingest.rs:1: missing; call the stages in it"]);
    }

    #[test]
    fn functions_are_ordered_each_for_itself() {
        let text = format!("{}{}", pipeline("matcher dedup"), pipeline("decode enrich aggregate"));
        assert_eq!(found(Some(&table(ALL)), &text), [""; 0]);
    }
}
