//! Finds and runs the benchmarks: `benches/*.rs` and `src/bin/bench*.rs` of every workspace member.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use crate::host::{self, Workspace};

#[derive(Debug, Clone, PartialEq, Eq)]
struct Bench {
    package: String,
    name: String,
    /// True for a separate program, false for a `cargo bench` target.
    is_program: bool,
}

/// Prints the names of the benchmarks.
pub(crate) fn list(workspace: &Workspace) -> anyhow::Result<ExitCode> {
    for bench in find(workspace)? {
        println!("{} ({})", bench.name, bench.package);
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the benchmark `name`, or all benchmarks.
pub(crate) fn bench(workspace: &Workspace, name: Option<&str>) -> anyhow::Result<ExitCode> {
    let all = find(workspace)?;
    let selected: Vec<&Bench> =
        all.iter().filter(|bench| name.is_none_or(|name| bench.name == name)).collect();
    if let Some(name) = name
        && selected.is_empty()
    {
        let names: Vec<&str> = all.iter().map(|bench| bench.name.as_str()).collect();
        bail!("bench {name:?}: not found; available: {}", names.join(", "));
    }
    for Bench { package, name, is_program } in selected {
        let mut cargo = workspace.cargo();
        if *is_program {
            cargo.args(["run", "--quiet", "--release", "--package", package, "--bin", name]);
        } else {
            cargo.args(["bench", "--quiet", "--package", package, "--bench", name]);
        }
        println!("== {name}");
        host::run(&mut cargo)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn find(workspace: &Workspace) -> anyhow::Result<Vec<Bench>> {
    let mut found = Vec::new();
    for path in workspace.files()? {
        let Some((member, name, is_program)) = classify(&path) else { continue };
        let manifest = std::fs::read_to_string(workspace.path(format!("{member}/Cargo.toml")))?;
        found.push(Bench { package: package_name(&manifest), name, is_program });
    }
    Ok(found)
}

/// Returns the member directory, the benchmark name, and true if it is a program.
fn classify(path: &Path) -> Option<(String, String, bool)> {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    let (member, name, is_program) = match parts.as_slice() {
        [member, "benches", file] => (member, file.strip_suffix(".rs")?, false),
        [member, "benches", folder, "main.rs"] => (member, *folder, false),
        [member, "src", "bin", file] if file.starts_with("bench") => {
            (member, file.strip_suffix(".rs")?, true)
        }
        _ => return None,
    };
    Some(((*member).to_owned(), name.to_owned(), is_program))
}

fn package_name(manifest: &str) -> String {
    let name = manifest.lines().find_map(|line| line.strip_prefix("name = "));
    name.unwrap_or_default().trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn benchmarks_are_found_by_their_path() {
        let bench = |member: &str, name: &str, is_program| {
            Some((member.to_owned(), name.to_owned(), is_program))
        };
        for (path, expected) in [
            ("sensor-user/benches/lookup.rs", bench("sensor-user", "lookup", false)),
            ("tests/src/bin/bench-storm.rs", bench("tests", "bench-storm", true)),
            ("tests/benches/storm/main.rs", bench("tests", "storm", false)),
            ("tests/src/bin/fake.rs", None),
            ("sensor-user/benches/data/x.txt", None),
        ] {
            assert_eq!(classify(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn the_package_name_is_the_first_name_of_the_manifest() {
        assert_eq!(
            package_name("[package]\nname = \"sensor-tests\"\n[[bin]]\nname = \"x\"\n"),
            "sensor-tests"
        );
    }
}
