//! Order: the data path is told three times, and each time in the same order: the modules of
//! `sensor-user/src/lib.rs`, the table of ARCHITECTURE.md, the steps of `pipeline.rs`.
//!
//! The first is the measure. A step is marked by a comment `// Stage: <name>` and the code between
//! it and the next mark must name the stage; stages that run on their own (capture, intel) need no
//! mark.

use super::{Finding, Source};

const LIB: &str = "sensor-user/src/lib.rs";
const ARCHITECTURE: &str = "ARCHITECTURE.md";
const PIPELINE: &str = "sensor-user/src/pipeline.rs";
/// The module after the last stage.
const END: &str = "pipeline";
const MARK: &str = "// Stage: ";
/// Stages whose work is a call in the pipeline.
const CALLED: [&str; 6] = ["decode", "enrich", "aggregate", "matcher", "dedup", "deliver"];

/// Places where the order differs; `read` gives the text of a file, if there is one.
pub(super) fn findings(read: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let stages = modules(&read(LIB).unwrap_or_default());
    let mut found = Vec::new();
    match read(ARCHITECTURE) {
        Some(text) => found.extend(check_table(&stages, &text)),
        None => found.push(Finding::new(ARCHITECTURE, 1, "missing; write it")),
    }
    let pipeline = read(PIPELINE).unwrap_or_default();
    if pipeline.contains("fn ") {
        found.extend(check_pipeline(&stages, &Source::new(PIPELINE, &pipeline)));
    }
    found
}

/// Public modules up to the pipeline.
fn modules(lib: &str) -> Vec<String> {
    let names = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    names.take_while(|name| *name != END).map(str::to_owned).collect()
}

fn check_table(stages: &[String], text: &str) -> Option<Finding> {
    let header = text.lines().position(|line| line.starts_with("| stage |"));
    let Some(header) = header else {
        return Some(Finding::new(ARCHITECTURE, 1, "no table | stage | …; list the stages in it"));
    };
    let rows = text.lines().skip(header + 2).take_while(|line| line.starts_with('|'));
    let named: Vec<&str> =
        rows.filter_map(|row| Some(row.split('|').nth(1)?.trim().trim_matches('`'))).collect();
    (named != stages).then(|| {
        let what = format!(
            "the table's stages are {}, the modules of {LIB} {}; make them agree",
            named.join(", "),
            stages.join(", ")
        );
        Finding::new(ARCHITECTURE, header + 1, what)
    })
}

fn check_pipeline(stages: &[String], source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    let marks: Vec<(usize, &str)> = (1..)
        .zip(&source.lines)
        .filter_map(|(line, text)| {
            Some((line, text.trim().strip_prefix(MARK)?.trim_end_matches('.')))
        })
        .collect();
    let mut last = 0;
    for (index, (line, name)) in marks.iter().enumerate() {
        let Some(place) = stages.iter().position(|stage| stage == name) else {
            let what = format!("{name:?} is not a module of {LIB}; mark a stage");
            found.push(Finding::new(PIPELINE, *line, what));
            continue;
        };
        if place < last {
            let what = format!("{name} comes after a later stage; follow the order of {LIB}");
            found.push(Finding::new(PIPELINE, *line, what));
        }
        last = last.max(place);
        let end = marks.get(index + 1).map_or(source.code.len(), |(next, _)| next - 1);
        let code = source.code.get(*line..end).unwrap_or(&[]);
        if !code.iter().any(|code| code.contains(name)) {
            let what = format!("no {name} in the code under its mark; name what is called");
            found.push(Finding::new(PIPELINE, *line, what));
        }
    }
    for stage in CALLED.iter().filter(|stage| !marks.iter().any(|(_, name)| name == *stage)) {
        let what = format!("stage {stage} is not marked; put {MARK}{stage} above its call");
        found.push(Finding::new(PIPELINE, 1, what));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIB_TEXT: &str = "pub mod capture;\n\n// x\npub mod decode;\npub mod enrich;\n\
        pub mod aggregate;\npub mod matcher;\npub mod dedup;\npub mod deliver;\npub mod pipeline;\n\
        pub mod stats;\n";

    fn table(stages: &str) -> String {
        let rows: Vec<String> =
            stages.split(' ').map(|stage| format!("| `{stage}` | x |")).collect();
        format!("# A\n\n| stage | file |\n| --- | --- |\n{}\n\ntext\n", rows.join("\n"))
    }

    fn pipeline(stages: &str) -> String {
        let step = |stage| format!("    // Stage: {stage}\n    self.{stage}.go();\n");
        format!("fn step() {{\n{}}}\n", stages.split(' ').map(step).collect::<String>())
    }

    fn found(table: Option<&str>, pipeline: &str) -> Vec<String> {
        let read = |path: &str| match path {
            LIB => Some(LIB_TEXT.to_owned()),
            ARCHITECTURE => table.map(str::to_owned),
            _ => Some(pipeline.to_owned()),
        };
        findings(&read).iter().map(ToString::to_string).collect()
    }

    const ALL: &str = "capture decode enrich aggregate matcher dedup deliver";
    const STEPS: &str = "decode enrich aggregate matcher dedup deliver";

    #[test]
    fn one_order_everywhere_is_no_finding() {
        assert_eq!(found(Some(&table(ALL)), &pipeline(STEPS)), [""; 0]);
        assert_eq!(found(Some(&table(ALL)), "//! Not yet.\n"), [""; 0]);
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
            let found = found(text, "");
            assert!(found.len() == 1 && found[0].starts_with(what), "{found:?}");
        }
    }

    #[test]
    fn a_pipeline_in_another_order_is_found() {
        let swapped = pipeline("decode enrich aggregate dedup matcher deliver");
        for (text, what) in [
            (swapped, "pipeline.rs:10: matcher comes after a later stage"),
            (pipeline("decode enrich aggregate matcher dedup"), "stage deliver is not marked"),
            (pipeline(&format!("{STEPS} post")), "\"post\" is not a module"),
            (pipeline(STEPS).replace("self.dedup.go", "x"), "no dedup in the code under its mark"),
        ] {
            let found = found(Some(&table(ALL)), &text);
            assert!(found.len() == 1 && found[0].contains(what), "{what}: {found:?}");
        }
    }
}
