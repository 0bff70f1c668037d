//! Layers: a module imports only from layers below its own, and no files import each other in a
//! circle. [`LAYERS`] is the one list; ARCHITECTURE.md shows the same.

use std::collections::{BTreeMap, BTreeSet};

use super::architecture::check_table;
use super::imports::{Import, Modules, Path};
use super::{Finding, Source};

/// Folders of `sensor-user/src`, top to bottom. Those of one layer do not know each other.
pub(super) const LAYERS: &[&[&str]] = &[
    &["cli"],
    &["agent"],
    &["config"],
    &["telemetry"],
    &["replay", "deliver"],
    &["pipeline"],
    &["intel", "inventory"],
    &["privsep"],
    &["http"],
    &["schema"],
    &["base"],
];

/// Stages of the pipeline, in the order of the data path. Each imports only from those before it.
pub(super) const STAGES: [&str; 7] =
    ["capture", "decode", "enrich", "aggregate", "matcher", "history", "dedup"];

/// Imports against the order, circles of files, and a list in ARCHITECTURE.md that differs.
pub(super) fn findings(sources: &[Source], architecture: Option<&str>) -> Vec<Finding> {
    let imports = Modules::read(sources).imports();
    let mut found: Vec<Finding> = imports.iter().filter_map(breach).collect();
    found.extend(circles(&imports));
    let layers: Vec<String> = LAYERS.iter().map(|layer| layer.join(",")).collect();
    found.extend(check_table(architecture.unwrap_or_default(), "layer", &layers));
    found
}

fn layer(path: &Path) -> Option<usize> {
    let folder = path.first()?;
    LAYERS.iter().position(|layer| layer.contains(&folder.as_str()))
}

fn stage(path: &Path) -> Option<usize> {
    let [pipeline, stage, ..] = path.as_slice() else { return None };
    STAGES.iter().position(|name| pipeline == "pipeline" && name == stage)
}

fn breach(import: &Import) -> Option<Finding> {
    let Import { from, to, file, line } = import;
    let finding = |what: String| Some(Finding::new(file, *line, what));
    let Some(own) = layer(from) else {
        return (!from.is_empty())
            .then(|| Finding::new(file, 1, "in no layer; add its folder to LAYERS in xtask"));
    };
    let below = layer(to)?;
    if below < own || (below == own && from.first() != to.first()) {
        return finding(format!(
            "{} imports from {}, which is not below it; move what both need down",
            from.first().map_or("", String::as_str),
            to.join("::")
        ));
    }
    match (stage(from), stage(to)) {
        (Some(own), Some(other)) if other > own => finding(format!(
            "stage {} imports from the later stage {}; move what both need to the earlier one",
            STAGES.get(own).unwrap_or(&""),
            to.join("::")
        )),
        // The pipeline's own files call the stages, and not the other way round.
        (Some(own), None) if to.first() == from.first() => finding(format!(
            "stage {} imports from {}, which calls the stages; pass it as a parameter",
            STAGES.get(own).unwrap_or(&""),
            to.join("::")
        )),
        _ => None,
    }
}

/// Circles of files. A folder's `mod.rs` puts its own files together: its imports of them do not count.
fn circles(imports: &[Import]) -> Vec<Finding> {
    let mut edges: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
    for Import { from, to, .. } in imports.iter().filter(|it| !it.to.starts_with(&it.from)) {
        edges.entry(from).or_default().insert(to);
    }
    let reach: BTreeMap<&Path, BTreeSet<&Path>> =
        edges.keys().map(|from| (*from, reachable(from, &edges))).collect();
    let mut found = Vec::new();
    let mut reported = BTreeSet::new();
    for (from, all) in &reach {
        if !all.contains(from) || reported.contains(from) {
            continue;
        }
        let is_in = |other: &&&Path| reach.get(*other).is_some_and(|back| back.contains(from));
        let circle: Vec<&Path> = all.iter().filter(is_in).copied().collect();
        reported.extend(circle.iter().copied());
        let names: Vec<String> = circle.iter().map(|path| path.join("::")).collect();
        let first = imports.iter().find(|it| it.from == **from && circle.contains(&&it.to));
        let (file, line) = first.map_or(("", 1), |it| (it.file.as_str(), it.line));
        let what = format!(
            "import each other in a circle: {}; move what they share into a file of its own",
            names.join(", ")
        );
        found.push(Finding::new(file, line, what));
    }
    found
}

fn reachable<'p>(
    from: &'p Path,
    edges: &BTreeMap<&'p Path, BTreeSet<&'p Path>>,
) -> BTreeSet<&'p Path> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(path) = open.pop() {
        for next in edges.get(path).into_iter().flatten() {
            if seen.insert(*next) {
                open.push(next);
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> = files
            .iter()
            .map(|(path, text)| Source::new(&format!("sensor-user/src/{path}"), text))
            .collect();
        let rows = LAYERS.iter().map(|layer| format!("| `{}` | x |\n", layer.join("`, `")));
        let table = format!("| layer | x |\n| --- | --- |\n{}", rows.collect::<String>());
        findings(&sources, Some(&table)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_import_from_above_or_beside_is_found() {
        for (from, to, is_breach) in [
            ("base", "cli", true),
            ("replay", "deliver", true),
            ("deliver", "replay", true),
            ("cli", "base", false),
            ("deliver", "pipeline", false),
        ] {
            let text = format!("use crate::{to}::X;\n");
            let files = [(format!("{from}/mod.rs"), text), (format!("{to}/mod.rs"), String::new())];
            let files: Vec<(&str, &str)> =
                files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
            let found = found(&files);
            assert_eq!(found.len(), usize::from(is_breach), "{from} {to}: {found:?}");
        }
    }

    #[test]
    fn a_stage_imports_only_from_earlier_ones() {
        let files = [
            ("pipeline/mod.rs", ""),
            ("pipeline/decode.rs", "use super::enrich::X;\n"),
            ("pipeline/enrich.rs", "use super::Y;\n"),
            ("pipeline/dedup.rs", "use super::decode::Z;\n"),
        ];
        let found = found(&files);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("stage decode imports from the later stage"), "{found:?}");
        assert!(found[1].contains("stage enrich imports from pipeline"), "{found:?}");
    }

    #[test]
    fn a_circle_is_found_once_and_a_folder_may_name_its_files() {
        let files = [
            ("base/mod.rs", "pub mod a;\npub use a::A;\n"),
            ("base/a.rs", "use super::b::B;\nuse super::Own;\n"),
            ("base/b.rs", "use super::c::C;\n"),
            ("base/c.rs", "use crate::base::a::A;\n"),
        ];
        let found = found(&files);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("circle: base::a, base::b, base::c;"), "{found:?}");
    }

    #[test]
    fn a_folder_in_no_layer_and_another_table_are_found() {
        let sources = [Source::new("sensor-user/src/new/x.rs", "use crate::base::X;\n")];
        let found = findings(&sources, Some("| layer |\n| --- |\n| `cli` |\n"));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].to_string().contains("in no layer"), "{found:?}");
        assert!(found[1].to_string().contains("make them agree"), "{found:?}");
    }
}
