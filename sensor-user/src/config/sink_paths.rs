//! Paths that sinks write to: each sink has its own, and none is a file of the agent or one that the
//! configuration names.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use toml::de::DeTable;

use super::model::Config;
use super::section::{Problem, Problems};
use crate::deliver::SinkKind;
use crate::intel::FeedSource;
use crate::telemetry::metrics::Listen;

/// Names in the state directory that are the agent's.
const STATE: [&str; 4] = ["agent-id", "feeds", "history", "spool"];

/// Returns a problem for each sink whose path is taken. `file` is the path of the configuration, and `text`
/// its content.
pub(super) fn check(config: &Config, file: &Path, text: &str) -> Vec<Problem> {
    let mut problems = Problems::new(text);
    let spans = spans(text);
    let agent = agent_paths(config, file);
    let mut sinks: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for sink in &config.sinks {
        let (path, written) = match &sink.kind {
            SinkKind::File(file) => (&file.path, resolved(&file.path)),
            SinkKind::Parquet(parquet) => (&parquet.folder, resolved(&parquet.folder)),
            _ => continue,
        };
        // Devices and pipes can be shared.
        if std::fs::metadata(path).is_ok_and(|it| !it.is_file() && !it.is_dir()) {
            continue;
        }
        let shown = path.display();
        let problem = match (agent.iter().find(|it| it.takes(&written)), sinks.get(&written)) {
            (Some(taken), _) => Some(format!("{shown} is {}; use another path", taken.what)),
            (None, Some(other)) => {
                Some(format!("{shown} is the path of sink {other:?}; use another path"))
            }
            (None, None) => None,
        };
        if let Some(problem) = problem {
            let span = spans.get(&sink.name).cloned().unwrap_or_default();
            problems.add(&span, format!("sink.path: {problem}"));
        }
        sinks.entry(written).or_insert(&sink.name);
    }
    problems.into_list()
}

/// Where the key `path` of each sink is, by the sink's name.
fn spans(text: &str) -> BTreeMap<String, Range<usize>> {
    let Ok(table) = DeTable::parse(text) else { return BTreeMap::new() };
    let sinks = table.get_ref().get("sink").and_then(|sinks| sinks.get_ref().as_array());
    let tables = sinks.into_iter().flatten().filter_map(|sink| sink.get_ref().as_table());
    let named = tables.filter_map(|table| {
        let name = table.get("name")?.get_ref().as_str()?;
        Some((name.to_owned(), table.get_key_value("path")?.0.span()))
    });
    named.collect()
}

/// A path that a sink must not write to.
struct TakenPath {
    path: PathBuf,
    what: &'static str,
    /// True for a directory, with all that is in it.
    is_tree: bool,
}

impl TakenPath {
    fn takes(&self, path: &Path) -> bool {
        *path == self.path || (self.is_tree && path.starts_with(&self.path))
    }
}

fn agent_paths(config: &Config, file: &Path) -> Vec<TakenPath> {
    let one = |path: &Path, what| TakenPath { path: resolved(path), what, is_tree: false };
    let socket = config.agent.control_socket();
    let mut lock = socket.clone().into_os_string();
    lock.push(".lock");
    let mut taken = vec![
        one(file, "the configuration file"),
        one(&socket, "the control socket"),
        one(Path::new(&lock), "the lock of the control socket"),
    ];
    let state = STATE.iter().map(|name| config.agent.state_dir.join(name));
    taken.extend(state.map(|path| TakenPath {
        path: resolved(&path),
        what: "part of the agent's state",
        is_tree: true,
    }));
    if let Some(Listen::Unix(path)) = config.metrics.as_ref().map(|metrics| &metrics.listen) {
        taken.push(one(path, "the socket of the metrics"));
    }
    taken.extend(config.geoip.iter().map(|path| one(path, "the database of geoip.path")));
    taken.extend(config.allow.files.iter().map(|path| TakenPath {
        path: resolved(path),
        what: "in allow.files",
        is_tree: true,
    }));
    let feeds = config.feeds.iter().filter_map(|feed| match &feed.source {
        FeedSource::File(path) => Some(one(path, "the file of a feed")),
        _ => None,
    });
    taken.extend(feeds);
    taken
}

/// The path without `.`, `..` and links, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_error| path.to_owned());
    if let Ok(real) = std::fs::canonicalize(&path) {
        return real;
    }
    match (path.parent(), path.components().next_back()) {
        (Some(parent), Some(Component::Normal(name))) => resolved(parent).join(name),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::environment::Environment;

    #[test]
    fn a_path_is_refused_if_it_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display().to_string();
        let file = folder.path().join("netsensor.toml");
        std::fs::write(folder.path().join("list.txt"), "").unwrap();
        std::os::unix::fs::symlink(folder.path().join("list.txt"), folder.path().join("link"))
            .unwrap();
        let problems = |sinks: &str| {
            let text = format!(
                "[agent]\nstate_dir = \"{root}/state\"\n[allow]\nfiles = [\"{root}/allow\"]\n[[feed]]\n\
                 name = \"f\"\nkind = \"list\"\nurl = \"file:list.txt\"\n{}",
                sinks.replace("ROOT", &root)
            );
            match Config::parse(&text, &file, &Environment::default()) {
                Ok(_) => String::new(),
                Err(error) => error.to_string().replace(&root, "ROOT"),
            }
        };
        let sink = |name: &str, path: &str| {
            format!("[[sink]]\nname = \"{name}\"\nkind = \"file\"\npath = \"{path}\"\n")
        };
        for (path, what) in [
            ("ROOT/netsensor.toml", "the configuration file"),
            ("ROOT/./netsensor.toml", "the configuration file"),
            ("ROOT/state/spool/alerts.jsonl", "part of the agent's state"),
            ("ROOT/state/agent-id", "part of the agent's state"),
            ("ROOT/state/netsensor.sock", "the control socket"),
            ("ROOT/state/netsensor.sock.lock", "the lock of the control socket"),
            ("ROOT/list.txt", "the file of a feed"),
            ("ROOT/link", "the file of a feed"),
            ("ROOT/allow/a.json", "in allow.files"),
        ] {
            let found = problems(&sink("a", path));
            let expected =
                format!("ROOT/netsensor.toml:12: sink.path: {path} is {what}; use another path");
            assert_eq!(found, expected);
        }
        let two = sink("a", "ROOT/x.jsonl") + &sink("b", "ROOT/./x.jsonl");
        assert_eq!(
            problems(&two),
            "ROOT/netsensor.toml:16: sink.path: ROOT/./x.jsonl is the path of sink \"a\"; use another path"
        );
        for path in
            ["ROOT/alerts.jsonl", "ROOT/state/alerts.jsonl", "ROOT/state/spool2", "/dev/null"]
        {
            assert_eq!(problems(&sink("a", path)), "", "{path}");
        }
        assert_eq!(problems(&(sink("a", "/dev/null") + &sink("b", "/dev/null"))), "");
    }
}
